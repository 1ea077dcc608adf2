"""What the manifest promises to a recovery. All of it works while the manifest is fenced, and while it is recovered it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from proxy.manifest.damage import Draw
from proxy.manifest.records import Extent
from proxy.manifest.recovery import Found, Outcome


class Recovering(Protocol):
    """See `Manifest`."""

    async def is_blank(self) -> bool: ...  # nothing was ever kept here

    async def forget_all(self) -> None: ...  # of what the journal tells, before all of it is told anew

    async def apply_found(
        self, found: Sequence[Found], *, name: str, keep: Callable[[tuple[Outcome, ...]], bytes], now_ms: int
    ) -> tuple[Outcome, ...]: ...

    """Bring back versions and parts, in this order, by the rules of `plans.recovery`. Return what became of each, and of each version of a
    pack in its turn; what `keep` makes of that is saved as the state `name`, in the same step. A pack none of whose versions comes back is
    not added."""

    async def correct_extents(self, extents: Sequence[Extent], *, now_ms: int) -> None: ...

    """Take these layouts for those that are stored, and put on record what is missing of them."""

    async def revoke_draws(self, draws: Sequence[Draw], *, now_ms: int) -> None: ...

    """End moves that were under way when the manifest was lost, as if their workers had died. `targets` of each: those that no segment
    points to. These are queued as garbage, and a day later once more."""

    async def skip_ids(self) -> None: ...  # of buckets and extents that were given after the end of the journal, and lost

    async def save_recovery_state(self, name: str, value: bytes | None) -> None: ...  # as `save_state`, past the fence

    async def count_all(self) -> Mapping[str, int]: ...  # tenants, keys, buckets, versions, uploads and parts, by table
