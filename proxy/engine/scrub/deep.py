"""The deep scrub: every shard is read whole, and all that it holds is opened: cells, share, label, footer.

A store that is down does not hold up the others, and is not taken for one that has lost its shards. The pass goes on without it, and
remembers from where on. When it has come to the end, it goes through the rest of that store's shards, and so on until each store was there,
or it is time for the next pass.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.placing.fleet import Fleet
from proxy.engine.scrub.findings import Finding, Report
from proxy.engine.scrub.inspector import Inspector, Look, Shard, odd_labels, room_for
from proxy.errors import BudgetExhausted, KeyUnavailable, StoreError
from proxy.manifest.records import Extent, ExtentId, Record, Segment
from proxy.manifest.scrub import ScrubReport

AT_ONCE = 4  # portions being read: of 16 MiB segments at 4+2, as many as the memory of background work holds
TOGETHER = 3 * 1024 * 1024  # bytes: the shards of an object of 1 MiB at 4+2 are read at once
SEGMENTS = 64  # in work: a task for each, or for each shard of a large one
NO_MEMORY = "(no memory for them)"


class Rounds(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a deep scrub keeps: its report so far, and for each store that was down the extent behind which its shards were not read.

    `only`: the stores that this round is for, all if there are none."""

    report: ScrubReport = ScrubReport()
    behind: Mapping[str, ExtentId] = {}
    only: tuple[str, ...] = ()


_rounds = msgspec.msgpack.Decoder(Rounds)


def decode_rounds(kept: bytes | None) -> Rounds:
    return Rounds() if kept is None else _rounds.decode(kept)


class DeepScrub:
    """Opens every shard of the extents that it is shown."""

    name = "deep"

    def __init__(
        self, inspector: Inspector, fleet: Fleet, clock: Clock, report: Report, finish: Callable[[ScrubReport], Awaitable[None]]
    ) -> None:
        self._inspector = inspector
        self._fleet = fleet
        self._clock = clock
        self._report = report
        self._finish = finish
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.begin(None)

    def begin(self, kept: bytes | None) -> None:
        rounds = decode_rounds(kept)
        self._rounds = rounds if rounds.report.begun_ms else replace(rounds, report=ScrubReport(begun_ms=self._clock.now_ms()))
        self._behind = dict(rounds.behind)
        report = rounds.report
        self._shards, self._size_bytes = report.shards, report.size_bytes
        self._found, self._unreachable = Counter(report.found), Counter(report.unreachable)
        self._requests_before = self._inspector.requests - report.requests

    @property
    def rounds(self) -> Rounds:
        """What is to be kept now."""
        return replace(self._rounds, report=self.report, behind=self._behind)

    @property
    def report(self) -> ScrubReport:
        """What was found so far."""
        return replace(
            self._rounds.report,
            shards=self._shards,
            size_bytes=self._size_bytes,
            requests=self._inspector.requests - self._requests_before,
            found=dict(self._found),
            unreachable=dict(self._unreachable),
        )

    async def see(self, extents: Sequence[Extent]) -> None:
        segments = [(extent, segment) for extent in extents for segment in extent.layout.segments]
        for start in range(0, len(segments), SEGMENTS):
            found = await asyncio.gather(*(self._inspect(*pair) for pair in segments[start : start + SEGMENTS]))
            findings = [finding for of_segment in found for finding in of_segment]
            expected = await self._inspector.still_expected(finding.shard for finding in findings)
            current = [finding for finding in findings if finding.shard.name in expected]
            self._found.update(finding.kind for finding in current)
            await self._report(current)

    def keep(self) -> bytes:
        return msgspec.msgpack.encode(self.rounds)

    async def finish(self) -> None:
        await self._finish(replace(self.report, ended_ms=self._clock.now_ms()))

    async def _inspect(self, extent: Extent, segment: Segment) -> list[Finding]:
        shards = [shard for shard in (Shard(extent, segment, index) for index in range(len(segment.stores))) if self._is_due(shard)]
        looks = await asyncio.gather(*(self._look(together) for together in _in_portions(shards)))
        by_index = {index: look for portion in looks for index, look in portion.items()}
        by_index |= odd_labels(by_index)
        return [Finding.of(shard, by_index[shard.index]) for shard in shards if shard.index in by_index and by_index[shard.index].kind]

    def _is_due(self, shard: Shard) -> bool:
        """A store that is not configured is the audit's to tell; a shard on record as missing waits for repair already."""
        only = self._rounds.only
        return shard.index not in shard.segment.missing and shard.store in self._fleet and (not only or shard.store in only)

    async def _look(self, shards: Sequence[Shard]) -> dict[int, Look]:
        async with self._gate:
            asked = [shard for shard in shards if shard.store not in self._behind]  # one that hangs would be waited for again and again
            self._unreachable.update(shard.store for shard in shards if shard.store in self._behind)
            try:
                looks = await self._inspector.open_together(asked) if asked else ()
            except BudgetExhausted:  # clients have the memory; the batch goes on, and what it had to leave out is told
                self._unreachable[NO_MEMORY] += len(asked)
                return {}
            except KeyUnavailable:
                self._unreachable[f"(key of tenant {asked[0].extent.layout.tenant_key_id})"] += len(asked)
                return {}
        return {shard.index: look for shard, answer in zip(asked, looks, strict=True) if (look := self._counted(shard, answer)) is not None}

    def _counted(self, shard: Shard, answer: Look | StoreError) -> Look | None:
        if isinstance(answer, StoreError):
            before = ExtentId(shard.extent.id - 1)
            self._behind[shard.store] = min(self._behind.get(shard.store, before), before)  # several are read at once, and end in any order
            self._unreachable[shard.store] += 1
            return None
        self._shards += 1
        self._size_bytes += answer.size_bytes
        return answer


def _in_portions(shards: Sequence[Shard]) -> Sequence[Sequence[Shard]]:
    """Return the shards of a segment as they are read: all at once if they are small, else one by one."""
    return [shards] if sum(map(room_for, shards)) <= TOGETHER else [[shard] for shard in shards]
