"""What the manifest does for a recovery: past the fence, which keeps everybody else out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxy.manifest.records import Epoch, Extent
from proxy.manifest.recovery import Found, GarbageKey, Outcome
from proxy.manifest.sqlite import recovery
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Recovering(StepRunner):
    """See the protocol."""

    async def is_blank(self) -> bool:
        return await self._list(recovery.is_blank)

    async def apply_found(
        self, found: Sequence[Found], *, name: str, keep: Callable[[tuple[Outcome, ...]], bytes], now_ms: int
    ) -> tuple[Outcome, ...]:
        return await self._committer.run(lambda connection: recovery.apply_found(connection, found, name, keep, now_ms))

    async def garbage_names(self, *, after: GarbageKey, limit: int) -> tuple[GarbageKey, ...]:
        return await self._list(recovery.garbage_names, after=after, limit=limit)

    async def correct_extents(self, extents: Sequence[Extent], *, now_ms: int) -> None:
        await self._committer.run(lambda connection: recovery.correct_extents(connection, extents, now_ms))

    async def finish_recovery(self, *, identity: str, above: int, now_ms: int) -> Epoch:
        return await self._committer.run(lambda connection: recovery.finish_recovery(connection, identity, above, now_ms))
