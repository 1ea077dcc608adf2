"""The worker that scrubs the manifest's copy, and has a checkpoint made when it is damaged."""

from __future__ import annotations

from proxy.clock import Clock
from proxy.engine.journal.checkpointing import request_checkpoint
from proxy.engine.journal.scrub import CopyScrub
from proxy.engine.journal.soundness import wants_checkpoint
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.workers import Progress
from proxy.errors import ManifestFenced
from proxy.manifest.copies import STATE, CopyReport, decode_report, encode_report
from proxy.manifest.protocol import Manifest

DAY_MS = 86_400_000
RETRY_MS = 3_600_000  # until a store that did not list is asked again
STEP_SECONDS = 5.0
IDLE_SECONDS = 60.0


async def load_copy_report(manifest: Manifest) -> CopyReport:
    """Return what the last comparison has found; an empty one before the first."""
    return decode_report(await manifest.load_state(STATE)) or CopyReport()


async def save_copy_report(manifest: Manifest, report: CopyReport) -> None:
    await manifest.save_state(STATE, encode_report(report))


class JournalScrubber:
    """Compares the manifest's copy with the stores in each of the light scrub's days, and opens it in each of the deep scrub's.

    It compares sooner when there is a new checkpoint, and when the policy or the stores have changed.
    """

    name = "scrub-journal"
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(
        self, manifest: Manifest, writer: CopyWriter, scrub: CopyScrub, clock: Clock, *, light_days: float, deep_days: float
    ) -> None:
        self._manifest = manifest
        self._writer = writer
        self._scrub = scrub
        self._clock = clock
        self._light_ms = light_days * DAY_MS
        self._deep_ms = deep_days * DAY_MS

    async def step(self) -> Progress:
        if fence := (await self._manifest.find_epoch()).fence:  # before all is listed for a report that nobody may keep
            raise ManifestFenced(fence)
        before = await load_copy_report(self._manifest)
        requests = self._scrub.requests
        report = await self._look(before)
        if report != before:
            await save_copy_report(self._manifest, report)
        await self._ask_for_checkpoint(report)
        return Progress(
            idle=report == before,
            done=report.shards if report.compared_ms != before.compared_ms else 0,
            requests=self._scrub.requests - requests,
            trouble="; ".join(f"{store} did not list: {why}" for store, why in sorted(report.silent.items())),
        )

    async def _look(self, before: CopyReport) -> CopyReport:
        basis = self._scrub.basis(await self._manifest.needed_copies())
        age_ms = self._clock.now_ms() - before.compared_ms
        due = self._light_ms and age_ms >= (min(RETRY_MS, self._light_ms) if before.silent else self._light_ms)
        if due or not before.compared_ms or before.basis != basis:
            return await self._scrub.compare(before)
        if self._deep_ms and self._clock.now_ms() - before.opened_ms >= self._deep_ms:
            opened = await self._scrub.open(before, seconds=STEP_SECONDS)
            return opened if opened.bad == before.bad else await self._scrub.compare(opened)
        return before

    async def _ask_for_checkpoint(self, report: CopyReport) -> None:
        needed, now_ms = await self._manifest.needed_copies(), self._clock.now_ms()
        stores = {str(info.name) for info in self._writer.policy.stores}
        if not wants_checkpoint(report, needed, now_ms=now_ms, stores=stores):
            return
        if (await self._manifest.checkpoint_state(before_ms=0)).making is None:  # one that is being made is looked at when it is made
            await request_checkpoint(self._manifest)
