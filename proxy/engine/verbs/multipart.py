"""The verbs of multipart uploads."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from proxy.codec.customer import CustomerKey
from proxy.engine.ciphers import check_customer_key
from proxy.engine.locking import with_default_lock
from proxy.engine.reading.windows import aligned_extents
from proxy.engine.verbs.assembly import PartClaim, assemble
from proxy.engine.verbs.base import NO_KEYS, CustomerKeys, Verbs, has_customer_key
from proxy.engine.verbs.copy import CopyBody
from proxy.engine.writing.body import Body
from proxy.engine.writing.destination import PartDestination
from proxy.errors import PolicyMoved
from proxy.manifest.drafts import NO_CONDITIONS, CompletedPart, Conditions, UploadPage, VersionDraft
from proxy.manifest.events import Cause
from proxy.manifest.records import (
    Bucket,
    Checksum,
    ExtentRef,
    ObjectAttributes,
    ObjectKey,
    Part,
    PartSummary,
    Tenant,
    Upload,
    UploadId,
    Version,
)
from proxy.s3.checksums import DEFAULT_ALGORITHM, ChecksumAlgorithm, ChecksumType, combines


class _Piece(NamedTuple):
    """A range of a version, as it is stored."""

    etag: str
    checksum: Checksum | None
    refs: Sequence[ExtentRef]


class UploadVerbs(Verbs):
    """Begins, fills, completes, aborts and lists uploads. `owner` is always the bucket's."""

    async def begin_upload(
        self,
        bucket: Bucket,
        initiator: Tenant,
        key: ObjectKey,
        attributes: ObjectAttributes,
        *,
        checksum_algorithm: ChecksumAlgorithm | None = None,
        checksum_type: ChecksumType | None = None,
        begun_with: Mapping[str, str] = {},
    ) -> Upload:
        """Begin an upload; what its object will say of itself is settled now. `begun_with`: see `Upload`."""
        upload = Upload(
            id=UploadId(secrets.token_urlsafe(48)),
            bucket_id=bucket.id,
            key=key,
            tenant_id=initiator.id,
            initiated_ms=self._clock.now_ms(),
            attributes=attributes,
            checksum_algorithm=checksum_algorithm,
            checksum_type=checksum_type,
            begun_with=dict(begun_with),
        )
        await self._manifest.begin_upload(upload)
        return upload

    async def find_upload(self, bucket: Bucket, key: ObjectKey, upload_id: UploadId) -> Upload | None:
        """Return an upload in progress."""
        return await self._manifest.find_upload(bucket.id, key, upload_id)

    async def upload_part(
        self, bucket: Bucket, owner: Tenant, upload: Upload, number: int, body: Body, *, customer_key: CustomerKey | None = None
    ) -> Part:
        """Store a body as a part; a part of this number from before is replaced. The customer's key is the upload's."""
        check_customer_key(upload.attributes.encryption, customer_key)
        policy = self._policy(bucket)
        destination = PartDestination(
            policy=policy,
            scheme=policy.scheme_of(upload.attributes.storage_class),
            cipher=await self._cipher(owner, upload.attributes),
            manifest=self._manifest,
            clock=self._clock,
            order=self._order,
            bucket=bucket,
            customer_key=customer_key,
            customer_salt=self._new_salt(customer_key),
            upload=upload,
            number=number,
        )
        return await self._writer.write(destination, body)

    async def copy_part(
        self,
        source: Version,
        source_bucket: Bucket,
        source_owner: Tenant,
        start: int,
        length: int,
        bucket: Bucket,
        owner: Tenant,
        upload: Upload,
        number: int,
        *,
        customer_keys: CustomerKeys = NO_KEYS,
    ) -> Part:
        """Store a range of a version as a part: without a move of data, where `_shareable` finds that this can be."""
        shared = await self._shareable(source, source_bucket, start, length, bucket, owner, upload, customer_keys.target)
        if shared is not None:
            part = Part(
                number=number,
                size=length,
                etag=shared.etag,
                modified_ms=self._clock.now_ms(),
                written=self._order.next(),
                checksum=shared.checksum,
            )
            with suppress(PolicyMoved):
                return await self._manifest.commit_part(upload.id, part, shared_extents=shared.refs)
        opened = await self._open_source(source, source_owner, start, length, bucket, customer_keys.source)
        body = CopyBody(opened, length, upload.checksum_algorithm or DEFAULT_ALGORITHM)
        return await self.upload_part(bucket, owner, upload, number, body, customer_key=customer_keys.target)

    async def _shareable(
        self,
        source: Version,
        source_bucket: Bucket,
        start: int,
        length: int,
        bucket: Bucket,
        owner: Tenant,
        upload: Upload,
        customer_key: CustomerKey | None,
    ) -> _Piece | None:
        """Return what is stored of a range, if a part may have it: None where its bytes must be read.

        It is whole extents, under the keys and the promises of the upload, with an ETag and a checksum that are known: the whole of an
        object that was put whole, or one part of another. Of any other range nobody knows the MD5.
        """
        if not length or not has_customer_key(source, customer_key):
            return None
        described = await self._described(source, source_bucket, start, length)
        if described is None or not _is_checksum_for(upload, described.checksum):
            return None
        refs = aligned_extents(source.extents, start, length)
        if not refs or not await self._may_share(source, source_bucket, bucket, owner, upload.attributes, refs):
            return None
        return _Piece(described.etag, described.checksum, refs)

    async def _described(self, source: Version, source_bucket: Bucket, start: int, length: int) -> PartSummary | None:
        """Return what is known of a range: of all, or of one part."""
        if not source.parts_count:
            whole = PartSummary(number=1, size=source.size, checksum=source.checksum, etag=source.etag)
            return whole if (start, length) == (0, source.size) else None
        position = 0
        for part in await self._manifest.load_parts(source_bucket.id, source):
            if position >= start:
                return part if (position, part.size) == (start, length) and part.etag else None
            position += part.size
        return None

    async def complete_upload(
        self,
        bucket: Bucket,
        upload: Upload,
        parts: Sequence[CompletedPart],
        *,
        checksum: str | None = None,
        part_claims: Mapping[int, PartClaim] | None = None,
        object_size: int | None = None,
        conditions: Conditions = NO_CONDITIONS,
        cause: Cause | None = None,
    ) -> Version:
        """Make the parts one visible version; no data moves."""
        uploaded = await self._manifest.list_parts(upload.id)
        assembled = assemble(
            upload,
            uploaded,
            parts,
            part_claims=part_claims or {},
            claimed_checksum=checksum,
            claimed_size=object_size,
        )
        draft = with_default_lock(
            bucket,
            VersionDraft(
                bucket_id=bucket.id,
                key=upload.key,
                id=self._new_version_id(),
                versioning=bucket.versioning,
                size=assembled.size,
                etag=assembled.etag,
                modified_ms=self._clock.now_ms(),
                written=self._order.next(),
                attributes=upload.attributes,
                checksum=assembled.checksum,
                parts=assembled.parts,
                cause=cause,
            ),
        )
        return await self._manifest.complete_upload(upload.id, parts, draft, conditions=conditions)

    async def completed_before(self, bucket: Bucket, key: ObjectKey, upload_id: UploadId, parts: Sequence[CompletedPart]) -> Version:
        """Answer a repeated completion as the first one was. Raises `UploadMissing` if there was none."""
        return await self._manifest.find_completed(upload_id, parts, bucket.id, key)

    async def abort_upload(self, upload: Upload) -> None:
        """Give up an upload, and its parts with it. Raises `UploadMissing`."""
        await self._manifest.abort_upload(upload.id, now_ms=self._clock.now_ms())

    async def list_parts(self, upload: Upload, *, after: int, limit: int) -> tuple[Part, ...]:
        """Return parts by number, from behind `after`."""
        return await self._manifest.list_parts(upload.id, after=after, limit=limit)

    async def list_uploads(
        self, bucket: Bucket, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
    ) -> UploadPage:
        """Return uploads by key and time, from behind an upload of a key."""
        return await self._manifest.list_uploads(
            bucket.id, prefix=prefix, delimiter=delimiter, after_key=after_key, after_upload=after_upload, limit=limit
        )


def _is_checksum_for(upload: Upload, checksum: Checksum | None) -> bool:
    """Tell whether a part of the upload may have this checksum: one of its algorithm or, if it named none, one that can be combined."""
    if checksum is None:
        return False
    return checksum.algorithm == upload.checksum_algorithm if upload.checksum_algorithm else combines(checksum.algorithm)
