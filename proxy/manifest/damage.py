"""What is wrong with stored segments, as records: what is reported, what waits for repair, what was drawn for a move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from proxy.codec.format import shard_name
from proxy.manifest.records import Extent, ExtentId, Record, Segment, SegmentId

DamageKind = Literal[
    "missing",  # its store does not have it: it never arrived, or is gone
    "truncated",  # it is shorter than it was
    "forged",  # it does not open: changed, stale, or another's
    "unreachable",  # its store is not configured any more, so nobody can read it
    "misplaced",  # its store can be read, but the policy does not use it
    "clumped",  # it is one too many in a hand that may read the segment
    "surplus",  # another store than its own holds it, too
    "stray",  # a put that failed may have left a shard of this segment in any store: of the segment as a whole
]

BrakeState = Literal[
    "counting",
    "paused",  # it is too much at once: repair of its shards waits for an operator
    "allowed",  # an operator has said that it is really lost
]

LOSSES: frozenset[DamageKind] = frozenset({"missing", "truncated", "forged", "unreachable"})  # a read cannot count on the shard
SUDDEN: frozenset[DamageKind] = LOSSES - {"unreachable"}  # what a store does by itself: an operator takes it out of the configuration
WHOLE_SEGMENT = -1  # the shard index of damage that is not one shard's


class Damage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One thing wrong with one shard, as it was when somebody looked: a report of a shard that was replaced since means nothing."""

    extent_id: ExtentId
    segment_id: SegmentId
    shard_index: int
    kind: DamageKind
    store: str
    generation: int = 0


class Repair(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A segment that waits for repair. `redundancy`: how many more shards may be lost before it cannot be read; below 0 it is lost."""

    extent_id: ExtentId
    segment_id: SegmentId
    redundancy: int
    since_ms: int
    due_ms: int
    failures: int = 0  # tries that did not help


class Leftover(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A shard that the segment does not point to, and that its store may hold until it has confirmed the deletion."""

    shard_index: int
    store: str
    name: str


class Damaged(Record, frozen=True, kw_only=True, omit_defaults=True):
    """All that is known of one segment at one instant. `drawn`: a move of it is under way, so no other may begin."""

    extent: Extent
    segment: Segment
    damage: tuple[Damage, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    drawn: bool = False
    since_ms: int = 0  # of the oldest damage

    @property
    def lost(self) -> frozenset[int]:
        """The indexes of shards that a read cannot count on, as far as is on record."""
        return frozenset({*self.segment.missing, *(damage.shard_index for damage in self.damage if damage.kind in LOSSES)})


class Draw(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A move that is under way, or was: shards may be put, or come late, under this generation in these stores."""

    segment_id: SegmentId
    generation: int
    targets: Mapping[int, str]  # shard index → store
    revoked: bool = False  # no shard of it can come into use any more

    @property
    def shards(self) -> tuple[tuple[str, str], ...]:
        """Store and upstream name of each."""
        return tuple((store, shard_name(self.segment_id, index, self.generation)) for index, store in self.targets.items())


class Losses(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What one store was found to have lost of what it had: shards that were missing, truncated or forged, counted when that was put on
    record. `shards`: what it should hold, as far as was known when repair stopped for it; 0 if nobody has counted."""

    store: str
    since_ms: int
    last_ms: int
    found: int
    state: BrakeState = "counting"
    shards: int = 0


class DamageCount(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How much is wrong, by store and kind and, in segments, by remaining redundancy."""

    by_store: Mapping[tuple[str, DamageKind], int]
    by_redundancy: Mapping[int, int]
    oldest_ms: int | None = None


def how_many(found: int, placed: int) -> str:
    """Say how many shards a store has lost, and of how many, if that is known and means something."""
    return f"{found:,} of its {placed:,} shards" if placed >= found else f"{found:,} shards"
