"""Light scrubs that somebody has asked for, of single stores, at once: beside the pass that is spread over its days.

Who asks has seen that a store has lost something, and cannot know how much: the keeper of the epoch, which misses its marker there.
"""

from __future__ import annotations

from proxy.engine.scrub.passes import ComparisonPass, PassPosition, Tools
from proxy.engine.scrub.reports import report_of
from proxy.engine.scrub.wanted import ask_scrub, stop_asking, wanted
from proxy.engine.scrub.workers import RETRY_SECONDS, STEP_SECONDS, trouble_of
from proxy.engine.workers import Progress
from proxy.manifest.protocol import Manifest

ASKED = "scrub-asked"
IDLE_SECONDS = 15.0


class AskedScrubber:
    """Compares what was asked for, and queues what is damaged for repair."""

    name = ASKED
    everywhere = False

    def __init__(self, manifest: Manifest, tools: Tools) -> None:
        self._manifest = manifest
        self._tools = tools
        self._pass = ComparisonPass(tools, manifest, name=ASKED)
        self._counted = (0, 0)
        self.idle_seconds = IDLE_SECONDS

    async def step(self) -> Progress:
        """Compare for some seconds. Who asks for a store while it is compared may ask again: what was looked at is not looked at twice."""
        begun, asked = await self._pass.position(), await wanted(self._manifest)
        stores = () if begun else tuple(store for store in asked if store in self._tools.stores)
        if begun is None and not stores:
            return Progress(idle=True)
        position = await self._pass.advance(seconds=STEP_SECONDS, only=stores)
        if begun is None:  # by now it is on record that they are compared
            await stop_asking(self._manifest, asked)
        return await self._end(position) if position.finished else self._progress(position, "")

    async def _end(self, position: PassPosition) -> Progress:
        """A store that did not list is asked again later."""
        report = report_of(position, ended_ms=self._tools.clock.now_ms())
        if report.unlisted:
            await ask_scrub(self._manifest, report.unlisted)
        self.idle_seconds = RETRY_SECONDS if report.unlisted else IDLE_SECONDS
        await self._pass.forget()
        progress = self._progress(position, trouble_of(report))
        self._counted = (0, 0)
        return progress

    def _progress(self, position: PassPosition, trouble: str) -> Progress:
        compared = self._pass.compared if self._pass.is_running else position.compared
        before, self._counted = self._counted, (compared.shards, compared.requests)
        done, requests = (max(now - then, 0) for now, then in zip(self._counted, before, strict=True))
        return Progress(idle=bool(trouble), done=done, requests=requests, trouble=trouble)
