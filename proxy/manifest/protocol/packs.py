"""What the manifest promises about packs: committed at once, found by what is dead in them, exchanged slot by slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.errors import ManifestConflict
from proxy.manifest.drafts import PackedDraft, VersionDraft
from proxy.manifest.packs import Pack, SlotMove, SlotPlace, SlotUser
from proxy.manifest.records import ExtentId, Layout, Settlement, Version


class Packs(Protocol):
    """See `Manifest`. A pack that nobody uses any more is garbage as any extent is, and forgotten."""

    async def commit_pack(
        self, layout: Layout, packed: Sequence[PackedDraft], *, settlements: Sequence[Settlement], now_ms: int
    ) -> list[Version | ManifestConflict]: ...

    """Make the versions of one pack visible, in this order, and return what became of each: one that is refused costs the others nothing.
    If all are, nothing is added, and the ids are not settled. IntentRevoked: then none is committed."""

    async def confirm_version(self, version: Version, draft: VersionDraft) -> Version: ...

    """Return a version of a pack when it may be acknowledged: at once, unless it needs the journal, as `commit_version` would."""

    def is_confirmed(self, version: Version, draft: VersionDraft) -> bool: ...

    """Tell whether it may be acknowledged at once."""

    async def find_packs(self, ids: Sequence[ExtentId]) -> tuple[Pack, ...]: ...  # those that are still there
    async def packs_between(self, *, first: ExtentId, last: ExtentId) -> tuple[Pack, ...]: ...  # both included
    async def dead_packs(self, *, before_ms: int, after: tuple[int, ExtentId], limit: int) -> tuple[Pack, ...]: ...

    """Those of which something fell out of use before a moment: the longest ago first, from behind (that moment, extent)."""

    async def half_dead_packs(self, *, after: ExtentId, limit: int) -> tuple[Pack, ...]: ...
    async def small_packs(self, *, after: tuple[str, ExtentId], limit: int) -> tuple[Pack, ...]: ...  # by kind, then by extent
    async def oldest_dead_ms(self) -> int | None: ...  # when the first slot fell out of use whose pack is still there
    async def walk_slots(self, extent_id: ExtentId, *, after: SlotPlace, limit: int) -> tuple[SlotUser, ...]: ...

    """The versions that use slots of a pack, by offset, then by bucket, key and age."""

    async def exchange_slots(
        self, layout: Layout, moves: Sequence[SlotMove], *, settlements: Sequence[Settlement], now_ms: int
    ) -> ExtentId | None: ...

    """Let versions use slots of a new pack, or a new extent whole, in place of the slots they have, which may be of several packs. One that
    has changed meanwhile, or belongs elsewhere by now, is skipped. None if all are: nothing is added, and the ids are not settled."""

    async def join_slots(self, extent_id: ExtentId, moves: Sequence[SlotMove], *, now_ms: int) -> int: ...

    """The same, for an extent that is there already: return how many were moved. What nobody uses of it any more is not used again.
    ExtentMissing."""
