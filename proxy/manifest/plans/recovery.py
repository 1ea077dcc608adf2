"""What becomes of a version or part that labels tell of, beside what the manifest knows already.

What a label tells of was committed after the last thing that the journal knows, or never: then a crash came between its shards and its
commit, or it was refused. A write that was broken off may take effect late, like any whose answer got lost. So it is brought back, but

* never in the place of something newer, nor of the same write: moved to another policy, its data lies there twice, under equal labels;
* never if its commit could have refused it: such a write is acknowledged only when the journal has it;
* under its own id wherever versioning was on, for its writer or in the journal: one version too many loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from proxy.manifest.plans.versions import VersionChange, order_of, version_of
from proxy.manifest.records import NULL_VERSION, Bucket, Part, Record, Upload, Version, VersionId
from proxy.manifest.recovery import FoundPart, FoundVersion, Outcome

KeyOwner = Callable[[str], str]  # from the id of a key of the keyring to that of the tenant whose it is


class Insertion(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What to do with a version that was found. `above`: those that are newer, newest first, each of which moves up by one."""

    outcome: Outcome
    change: VersionChange = VersionChange()
    above: tuple[Version, ...] = ()


def id_of(bucket: Bucket, found: FoundVersion) -> VersionId:
    """Return the id that a version is brought back under."""
    return found.draft.id if "Enabled" in (bucket.versioning, found.draft.versioning) else NULL_VERSION


def belongs(bucket: Bucket | None, found: FoundVersion, key_owner: KeyOwner) -> bool:
    """Tell whether the bucket is the one that was written to: not another of its name, and not another tenant's."""
    if bucket is None or (bucket.id, bucket.name) != (found.draft.bucket_id, found.bucket):
        return False
    return all(key_owner(layout.tenant_key_id) == bucket.tenant_id for layout in found.draft.new_layouts)


def plan_found_version(
    bucket: Bucket, newer: Sequence[Version], next_older: Version | None, same: Version | None, found: FoundVersion
) -> Insertion:
    """Put a version beneath those of its key that are `newer`, newest first. `same` has the id that it is brought back under."""
    draft = found.draft
    if draft.conditional:
        return Insertion(outcome="unconfirmed")
    if same is not None and (same.written == draft.written or order_of(same) > order_of(draft)):
        return Insertion(outcome="superseded")
    top = newer[0] if newer else next_older
    sequence = newer[-1].sequence if newer else 1 if next_older is None else next_older.sequence + 1
    added = version_of(draft, id_of(bucket, found), sequence=sequence, is_latest=not newer)
    return Insertion(
        outcome="applied",
        change=VersionChange(
            removed=() if same is None else (same,),
            demoted=top if not newer and top is not None and (same is None or top.id != same.id) else None,
            added=added,
        ),
        above=tuple(replace(version, sequence=version.sequence + 1) for version in newer),
    )


def plan_found_part(upload: Upload | None, bucket: Bucket | None, before: Part | None, found: FoundPart, key_owner: KeyOwner) -> Outcome:
    """Tell whether a part is brought back: into its own upload, unless a newer one of its number is there."""
    if upload is None or bucket is None or upload.bucket_id != bucket.id:
        return "homeless"
    if (upload.key, bucket.name, bucket.tenant_id) != (found.key, found.bucket, key_owner(found.layout.tenant_key_id)):
        return "homeless"
    if before is not None and (before.written == found.part.written or order_of(before) > order_of(found.part)):
        return "superseded"
    return "applied"
