"""What the manifest promises about damaged segments and about moving their shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from proxy.manifest.damage import BrakeState, Damage, DamageCount, Damaged, Losses, Repair
from proxy.manifest.records import Extent, ExtentId, Segment, SegmentId


class DamageLedger(Protocol):
    """See `Manifest`. Shards that were not stored at a commit, and strays, are on record as damage with that commit."""

    # Damage
    async def report_damage(self, damage: Sequence[Damage], *, now_ms: int) -> int: ...

    """Put on record what is wrong, and the segment in the queue of repairs; return how much of it was not known. There is one row a shard:
    a loss takes the place of what is not one. A report of what has gone or was replaced since is ignored. May be called twice."""

    async def unknown_damage(self, damage: Sequence[Damage]) -> tuple[Damage, ...]: ...

    """Return those of the reports that would be news. It only reads: whoever finds the same again and again asks this first."""

    async def settle_damage(self, damage: Sequence[Damage]) -> None: ...

    """Somebody looked, and it is well: forget it. A shard is taken out of its segment's `missing`, too."""

    async def settle_strays(self, extent_id: ExtentId, segment_id: SegmentId) -> None: ...  # no store holds what it should not

    async def record_shard(self, extent_id: ExtentId, segment_id: SegmentId, shard_index: int, *, store: str, now_ms: int) -> None: ...

    """A shard of a first write arrived late: take it out of the segment's `missing` and of the damage. If the segment is gone, or points to
    another shard by now, what arrived is queued as garbage."""

    async def due_repairs(self, *, now_ms: int, limit: int) -> tuple[Repair, ...]: ...

    """Segments to repair: those of least redundancy first, and of those the ones that are due for longest. Nothing is claimed."""

    async def put_off_repair(self, repair: Repair, *, due_ms: int) -> None: ...

    """Count a failure, and wait; but if less is left of the segment than when this row was read, it stays due."""

    async def find_damaged(self, extent_id: ExtentId, segment_id: SegmentId) -> Damaged | None: ...  # None: it is gone
    async def hasten_repairs(self, *, after: tuple[ExtentId, SegmentId], now_ms: int, limit: int) -> tuple[ExtentId, SegmentId] | None: ...

    """Make a page of the queue due now; return where the next page begins, or None behind the last."""

    async def lost_segments(self, *, after: tuple[ExtentId, SegmentId], limit: int) -> tuple[tuple[ExtentId, SegmentId], ...]: ...

    """Segments of which fewer shards are good, as far as is on record, than a read needs: in one order, from behind one."""

    async def count_damage(self, *, limit: int = 1_000_000) -> DamageCount: ...  # counted no further than this: some 200 ms

    # What each store was found to have lost. `report_damage` adds what is new, `settle_damage` takes back what is well.
    async def list_losses(self) -> tuple[Losses, ...]: ...
    async def set_brake(self, store: str, state: BrakeState, *, shards: int = 0) -> None: ...  # ignored if nothing is counted of it
    async def forget_losses(self, store: str) -> None: ...

    # Moving shards: to put them anew, under names that were never used before
    async def draw_generation(
        self, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], *, expires_ms: int
    ) -> Segment | None: ...

    """Draw the next generation of a segment, for these shards in these stores. Return the segment; `drawn` is the generation. None if it is
    gone, or a move of it is under way: of all processes, one at a time moves shards of a segment. A draw that is not used by `expires_ms`
    is revoked: its names are queued as garbage then, and a day later once more."""

    async def replace_shards(
        self, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], generation: int, *, now_ms: int
    ) -> bool: ...

    """Point the segment to the shards that were put under a draw, or to some of them; the others are queued as garbage, and so are the
    shards before. Their indexes leave `missing` and the damage. False, and nothing is changed, if the draw was revoked or the segment is
    gone: then the shards that were put are nobody's, and `give_up_draw` is to be called."""

    async def give_up_draw(
        self, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], generation: int, *, now_ms: int
    ) -> None: ...

    """End a draw, and queue whatever was put under it. May be called twice, and for one that was revoked: a shard may have come since.
    Also where nobody knows whether it was used: what the segment points to is kept."""

    async def revoke_expired_draws(self, *, now_ms: int) -> int: ...

    # All extents
    async def walk_extents(self, *, after: ExtentId, limit: int) -> tuple[Extent, ...]: ...

    """Extents in the order of their ids, from behind one. They may be fewer if they are large: only none means that there are no more."""
