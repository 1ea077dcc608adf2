"""The engine: what the server asks for, in S3's verbs."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import cache

from msgspec import msgpack
from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.assembly import assemble
from proxy.engine.body import Body, Digests
from proxy.engine.copy import CopyBody
from proxy.engine.placement import Policy
from proxy.engine.read import Reader
from proxy.engine.write import WriteJob, Writer
from proxy.errors import PolicyMissing
from proxy.keyring import Keyring
from proxy.manifest.conditions import check_conditions
from proxy.manifest.protocol import NO_CONDITIONS, CompletedPart, Conditions, Manifest, VersionDraft
from proxy.manifest.records import (
    Bucket,
    ChecksumAlgorithm,
    ObjectAttributes,
    ObjectKey,
    Part,
    Tenant,
    Upload,
    UploadId,
    Version,
    VersionId,
)  # fmt: skip


class Engine:
    """Writes, reads, copies and assembles objects."""

    def __init__(
        self, *, manifest: Manifest, keyring: Keyring, writer: Writer, reader: Reader, policies: Mapping[str, Policy], clock: Clock
    ) -> None:
        self._manifest = manifest
        self._keyring = keyring
        self._writer = writer
        self._reader = reader
        self._policies = policies
        self._clock = clock

    def new_version_id(self) -> VersionId:
        """Draw an id for a version or delete marker. Whether it will bear it, or be the null one, is decided by the commit."""
        return VersionId(secrets.token_urlsafe(24))

    def new_upload_id(self) -> UploadId:
        return UploadId(secrets.token_urlsafe(48))

    async def put_object(
        self,
        bucket: Bucket,
        tenant: Tenant,
        key: ObjectKey,
        body: Body,
        attributes: ObjectAttributes,
        *,
        conditions: Conditions = NO_CONDITIONS,
    ) -> Version:
        """Store a body as a new version. `PreconditionUnmet` comes before the body is read where it is known by then."""
        if conditions != NO_CONDITIONS:
            check_conditions(await self._manifest.find_version(bucket.id, key), conditions)
        version_id = self.new_version_id()

        @cache  # the label and the manifest tell one moment
        def draft(digests: Digests) -> VersionDraft:
            return VersionDraft(
                bucket_id=bucket.id,
                key=key,
                id=version_id,
                versioning=bucket.versioning,
                size=body.size_bytes,
                etag=digests.md5.hex(),
                modified_ms=self._clock.now_ms(),
                attributes=attributes,
                checksum=digests.checksum,
            )

        policy = self._policy(bucket)
        job = WriteJob(
            policy=policy,
            scheme=policy.scheme_of(attributes.storage_class),
            cipher=self._keyring.tenant_cipher(tenant),
            bucket=bucket.name,
            key=key,
            version_id=version_id,
            record=lambda digests: msgpack.encode(draft(digests)),
        )
        stored = await self._writer.store(job, body)
        finished = replace(draft(stored.digests), new_layouts=stored.layouts)
        return await self._writer.commit(
            stored,
            lambda settlements: self._manifest.commit_version(finished, conditions=conditions, settlements=settlements),
            lambda version: version.extents,
        )

    async def open_read(self, version: Version, tenant: Tenant, start: int, length: int) -> AsyncIterator[memoryview]:
        """Return the bytes start .. start+length-1 of a version, authenticated, as they are fetched.

        `ExtentMissing` if the version is gone since it was found; once this has returned it may go, and is read to its end.
        """
        return await self._reader.open(version, self._keyring.tenant_cipher(tenant), start, length)

    async def copy_object(
        self,
        source: Version,
        source_bucket: Bucket,
        bucket: Bucket,
        tenant: Tenant,
        key: ObjectKey,
        attributes: ObjectAttributes,
        *,
        checksum_algorithm: ChecksumAlgorithm | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> Version:
        """Copy a version. Inside one policy and scheme no data moves: the copy shares the extents, and keeps ETag, parts and checksum."""
        other_checksum = checksum_algorithm is not None and (source.checksum is None or source.checksum.algorithm != checksum_algorithm)
        if other_checksum or not self._may_share(source, source_bucket, bucket, attributes.storage_class):
            algorithm = checksum_algorithm or (source.checksum.algorithm if source.checksum else None)
            body = CopyBody(await self._open_source(source, tenant, 0, source.size, bucket), source.size, algorithm)
            return await self.put_object(bucket, tenant, key, body, attributes, conditions=conditions)
        draft = VersionDraft(
            bucket_id=bucket.id,
            key=key,
            id=self.new_version_id(),
            versioning=bucket.versioning,
            size=source.size,
            etag=source.etag,
            modified_ms=self._clock.now_ms(),
            attributes=attributes,
            checksum=source.checksum,
            parts=source.parts,
            shared_extents=tuple(extent.id for extent in source.extents),
        )
        return await self._manifest.commit_version(draft, conditions=conditions)

    async def upload_part(self, bucket: Bucket, tenant: Tenant, upload: Upload, number: int, body: Body) -> Part:
        """Store a body as a part; a part of this number from before is replaced."""

        @cache
        def part(digests: Digests) -> Part:
            return Part(
                number=number,
                size=body.size_bytes,
                etag=digests.md5.hex(),
                modified_ms=self._clock.now_ms(),
                checksum=digests.checksum,
            )

        policy = self._policy(bucket)
        job = WriteJob(
            policy=policy,
            scheme=policy.scheme_of(upload.attributes.storage_class),
            cipher=self._keyring.tenant_cipher(tenant),
            bucket=bucket.name,
            key=upload.key,
            upload_id=upload.id,
            part_number=number,
            record=lambda digests: msgpack.encode(part(digests)),
        )
        stored = await self._writer.store(job, body)
        finished = part(stored.digests)
        return await self._writer.commit(
            stored,
            lambda settlements: self._manifest.commit_part(upload.id, finished, new_layouts=stored.layouts, settlements=settlements),
            lambda committed: committed.extents,
        )

    async def copy_part(
        self, source: Version, start: int, length: int, bucket: Bucket, tenant: Tenant, upload: Upload, number: int
    ) -> Part:
        """Store a range of a version as a part."""
        body = CopyBody(await self._open_source(source, tenant, start, length, bucket), length, upload.checksum_algorithm)
        return await self.upload_part(bucket, tenant, upload, number, body)

    async def complete_upload(
        self,
        bucket: Bucket,
        upload: Upload,
        parts: Sequence[CompletedPart],
        *,
        checksum: str | None = None,
        part_checksums: Mapping[int, str] | None = None,
        object_size: int | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> Version:
        """Make the parts one visible version; no data moves."""
        uploaded = await self._manifest.list_parts(upload.id)
        assembled = assemble(
            upload,
            uploaded,
            parts,
            part_checksums=part_checksums or {},
            claimed_checksum=checksum,
            claimed_size=object_size,
        )
        draft = VersionDraft(
            bucket_id=bucket.id,
            key=upload.key,
            id=self.new_version_id(),
            versioning=bucket.versioning,
            size=assembled.size,
            etag=assembled.etag,
            modified_ms=self._clock.now_ms(),
            attributes=upload.attributes,
            checksum=assembled.checksum,
            parts=assembled.parts,
        )
        return await self._manifest.complete_upload(upload.id, parts, draft, conditions=conditions)

    async def completed_before(self, bucket: Bucket, key: ObjectKey, upload_id: UploadId, parts: Sequence[CompletedPart]) -> Version:
        """Answer a repeated completion as the first one was. Raises `UploadMissing` if there was none."""
        return await self._manifest.find_completed(upload_id, parts, bucket.id, key)

    def _may_share(self, source: Version, source_bucket: Bucket, bucket: Bucket, storage_class: str) -> bool:
        if (source_bucket.policy, source_bucket.tenant_id) != (bucket.policy, bucket.tenant_id):
            return False
        policy = self._policy(bucket)
        return policy.scheme_of(source.attributes.storage_class) == policy.scheme_of(storage_class)

    async def _open_source(self, version: Version, tenant: Tenant, start: int, length: int, target: Bucket) -> AsyncGenerator[memoryview]:
        segment_size = self._policy(target).segment_size
        return await self._reader.open_source(version, self._keyring.tenant_cipher(tenant), start, length, run_size=segment_size)

    def _policy(self, bucket: Bucket) -> Policy:
        try:
            return self._policies[bucket.policy]
        except KeyError:
            raise PolicyMissing(f"the policy {bucket.policy} of bucket {bucket.name} is not configured any more") from None
