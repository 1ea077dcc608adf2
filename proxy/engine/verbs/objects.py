"""The verbs of objects: writing, finding, reading, copying, tagging."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from proxy.codec.customer import CustomerKey
from proxy.engine.ciphers import check_customer_key
from proxy.engine.locking import with_default_lock
from proxy.engine.reading.read import Reading
from proxy.engine.reading.slot_at_hand import SlotAtHand
from proxy.engine.reading.windows import Stored, slot_of
from proxy.engine.verbs.base import NO_KEYS, CustomerKeys, Verbs, has_customer_key
from proxy.engine.verbs.copy import CopyBody
from proxy.engine.writing.body import Body
from proxy.engine.writing.destination import VersionDestination
from proxy.errors import PolicyMoved
from proxy.keyring import TenantCipher
from proxy.manifest.conditions import check_conditions
from proxy.manifest.drafts import NO_CONDITIONS, AttributeChange, Conditions, VersionDraft
from proxy.manifest.events import Cause
from proxy.manifest.records import (
    Bucket,
    Extent,
    ObjectAttributes,
    ObjectKey,
    PartSummary,
    Readable,
    Tenant,
    Version,
    VersionId,
)  # fmt: skip
from proxy.s3.checksums import ChecksumAlgorithm


class ObjectVerbs(Verbs):
    """Writes, finds, reads and copies objects. `owner` is always the bucket's: data is sealed with the owner's key, whoever asks."""

    async def put_object(
        self,
        bucket: Bucket,
        owner: Tenant,
        key: ObjectKey,
        body: Body,
        attributes: ObjectAttributes,
        *,
        customer_key: CustomerKey | None = None,
        conditions: Conditions = NO_CONDITIONS,
        cause: Cause | None = None,
    ) -> Version:
        """Store a body as a new version. `PreconditionUnmet` comes before the body is read where it is known by then.

        The customer's key is the one that the attributes have the check value of.
        """
        if conditions != NO_CONDITIONS:
            check_conditions(await self._manifest.find_version(bucket.id, key), conditions)
        check_customer_key(attributes.encryption, customer_key)
        cipher = self._keyring.tenant_cipher(owner) if attributes.encryption is None else await self._cipher(owner, attributes)
        destination = self._destination(bucket, cipher, key, attributes, customer_key=customer_key, conditions=conditions, cause=cause)
        return await self._write_version(destination, body)

    def put_at_once(
        self, bucket: Bucket, owner: Tenant, key: ObjectKey, body: Body, attributes: ObjectAttributes
    ) -> asyncio.Future[Version] | None:
        """As `put_object`, under the owner's own key, of a body for which nothing has to be waited for before it joins its pack.

        None of any other, of which nothing has been read. What is wrong with the body is raised.
        """
        packer = self._packer
        if packer is None or attributes.encryption is not None:
            return None
        destination = self._destination(bucket, self._keyring.tenant_cipher(owner), key, attributes)
        return packer.begin(destination, body) if packer.takes(destination, body) else None

    def _destination(
        self,
        bucket: Bucket,
        cipher: TenantCipher,
        key: ObjectKey,
        attributes: ObjectAttributes,
        *,
        customer_key: CustomerKey | None = None,
        conditions: Conditions = NO_CONDITIONS,
        cause: Cause | None = None,
    ) -> VersionDestination:
        policy = self._policy(bucket)
        return VersionDestination(
            policy=policy,
            scheme=policy.scheme_of(attributes.storage_class),
            cipher=cipher,
            manifest=self._manifest,
            clock=self._clock,
            order=self._order,
            bucket=bucket,
            customer_key=customer_key,
            customer_salt=self._new_salt(customer_key),
            key=key,
            version_id=self._new_version_id(),
            attributes=attributes,
            conditions=conditions,
            cause=cause,
        )

    async def find_version(self, bucket: Bucket, key: ObjectKey, version_id: VersionId | None = None) -> Version | None:
        """Return the version named, or the latest; it may be a delete marker."""
        return await self._manifest.find_version(bucket.id, key, version_id)

    async def find_readable(self, bucket: Bucket, key: ObjectKey, version_id: VersionId | None = None) -> Readable | None:
        """As `find_version`, for one that is to be read: `open_read` need not ask the manifest for what comes with it."""
        return await self._manifest.find_readable(bucket.id, key, version_id)

    async def load_parts(self, bucket: Bucket, version: Version) -> tuple[PartSummary, ...]:
        """Return the parts that a version was made of. `ExtentMissing` if the version is gone since it was found."""
        return await self._manifest.load_parts(bucket.id, version) if version.parts_count else ()

    async def open_read(
        self,
        version: Version,
        owner: Tenant,
        start: int,
        length: int,
        *,
        extents: Sequence[Extent] = (),
        customer_key: CustomerKey | None = None,
    ) -> Reading:
        """Return the bytes start .. start+length-1 of a version, authenticated, as they are fetched. Its extents may be known already.

        `ExtentMissing` if the version is gone since it was found; once this has returned it may go, and is read to its end.
        """
        return await self._reader.open(version, await self._read_keys(version, owner, customer_key), start, length, extents=extents)

    def slot_at_hand(self, found: Readable, owner: Tenant) -> SlotAtHand | None:
        """Return what reads all of a version at once, time and again, if it is that small and under the owner's own key."""
        if found.version.attributes.encryption is not None:
            return None
        return self._reader.slot_at_hand(Stored(found.extents, slot_of(found.version.extents)), self._keyring.tenant_cipher(owner))

    def read_at_once(self, slot: SlotAtHand) -> bytes | None:
        """Return the object, authenticated, if nobody has to be waited for; else None: `open_read` waits."""
        return self._reader.read_at_once(slot)

    async def copy_object(
        self,
        source: Version,
        source_bucket: Bucket,
        source_owner: Tenant,
        bucket: Bucket,
        owner: Tenant,
        key: ObjectKey,
        attributes: ObjectAttributes,
        *,
        checksum_algorithm: ChecksumAlgorithm | None = None,
        customer_keys: CustomerKeys = NO_KEYS,
        conditions: Conditions = NO_CONDITIONS,
        cause: Cause | None = None,
    ) -> Version:
        """Copy a version. Where what is stored keeps the policy and is under the right keys no data moves: the copy shares it, and keeps
        ETag, parts and checksum.

        With a checksum asked for, the copy has that of its whole content, and an MD5 as its ETag if the source has no such checksum.
        """
        copy = partial(
            self._copy_data, source, source_owner, bucket, owner, key, attributes, checksum_algorithm, customer_keys, conditions, cause
        )
        if not _has_checksum(source, checksum_algorithm) or not has_customer_key(source, customer_keys.target):
            return await copy()
        if not await self._may_share(source, source_bucket, bucket, owner, attributes, source.extents):
            return await copy()
        draft = with_default_lock(
            bucket,
            VersionDraft(
                bucket_id=bucket.id,
                key=key,
                id=self._new_version_id(),
                versioning=bucket.versioning,
                size=source.size,
                etag=source.etag,
                modified_ms=self._clock.now_ms(),
                written=self._order.next(),
                attributes=attributes,
                checksum=source.checksum,
                parts=await self.load_parts(source_bucket, source),
                shared_extents=source.extents,
                cause=cause,
            ),
        )
        try:
            return await self._manifest.commit_version(draft, conditions=conditions)
        except PolicyMoved:
            return await copy()

    async def change_attributes(
        self, bucket: Bucket, key: ObjectKey, version_id: VersionId, change: AttributeChange, *, cause: Cause | None = None
    ) -> Version:
        """Change what a version says about itself, its tags for one. Raises `VersionMissing`, `VersionLocked`."""
        return await self._manifest.change_attributes(bucket.id, key, version_id, change, now_ms=self._clock.now_ms(), cause=cause)

    async def _copy_data(
        self,
        source: Version,
        source_owner: Tenant,
        bucket: Bucket,
        owner: Tenant,
        key: ObjectKey,
        attributes: ObjectAttributes,
        checksum_algorithm: ChecksumAlgorithm | None,
        customer_keys: CustomerKeys,
        conditions: Conditions,
        cause: Cause | None,
    ) -> Version:
        algorithm = checksum_algorithm or (source.checksum.algorithm if source.checksum else None)
        opened = await self._open_source(source, source_owner, 0, source.size, bucket, customer_keys.source)
        body = CopyBody(opened, source.size, algorithm)
        return await self.put_object(
            bucket, owner, key, body, attributes, customer_key=customer_keys.target, conditions=conditions, cause=cause
        )


def _has_checksum(source: Version, wanted: ChecksumAlgorithm | None) -> bool:
    if wanted is None:
        return True
    return source.checksum is not None and (source.checksum.algorithm, source.checksum.type) == (wanted, "FULL_OBJECT")
