"""What the manifest does for a recovery: past the fence, which keeps everybody else out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from proxy.manifest.damage import Draw
from proxy.manifest.records import Extent
from proxy.manifest.recovery import Found, Outcome
from proxy.manifest.sqlite import moving, recovery
from proxy.manifest.sqlite.adapter.runner import StepRunner
from proxy.manifest.sqlite.jobs import save_state


class Recovering(StepRunner):
    """See the protocol."""

    async def is_blank(self) -> bool:
        return await self._list(recovery.is_blank)

    async def forget_all(self) -> None:
        await self._committer.run(recovery.forget_all)

    async def apply_found(
        self, found: Sequence[Found], *, name: str, keep: Callable[[tuple[Outcome, ...]], bytes], now_ms: int
    ) -> tuple[Outcome, ...]:
        return await self._committer.run(lambda connection: recovery.apply_found(connection, found, name, keep, now_ms))

    async def correct_extents(self, extents: Sequence[Extent], *, now_ms: int) -> None:
        await self._committer.run(lambda connection: recovery.correct_extents(connection, extents, now_ms))

    async def revoke_draws(self, draws: Sequence[Draw], *, now_ms: int) -> None:
        await self._committer.run(lambda connection: moving.revoke_draws(connection, draws, now_ms))

    async def skip_ids(self) -> None:
        await self._committer.run(recovery.skip_ids)

    async def save_recovery_state(self, name: str, value: bytes | None) -> None:
        await self._committer.run(lambda connection: save_state(connection, name, value))

    async def count_all(self) -> Mapping[str, int]:
        return await self._list(recovery.count_all)
