"""What an examination found: one line for each thing that was tried."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Outcome = Literal["passed", "failed", "note"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was tried. A note does not make a store unfit; `meaning` and `remedy` are empty where there is nothing to do."""

    check: str
    outcome: Outcome
    found: str
    meaning: str = ""
    remedy: str = ""


class Timing(Struct, frozen=True, kw_only=True):
    """How long calls of one kind took, one after another, in milliseconds; and how many MiB a second, where they were large."""

    call: str
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mib_per_second: float | None = None


class Conformance(Struct, frozen=True, kw_only=True):
    """The report on one store. `left` are the names that may still be there, because they could not be removed."""

    store: str
    prefix: str
    findings: tuple[Finding, ...]
    timings: tuple[Timing, ...]
    left: tuple[str, ...]
    fit: bool


class Defect(Exception):
    """What was tried went wrong, so that the store is unfit; says what was found. What it means is the probe's to say, if not told here."""

    def __init__(self, found: str, *, meaning: str = "", remedy: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.meaning = meaning
        self.remedy = remedy


class Peculiarity(Defect):
    """What was tried went otherwise than usual, and Shardgate can live with it."""


class Untold(Peculiarity):
    """A store of this kind cannot be asked. That is neither good nor bad."""


def is_fit(findings: tuple[Finding, ...]) -> bool:
    return all(finding.outcome != "failed" for finding in findings)


def timing(call: str, seconds: list[float], *, size_bytes: int = 0) -> Timing:
    """Sum up calls of one kind, at least one; `size_bytes` moved by all of them together."""
    ordered = sorted(seconds)
    return Timing(
        call=call,
        calls=len(ordered),
        p50_ms=_percentile(ordered, 50),
        p95_ms=_percentile(ordered, 95),
        p99_ms=_percentile(ordered, 99),
        mib_per_second=round(size_bytes / 1024**2 / max(sum(ordered), 1e-9), 1) if size_bytes else None,
    )


def _percentile(ordered: list[float], percent: int) -> float:
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1000, 2)
