"""The measurement: what is compared is measured by turns, a quarter of a second each, so that a busy machine is as busy for both.

Six healthy stores are compared with one bucket used directly. Then two proxies run side by side, each over six lines of its own. One of
them meets trouble once, and stays in it while both are asked by turns. So what it takes to learn of the change is seen once, at the
beginning, and what it takes from then on is compared with a proxy that has no trouble in the same seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from bench.servers import ACCESS_KEY, SECRET_KEY
from bench.signing import Endpoint
from bench.wan.far import FarSide, far_side
from bench.wan.line import State
from bench.wan.operations import AT_ONCE, GET_4K, GET_8M, GET_64K, PUT_4K_16, PUT_8M, PUT_64K, Client, Measured, Operation
from bench.wan.side import Side, line_name, lines_of, proxy_side
from bench.workloads import MIB

DIRECT = "direct"
FAST = 125.0  # MB/s of each line, in each direction
NARROW = 20.0  # for the large object: so narrow that neither the processor nor the client binds
TROUBLES: Mapping[str, Mapping[str, State]] = {
    "slow": {"birch": "slow"},
    "dead": {"cedar": "dead"},
    "hanging": {"dogwood": "hanging"},
    "slow + dead": {"birch": "slow", "cedar": "dead"},
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    turn_seconds: float  # of one side and one operation in a round; half as much again for large objects
    warm_seconds: float
    large_bytes: int
    large_rounds: int
    healthy: Sequence[Operation]
    troubled: Sequence[Operation]

    def seconds(self, operation: Operation) -> float:
        return self.turn_seconds * (1.5 if operation.size_bytes > MIB else 1.0)


FULL = Scale(
    12, 0.25, 0.6, 256 * MIB, 3, (GET_4K, GET_64K, PUT_64K, GET_8M, PUT_8M, PUT_4K_16), (GET_64K, PUT_64K, GET_8M, PUT_8M, PUT_4K_16)
)
QUICK = Scale(4, 0.25, 0.3, 64 * MIB, 1, (GET_64K, PUT_64K, GET_8M), (GET_64K, PUT_64K))


def narrowed(scale: Scale, rounds: int | None, names: Collection[str] | None) -> Scale:
    """Return what is measured of it with so many rounds, and only these operations."""
    known = {operation.name for operation in scale.healthy}
    if unknown := set(names or ()) - known:
        raise ValueError(f"no such operation: {'; '.join(sorted(unknown))}. There are: {'; '.join(sorted(known))}")
    healthy, troubled = (tuple(one for one in some if not names or one.name in names) for some in (scale.healthy, scale.troubled))
    return replace(scale, rounds=rounds or scale.rounds, healthy=healthy, troubled=troubled)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured in one state of the lines, and beside it, by operation."""

    state: str
    measured: Mapping[str, Measured]
    beside: Mapping[str, Measured]


@dataclass(slots=True)
class Findings:
    """All that was measured. `large` is the median of the large object's seconds, by what was done with it."""

    comparisons: list[Comparison] = field(default_factory=list)
    large_bytes: int = 0
    large: dict[str, float] = field(default_factory=dict)


def measure(data: Path, scale: Scale, say: Callable[[str], None], *, states: Sequence[str] = tuple(TROUBLES)) -> Findings:
    """Measure all of it. The buckets and proxies are new for each comparison: they keep what they are given in memory."""
    findings = Findings(large_bytes=scale.large_bytes)
    with (
        far_side((*lines_of("healthy"), DIRECT), megabytes_per_second=FAST) as far,
        proxy_side(data / "healthy", far, "healthy") as healthy,
    ):
        direct = Side(Client(Endpoint("127.0.0.1", far.ports[DIRECT], ACCESS_KEY, SECRET_KEY)), far, [DIRECT])
        findings.comparisons.append(compare_sides("healthy", healthy, direct, scale.healthy, scale))
        say("healthy: done")
        far.widen(NARROW)
        rounds = [_large(healthy.client, scale.large_bytes) for _ in range(scale.large_rounds)]
        findings.large = {what: median(each[what] for each in rounds) for what in rounds[0]}
        say("large object: done")
    for state in states:
        findings.comparisons.append(_in_trouble(data / state.replace(" ", ""), state, scale))
        say(f"{state}: done")
    return findings


def _in_trouble(data: Path, state: str, scale: Scale) -> Comparison:
    lines = (*lines_of("healthy"), *lines_of("troubled"))
    with (
        far_side(lines, megabytes_per_second=FAST) as far,
        proxy_side(data / "healthy", far, "healthy") as healthy,
        proxy_side(data / "troubled", far, "troubled") as troubled,
    ):
        return compare_sides(state, troubled, healthy, scale.troubled, scale, lambda: _trouble(far, state))


def _trouble(far: FarSide, state: str) -> None:
    far.turn({line_name("troubled", store): what for store, what in TROUBLES[state].items()})


def compare_sides(
    state: str, side: Side, beside: Side, operations: Sequence[Operation], scale: Scale, change: Callable[[], None] = lambda: None
) -> Comparison:
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda one: one.prepare(operations, scale.warm_seconds), (side, beside)))
    change()
    for number in range(scale.rounds):
        for operation in operations:
            for one in (side, beside) if number % 2 else (beside, side):  # neither is always the first
                one.take_turn(operation, scale.seconds(operation))
    return Comparison(state, side.measured(), beside.measured())


def _large(client: Client, size_bytes: int) -> dict[str, float]:
    return {
        "up": client.upload(size_bytes),
        f"down, {AT_ONCE} ranges at once": client.download(size_bytes, at_once=AT_ONCE),
        "down, one stream": client.download(size_bytes, at_once=1),
    }
