"""What a recovery finds in the stores, before it is in a manifest."""

from __future__ import annotations

from typing import Literal, NamedTuple

from proxy.manifest.damage import DamageKind
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import BucketName, Layout, ObjectKey, Part, Record, Segment, SegmentId, UploadId, VersionId

FindingSort = Literal["unread", "incomplete", "superseded", "unconfirmed", "homeless", "lost"]
Outcome = Literal["applied", "superseded", "unconfirmed", "homeless"]

# The fence of a manifest that is being recovered.
RECOVERING = "a recovery into this manifest has not come to its end: go on with it by the same command, shardgate recover"


class Sighting(NamedTuple):
    """A shard that a store lists."""

    segment_id: SegmentId
    shard_index: int
    generation: int
    store: str
    size_bytes: int


class Link(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A journal segment that was read, without its rows."""

    number: int
    segment_id: SegmentId
    digest: bytes
    previous: bytes
    epoch: int
    sequence: int
    whole: bool
    made_ms: int
    size_bytes: int  # of its plaintext
    layout: Layout

    @property
    def rank(self) -> tuple[bool, int, int]:
        """As in `JournalSegment`."""
        return self.whole, self.epoch, self.sequence


class Labelled(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A segment whose label has been opened.

    `body` is the same for the segments of one attempt to write a version or part, and for no others: they have one data key.
    """

    bucket: BucketName
    key: ObjectKey
    version_id: VersionId = VersionId("")
    upload_id: UploadId = UploadId("")
    part_number: int = 0
    body: bytes
    number: int
    offset: int
    k: int
    m: int
    tenant_key_id: str
    wrapped_key: bytes
    segment: Segment
    record: bytes = b""
    table_offset: int = 0  # of a pack, as its label says; bucket and key are "" then
    table_size: int = 0  # > 0: a pack


class FoundVersion(Record, frozen=True, kw_only=True, omit_defaults=True, tag="version"):
    """A version whose segments are all there. The draft has its layout."""

    bucket: BucketName
    draft: VersionDraft


class FoundPart(Record, frozen=True, kw_only=True, omit_defaults=True, tag="part"):
    """A part whose segments are all there."""

    bucket: BucketName
    key: ObjectKey
    upload_id: UploadId
    part: Part
    layout: Layout


class FoundSlot(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version that a pack's table tells of. The draft has no layout: its bytes are the slot at `offset`."""

    bucket: BucketName
    draft: VersionDraft
    offset: int


class FoundPack(Record, frozen=True, kw_only=True, omit_defaults=True, tag="pack"):
    """A pack whose table has been read. `damage`: what reading that has shown to be wrong with its shards, by index."""

    layout: Layout
    slots: tuple[FoundSlot, ...]
    damage: tuple[tuple[int, DamageKind], ...] = ()


Found = FoundVersion | FoundPart | FoundPack


class Finding(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Something a recovery could not bring back, or did not, and why. `subject` is a key where one is known, else a segment's id."""

    sort: FindingSort
    subject: str
    reason: str


class UnnamedSegment(NamedTuple):
    """A segment that stores list and that nothing in the manifest names."""

    id: SegmentId
    sightings: tuple[Sighting, ...]
