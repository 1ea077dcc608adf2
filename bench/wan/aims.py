"""What distant stores may cost, at most, and whether it was met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.wan.operations import FIRST, GET_8M, GET_64K, PUT_64K, Measured

ENOUGH = 100  # requests, for a p99 to be judged: of fewer it is the longest, and one lost message decides
DIGITS = 2  # of a ratio, as it is told
OF_THE_SUM = 1.1  # a large object may take that much longer than it would at the sum of the bandwidths: it has a beginning and an end


@dataclass(frozen=True, slots=True)
class Aim:
    """At most these multiples of what was measured beside it; None: there is no aim."""

    p50: float | None = None
    p99: float | None = None


BESIDE_ONE_BUCKET = {GET_64K.name: Aim(1.3, 1.0), PUT_64K.name: Aim(1.3, 1.0), GET_8M.name: Aim(1.3)}
ONE_STORE_IN_TROUBLE = Aim(1.1, 1.5)


def aim_of(state: str, operation: str) -> Aim:
    """Return the aim of an operation, beside one bucket if all stores are healthy, and otherwise beside healthy stores."""
    if state == "healthy":
        return BESIDE_ONE_BUCKET.get(operation, Aim())
    return ONE_STORE_IN_TROUBLE if state in {"slow", "dead", "hanging"} else Aim()


@dataclass(frozen=True, slots=True)
class Ratios:
    """An operation beside the same one elsewhere. NaN if there is nothing to compare with."""

    p50: float
    p99: float
    p99_counts: bool

    def verdict(self, aim: Aim) -> Literal["met", "missed", ""]:
        """Say whether all that there is an aim for, and enough was measured of, is within it."""
        pairs = [(self.p50, aim.p50), (self.p99, aim.p99 if self.p99_counts else None)]
        held = [round(ratio, DIGITS) <= most for ratio, most in pairs if most is not None]
        if not held:
            return ""
        return "met" if all(held) else "missed"


def compare(measured: Measured, beside: Measured) -> Ratios:
    counts = min(len(measured.latencies), len(beside.latencies)) - FIRST
    return Ratios(_ratio(measured, beside, 0.5), _ratio(measured, beside, 0.99), p99_counts=counts >= ENOUGH)


def _ratio(measured: Measured, beside: Measured, share: float) -> float:
    than = beside.percentile(share)
    return measured.percentile(share) / than if than else float("nan")
