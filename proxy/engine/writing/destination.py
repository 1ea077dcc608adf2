"""Where a body goes: a version of an object, or a part of an upload.

A destination knows what the labels of its segments say, what is recorded of the body once it is whole, and how that becomes visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from proxy.clock import Clock, WriteOrder
from proxy.codec.customer import CustomerKey, Keystream
from proxy.codec.geometry import Scheme
from proxy.codec.label import Label
from proxy.engine.locking import with_default_lock
from proxy.engine.placing.placement import Policy
from proxy.engine.writing.body import Digests
from proxy.keyring import TenantCipher
from proxy.manifest.campaigns import Exchanged
from proxy.manifest.drafts import NO_CONDITIONS, Conditions, VersionDraft
from proxy.manifest.events import Cause
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import (
    Bucket,
    Layout,
    ObjectAttributes,
    ObjectKey,
    Part,
    Record,
    Settlement,
    Upload,
    Version,
    VersionId,
)  # fmt: skip

Recorded = TypeVar("Recorded", bound=Record)
Committed = TypeVar("Committed", Version, Part, Exchanged)


class Destination(Struct, Generic[Recorded, Committed], frozen=True, kw_only=True):
    """What a body becomes, and under which policy, scheme and keys it is stored. A struct: each PUT makes one, in a quarter of the time.

    With a `customer_key`, the body is enciphered under it, and the salt is one that was drawn for this body alone. A salt without a key is
    that of a body which comes enciphered.
    """

    policy: Policy
    scheme: Scheme
    cipher: TenantCipher
    manifest: Manifest
    clock: Clock
    order: WriteOrder
    bucket: Bucket
    customer_key: CustomerKey | None = None
    customer_salt: bytes = b""

    def keystream(self) -> Keystream | None:
        """Return what enciphers the body, from its first byte on. Called once."""
        return None if self.customer_key is None else self.customer_key.stream(self.customer_salt)

    def etag(self, digests: Digests) -> str:
        """Return the body's ETag: its MD5, unless a customer's key is to hide what is in it."""
        return digests.md5.hex() if self.customer_key is None else self.customer_key.etag(self.customer_salt, digests.md5)

    def label(self, segment: int, offset: int, record: bytes) -> Label:
        """Return the label of a segment. `record` is empty in all but the last."""
        raise NotImplementedError

    def record(self, digests: Digests, size_bytes: int) -> Recorded:
        """Return the record of the whole body. Called once: the last label and the manifest tell the same moment."""
        raise NotImplementedError

    async def commit(self, recorded: Recorded, layouts: tuple[Layout, ...], settlements: Sequence[Settlement]) -> Committed:
        """Make the body visible in one manifest transaction, which settles the leased ids."""
        raise NotImplementedError


class VersionDestination(Destination[VersionDraft, Version], frozen=True, kw_only=True):
    """A new version of an object."""

    key: ObjectKey
    version_id: VersionId
    attributes: ObjectAttributes
    conditions: Conditions = NO_CONDITIONS
    cause: Cause | None = None

    def label(self, segment: int, offset: int, record: bytes) -> Label:
        return Label(bucket=self.bucket.name, key=self.key, version_id=self.version_id, segment=segment, offset=offset, record=record)

    def record(self, digests: Digests, size_bytes: int) -> VersionDraft:
        return with_default_lock(
            self.bucket,
            VersionDraft(
                bucket_id=self.bucket.id,
                key=self.key,
                id=self.version_id,
                versioning=self.bucket.versioning,
                conditional=self.conditions != NO_CONDITIONS,
                written=self.order.next(),
                size=size_bytes,
                etag=self.etag(digests),
                modified_ms=self.clock.now_ms(),
                attributes=self.attributes,
                checksum=digests.checksum,
                customer_salt=self.customer_salt,
            ),
        )

    async def commit(self, recorded: VersionDraft, layouts: tuple[Layout, ...], settlements: Sequence[Settlement]) -> Version:
        draft = replace(recorded, new_layouts=layouts, cause=self.cause)
        return await self.manifest.commit_version(draft, conditions=self.conditions, settlements=settlements)


class PartDestination(Destination[Part, Part], frozen=True, kw_only=True):
    """A part of a multipart upload."""

    upload: Upload
    number: int

    def label(self, segment: int, offset: int, record: bytes) -> Label:
        return Label(
            bucket=self.bucket.name,
            key=self.upload.key,
            upload_id=self.upload.id,
            part_number=self.number,
            segment=segment,
            offset=offset,
            record=record,
        )

    def record(self, digests: Digests, size_bytes: int) -> Part:
        return Part(
            number=self.number,
            size=size_bytes,
            etag=self.etag(digests),
            modified_ms=self.clock.now_ms(),
            written=self.order.next(),
            checksum=digests.checksum,
            customer_salt=self.customer_salt,
            claimed=digests.claimed,
        )

    async def commit(self, recorded: Part, layouts: tuple[Layout, ...], settlements: Sequence[Settlement]) -> Part:
        return await self.manifest.commit_part(self.upload.id, recorded, new_layouts=layouts, settlements=settlements)
