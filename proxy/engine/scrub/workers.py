"""The workers of scrubbing: the light one compares listings, the deep one opens every shard. Each spreads a pass over its days."""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.placing.fleet import Fleet
from proxy.engine.scrub.deep import DeepScrub, Rounds, decode_rounds
from proxy.engine.scrub.findings import to_repair
from proxy.engine.scrub.inspector import Inspector
from proxy.engine.scrub.pace import DAY_SECONDS, LONGEST_WAIT_SECONDS, SHORTEST_WAIT_SECONDS, until_next_pass_seconds, wait_seconds
from proxy.engine.scrub.passes import ComparisonPass, PassPosition, Tools
from proxy.engine.scrub.reports import joined, load_report, report_of, save_report
from proxy.engine.walking.tally import load_tally
from proxy.engine.walking.walk import Advance, Position, Walk, load_position
from proxy.engine.workers import Progress
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId
from proxy.manifest.scrub import ScrubReport

LIGHT = "scrub-light"
DEEP = "scrub-deep"
STEP_SECONDS = 5.0
FIRST_WAIT_SECONDS = 60.0  # a start has other work to do
RETRY_SECONDS = 3600.0  # until a store that did not list is asked again
DEEP_BATCH = 16  # extents: each shard of them is a task


class LightScrubber:
    """Compares what the stores list with the manifest, both ways, in each of its days. What it finds damaged is queued for repair."""

    name = LIGHT
    everywhere = False

    def __init__(self, manifest: Manifest, clock: Clock, tools: Tools, *, days: float) -> None:
        self._manifest = manifest
        self._clock = clock
        self._days = days
        self._pass = ComparisonPass(tools, manifest, name=LIGHT)
        self._counted = (0, 0)
        self.idle_seconds = FIRST_WAIT_SECONDS

    async def step(self) -> Progress:
        """Compare for some seconds, or wait: for the next slice, or the next pass."""
        position, last = await self._pass.position(), await load_report(self._manifest, LIGHT)
        if position is not None and position.finished:
            return await self._end(position, last)
        wait = self._until_next_pass(last) if position is None else self._until_next_slice(position)
        if wait > 0:
            return self._idle(wait, remaining=0 if position is None else await self._remaining(position), last=last)
        return await self._progress(await self._pass.advance(seconds=STEP_SECONDS, only=self._only(last)))

    def _only(self, last: ScrubReport | None) -> tuple[str, ...]:
        """Return the stores of a pass that begins now: all, or those that the last one had to leave out."""
        is_due = last is None or self._age_seconds(last.begun_ms) >= self._days * DAY_SECONDS
        return () if last is None or is_due else tuple(last.unlisted)

    def _until_next_pass(self, last: ScrubReport | None) -> float:
        """A store that did not list is asked again soon, alone."""
        if last is None:
            return 0.0
        wait = until_next_pass_seconds(elapsed_seconds=self._age_seconds(last.begun_ms), days=self._days)
        again = RETRY_SECONDS - self._age_seconds(last.ended_ms)
        return max(min(wait, again), 0.0) if last.unlisted else wait

    def _until_next_slice(self, position: PassPosition) -> float:
        if self._pass.is_running:
            return 0.0
        elapsed, remaining = self._age_seconds(position.begun_ms), position.count - position.number
        return wait_seconds(elapsed_seconds=elapsed, days=self._days, done=position.number, remaining=remaining)

    async def _end(self, position: PassPosition, last: ScrubReport | None) -> Progress:
        report = report_of(position, ended_ms=self._clock.now_ms())
        if position.only and last is not None:
            report = joined(last, report)
        await save_report(self._manifest, LIGHT, report)
        await self._pass.forget()
        return self._idle(self._until_next_pass(report), remaining=0, last=report)

    async def _remaining(self, position: PassPosition) -> int | None:
        """Return about how many shards are still to be compared; None while nobody has counted them."""
        tally = await load_tally(self._manifest)
        return None if tally is None else round(tally.shards * (1 - position.number / position.count))

    async def _progress(self, position: PassPosition) -> Progress:
        compared = position.compared if not self._pass.is_running else self._pass.compared
        before, self._counted = self._counted, (compared.shards, compared.requests)
        done, requests = (max(now - then, 0) for now, then in zip(self._counted, before, strict=True))
        return Progress(idle=False, done=done, remaining=await self._remaining(position), requests=requests)

    def _idle(self, wait: float, *, remaining: int | None, last: ScrubReport | None) -> Progress:
        self.idle_seconds = min(max(wait, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        return Progress(idle=True, remaining=remaining, trouble=trouble_of(last))

    def _age_seconds(self, then_ms: int) -> float:
        return (self._clock.now_ms() - then_ms) / 1000


class DeepScrubber:
    """Opens every shard in each of its days. What it finds damaged is queued for repair."""

    name = DEEP
    everywhere = False

    def __init__(self, manifest: Manifest, clock: Clock, inspector: Inspector, fleet: Fleet, *, days: float) -> None:
        self._manifest = manifest
        self._clock = clock
        self._fleet = fleet
        self._days = days
        self._scrub = DeepScrub(inspector, fleet, clock, to_repair(manifest, clock), partial(save_report, manifest, DEEP))
        self._walk = Walk(manifest, manifest, clock, [self._scrub], name=DEEP, batch=DEEP_BATCH, again=self._again)
        self._is_late = False
        self.idle_seconds = FIRST_WAIT_SECONDS

    async def step(self) -> Progress:
        """Open some shards, or wait: for the time that they may take, for a store that is down, or for the next pass."""
        position = await load_position(self._manifest, DEEP)
        if position is None:
            last = await load_report(self._manifest, DEEP)
            wait = 0.0 if last is None else until_next_pass_seconds(elapsed_seconds=self._age_seconds(last.begun_ms), days=self._days)
            if wait > 0:
                return self._idle(wait, remaining=0, trouble=trouble_of(last))
        elif (down := self._all_down(decode_rounds(position.kept.get(DeepScrub.name)))) and not self._is_over(position):
            return self._idle(RETRY_SECONDS, remaining=position.remaining, trouble=f"waiting for {', '.join(down)}")
        before = decode_rounds(None if position is None else position.kept.get(DeepScrub.name)).report
        advance = await self._walk.advance(seconds=STEP_SECONDS if self._is_late else 0.0)
        return self._progress(advance, before)

    def _all_down(self, rounds: Rounds) -> tuple[str, ...]:
        """Return the stores that this round is for, if none of them can be asked. One that is not configured any more is nobody's loss."""
        wanted = tuple(name for name in rounds.only if name in self._fleet)
        return () if any(self._fleet[name].ready_for("get") for name in wanted) else wanted

    def _again(self, position: Position) -> Position | None:
        """At the end of a round: return where another begins, for the stores that were down in this."""
        rounds = self._scrub.rounds
        if not rounds.behind or self._is_over(position):
            return None
        report = replace(rounds.report, unreachable={})
        kept = msgspec.msgpack.encode(Rounds(report=report, only=tuple(sorted(rounds.behind))))
        return replace(position, first=ExtentId(0), after=min(rounds.behind.values()), seen=0, kept={DeepScrub.name: kept})

    def _is_over(self, position: Position) -> bool:
        return self._age_seconds(position.begun_ms) > self._days * DAY_SECONDS

    def _progress(self, advance: Advance, before: ScrubReport) -> Progress:
        position, report = advance.position, self._scrub.report
        elapsed, remaining = self._age_seconds(position.begun_ms), 0 if advance.finished else position.remaining
        shards = report.shards - before.shards
        wait = wait_seconds(elapsed_seconds=elapsed, days=self._days, done=position.seen, remaining=remaining)
        if not position.seen and not advance.finished:  # another round begins, for stores that were down just now
            wait = LONGEST_WAIT_SECONDS
        self._is_late = wait == 0
        self.idle_seconds = max(wait, SHORTEST_WAIT_SECONDS)
        return Progress(
            idle=wait > 0 or advance.finished,
            done=shards,
            remaining=round(remaining * shards / advance.seen) if advance.seen else remaining,
            requests=report.requests - before.requests,
            size_bytes=report.size_bytes - before.size_bytes,
            trouble=trouble_of(report),
        )

    def _idle(self, wait: float, *, remaining: int, trouble: str) -> Progress:
        self.idle_seconds = min(wait, LONGEST_WAIT_SECONDS)
        return Progress(idle=True, remaining=remaining, trouble=trouble)

    def _age_seconds(self, then_ms: int) -> float:
        return (self._clock.now_ms() - then_ms) / 1000


def trouble_of(report: ScrubReport | None) -> str:
    """Say which stores could not be looked at."""
    if report is None:
        return ""
    unlisted = [f"{store} did not list: {why}" for store, why in report.unlisted.items()]
    return "; ".join([*unlisted, *(f"{count} shards in {store} could not be read" for store, count in report.unreachable.items())])
