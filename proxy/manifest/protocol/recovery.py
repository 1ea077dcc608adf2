"""What the manifest promises to a recovery. All of it works while the manifest is fenced, and while it is recovered it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.manifest.records import Epoch, Extent
from proxy.manifest.recovery import Found, GarbageKey, Outcome


class Recovering(Protocol):
    """See `Manifest`."""

    async def is_blank(self) -> bool: ...  # nothing was ever kept here

    async def apply_found(
        self, found: Sequence[Found], *, name: str, keep: Callable[[tuple[Outcome, ...]], bytes], now_ms: int
    ) -> tuple[Outcome, ...]: ...

    """Bring back versions and parts, in this order, by the rules of `plans.recovery`. Return what became of each; what `keep` makes of
    that is saved as the state `name`, in the same step."""

    async def garbage_names(self, *, after: GarbageKey, limit: int) -> tuple[GarbageKey, ...]: ...  # in order

    async def correct_extents(self, extents: Sequence[Extent], *, now_ms: int) -> None: ...

    """Take these layouts for those that are stored, and put on record what is missing of them."""

    async def finish_recovery(self, *, identity: str, above: int, now_ms: int) -> Epoch: ...

    """Go on under this identity: the number becomes higher than any before and than `above`, leases are forgotten, the fence is lifted."""
