"""What a pack's table tells of is taken only if it can be."""

from __future__ import annotations

import msgspec
import pytest

from proxy.codec.slots import PackEntry, encode_table
from proxy.engine.recover.assembly import slots_of
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import BucketId, ObjectKey, Segment, SegmentId, VersionId
from proxy.manifest.recovery import Labelled

COLUMN = 1000
PACK = Labelled(
    bucket="",  # type: ignore[arg-type]  # as in the label of a pack
    key=ObjectKey(""),
    body=b"body",
    number=0,
    offset=0,
    k=4,
    m=2,
    tenant_key_id="t",
    wrapped_key=b"k",
    segment=Segment(id=SegmentId(bytes(16)), size=4 * COLUMN, stores=("a", "b", "c", "d", "e", "f")),
    table_offset=3 * COLUMN,
    table_size=100,
)


def entry(key: str = "k", *, offset: int = 0, size: int = 100, record: VersionDraft | bytes | None = None) -> PackEntry:
    draft = VersionDraft(bucket_id=BucketId(1), key=ObjectKey(key), id=VersionId("v"), size=size, modified_ms=1)
    told = draft if record is None else record
    data = told if isinstance(told, bytes) else msgspec.msgpack.encode(told)
    return PackEntry(offset=offset, size=size, bucket="bucket", key=key, version_id="v", record=data)


def test_each_entry_is_a_version_in_its_slot() -> None:
    slots, findings = slots_of(PACK, encode_table([entry("a"), entry("b", offset=COLUMN), entry("c", offset=2 * COLUMN - 116)]))
    assert [(slot.bucket, slot.draft.key, slot.offset) for slot in slots] == [
        ("bucket", "a", 0), ("bucket", "b", COLUMN), ("bucket", "c", 2 * COLUMN - 116),
    ]  # fmt: skip
    assert findings == []


@pytest.mark.parametrize(
    "wrong",
    [
        entry(offset=-1),
        entry(offset=4 * COLUMN),
        entry(offset=COLUMN - 100),
        entry(record=b"no record"),
        entry(record=VersionDraft(bucket_id=BucketId(1), key=ObjectKey("other"), id=VersionId("v"), size=100, modified_ms=1)),
        entry(record=VersionDraft(bucket_id=BucketId(1), key=ObjectKey("k"), id=VersionId("w"), size=100, modified_ms=1)),
        entry(record=VersionDraft(bucket_id=BucketId(1), key=ObjectKey("k"), id=VersionId("v"), size=99, modified_ms=1)),
    ],
    ids=["before the pack", "behind the pack", "over the end of its column", "no record", "another key", "another version", "another size"],
)
def test_an_entry_that_cannot_be_is_told_and_the_others_are_taken(wrong: PackEntry) -> None:
    slots, findings = slots_of(PACK, encode_table([entry("good"), wrong]))
    assert [slot.draft.key for slot in slots] == ["good"]
    assert [(finding.sort, finding.subject) for finding in findings] == [("incomplete", "bucket/k")]


def test_a_table_that_is_none_is_told() -> None:
    slots, findings = slots_of(PACK, b"\xc1")
    assert slots == []
    assert findings[0].subject == f"pack {bytes(16).hex()}"
