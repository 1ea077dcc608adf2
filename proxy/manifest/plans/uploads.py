"""What a step does to a multipart upload and its parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.errors import PartInvalid, UploadMissing
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import BucketId, ExtentRef, ObjectKey, Part, Record, Upload, UploadId, Version


class Completion(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What the parts of an upload come to."""

    extents: tuple[ExtentRef, ...]  # of the version
    released: tuple[ExtentRef, ...]  # of the parts that were not named


def plan_completion(uploaded: Iterable[Part], listed: Sequence[CompletedPart]) -> Completion:
    """Take the parts listed, in this order. PartInvalid of one that was not uploaded, or with another ETag."""
    unused = {part.number: part for part in uploaded}
    extents: list[ExtentRef] = []
    for wanted in listed:
        part = unused.pop(wanted.number, None)
        if part is None or part.etag != wanted.etag:
            raise PartInvalid(f"part {wanted.number} was not uploaded, or has another ETag")
        extents += part.extents
    return Completion(extents=tuple(extents), released=extents_of(unused.values()))


def extents_of(parts: Iterable[Part]) -> tuple[ExtentRef, ...]:
    """Return what is released when parts go: replaced by one of the same number, or aborted with their upload."""
    return tuple(ref for part in parts for ref in part.extents)


def check_upload(upload: Upload, bucket_id: BucketId, key: ObjectKey) -> None:
    """UploadMissing if the upload is of another key."""
    if (upload.bucket_id, upload.key) != (bucket_id, key):
        raise UploadMissing(f"upload {upload.id} is of another key")


def completed_version(
    upload_id: UploadId, completed: Sequence[CompletedPart] | None, asked: Sequence[CompletedPart], version: Version | None
) -> Version:
    """Return the version that the same completion made before: while it is that very one, and no other of its id. UploadMissing."""
    if completed is None or tuple(completed) != tuple(asked) or version is None or version.upload_id != upload_id:
        raise UploadMissing(f"no upload {upload_id}")
    return version
