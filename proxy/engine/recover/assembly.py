"""A version or part from its segments, as their labels tell, and the versions of a pack from its table. Decided purely.

A version or part is brought back only if it is whole: its segments are numbered without a gap, each begins where the one before ends, the
last one has the record, and they are as long together as the record says. A pack is whole, or its table would not be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec
from msgspec.structs import replace

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.slots import PackEntry, Slot, decode_table
from proxy.errors import ShardMismatch
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import BucketName, Layout, Part
from proxy.manifest.recovery import Finding, Found, FoundPart, FoundSlot, FoundVersion, Labelled

_drafts = msgspec.msgpack.Decoder(VersionDraft)
_parts = msgspec.msgpack.Decoder(Part)


def assemble(attempt: Sequence[Labelled], *, policies: Mapping[BucketName, str]) -> Found | Finding:
    """Return what the segments of one attempt, in order, make; or what is wrong with them. `policies` are those of the buckets."""
    last = attempt[-1]
    if flaw := _flaw(attempt):
        return Finding(sort="incomplete", subject=subject_of(last), reason=flaw)
    layout = Layout(
        size=sum(one.segment.size for one in attempt),
        policy=policies.get(last.bucket, ""),
        k=last.k,
        m=last.m,
        tenant_key_id=last.tenant_key_id,
        wrapped_key=last.wrapped_key,
        segments=tuple(one.segment for one in attempt),
    )
    try:
        return _found_part(last, layout) if last.upload_id else _found_version(last, layout)
    except msgspec.MsgspecError as error:
        return Finding(sort="incomplete", subject=subject_of(last), reason=f"its record cannot be read: {error}")


def subject_of(labelled: Labelled) -> str:
    """Return how a report names it."""
    what = f" (part {labelled.part_number} of upload {labelled.upload_id})" if labelled.upload_id else ""
    return f"{labelled.bucket}/{labelled.key}{what}"


def _flaw(attempt: Sequence[Labelled]) -> str:
    last, count = attempt[-1], len(attempt)
    if not last.record:
        return f"the last segment, with the record, is not among the {count} that are there"
    if [one.number for one in attempt] != list(range(count)):
        return f"there are {count} segments, and the last one is number {last.number}, counted from 0"
    starts = [0, *accumulate(one.segment.size for one in attempt)]
    if [one.offset for one in attempt] != starts[:-1] or any(one.record for one in attempt[:-1]):
        return "its segments do not fit together"
    if len({(one.k, one.m, one.tenant_key_id) for one in attempt}) > 1:
        return "its segments are of several schemes or tenants"
    return ""


def _found_version(last: Labelled, layout: Layout) -> Found | Finding:
    draft = _drafts.decode(last.record)
    if (draft.key, draft.id, draft.size) != (last.key, last.version_id, layout.size):
        return _contradicted(last)
    return FoundVersion(bucket=last.bucket, draft=replace(draft, new_layouts=(replace(layout, customer_salt=draft.customer_salt),)))


def _found_part(last: Labelled, layout: Layout) -> Found | Finding:
    part = _parts.decode(last.record)
    if (part.number, part.size) != (last.part_number, layout.size):
        return _contradicted(last)
    return FoundPart(
        bucket=last.bucket, key=last.key, upload_id=last.upload_id, part=part, layout=replace(layout, customer_salt=part.customer_salt)
    )


def slots_of(pack: Labelled, table: bytes) -> tuple[list[FoundSlot], list[Finding]]:
    """Return the versions that a pack's table tells of, and what is wrong with others."""
    try:
        entries = decode_table(table)
    except msgspec.MsgspecError as error:
        return [], [Finding(sort="incomplete", subject=pack_subject(pack), reason=f"its table cannot be read: {error}")]
    geometry = SegmentGeometry(Scheme(pack.k, pack.m), pack.segment.size)
    slots, findings = [], []
    for entry in entries:
        try:
            slots.append(_slot(geometry, entry))
        except (msgspec.MsgspecError, ShardMismatch) as error:
            findings.append(Finding(sort="incomplete", subject=f"{entry.bucket}/{entry.key}", reason=f"its record cannot be used: {error}"))
    return slots, findings


def pack_subject(pack: Labelled) -> str:
    """Return how a report names a pack as a whole."""
    return f"pack {pack.segment.id.hex()}"


def _slot(geometry: SegmentGeometry, entry: PackEntry) -> FoundSlot:
    """Raises `ShardMismatch` if there can be no such slot, or if the record is not of it."""
    Slot(geometry, entry.offset, entry.size)
    draft = _drafts.decode(entry.record)
    if (draft.key, draft.id, draft.size) != (entry.key, entry.version_id, entry.size):
        raise ShardMismatch("it is of something else than the table says")
    return FoundSlot(bucket=BucketName(entry.bucket), draft=draft, offset=entry.offset)


def _contradicted(last: Labelled) -> Finding:
    return Finding(sort="incomplete", subject=subject_of(last), reason="its record is of something else than its label says")
