"""The reports of scrubs, as they are kept: what the last whole pass of each kind has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from proxy.engine.scrub.passes import PassPosition
from proxy.engine.walking.walk import Positions
from proxy.manifest.scrub import ScrubReport

_reports = msgspec.msgpack.Decoder(ScrubReport)


async def load_report(positions: Positions, name: str) -> ScrubReport | None:
    """Return what the last whole pass has found; None before the first has ended. `name` is the worker's."""
    kept = await positions.load_state(f"{name}-last")
    return None if kept is None else _reports.decode(kept)


async def save_report(positions: Positions, name: str, report: ScrubReport) -> None:
    await positions.save_state(f"{name}-last", msgspec.msgpack.encode(report))


def report_of(position: PassPosition, *, ended_ms: int) -> ScrubReport:
    """Return the report of a pass of comparisons."""
    compared = position.compared
    return ScrubReport(
        begun_ms=position.begun_ms,
        ended_ms=ended_ms,
        shards=compared.shards,
        requests=compared.requests,
        found=compared.found,
        unreachable=compared.unreachable,
        unlisted=compared.unlisted,
        orphans=compared.orphans,
    )


def joined(whole: ScrubReport, rest: ScrubReport) -> ScrubReport:
    """Return the report of a pass together with that of the stores which it had to leave out."""
    return replace(
        whole,
        ended_ms=rest.ended_ms,
        shards=whole.shards + rest.shards,
        requests=whole.requests + rest.requests,
        found=_sum(whole.found, rest.found),
        unreachable=_sum(whole.unreachable, rest.unreachable),
        unlisted=rest.unlisted,
        orphans=_sum(whole.orphans, rest.orphans),
    )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))
