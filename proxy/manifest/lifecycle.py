"""What a walk for lifecycle rules finds, as frozen records."""

from __future__ import annotations

from typing import Literal, TypeAlias

from proxy.manifest.records import ObjectKey, Record, UploadId, VersionId

Action: TypeAlias = Literal["expire", "remove", "move"]
EXPIRING, MOVING = JOBS = ("lifecycle", "lifecycle-moves")  # who carries out what is due
Outcome: TypeAlias = Literal["expired", "marked", "removed", "moved", "locked", "left"]  # `left`: it is not due any more, or gone


def wanted_state(job: str) -> str:
    """Return the name of the state that tells a job of rules that were put since its last pass began."""
    return f"{job}-wanted"


class Place(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far a walk over a bucket's versions has come, and what it must remember of the key that it stands in."""

    key: ObjectKey = ObjectKey("")
    sequence: int = 0  # of the last version seen; 0: before the key's newest
    modified_ms: int = 0  # when that version was made: since then the next one is noncurrent
    noncurrent: int = 0  # noncurrent versions of the key seen so far, delete markers aside


class UploadPlace(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far a walk over a bucket's uploads has come."""

    key: ObjectKey = ObjectKey("")
    initiated_ms: int = -1
    upload_id: UploadId = UploadId("")


class DueVersion(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version that a rule wants something done with. Whoever does it decides again: it may have changed since."""

    key: ObjectKey
    sequence: int
    version_id: VersionId
    action: Action
    storage_class: str = ""  # that it moves to


class DuePage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A page of a walk over versions."""

    due: tuple[DueVersion, ...]
    place: Place
    rows: int  # that were looked at
    ended: bool  # there is no more of the bucket


class DueUploads(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A page of a walk over uploads."""

    due: tuple[UploadId, ...]
    place: UploadPlace
    rows: int
    ended: bool
