"""The verb of replication: a version, made again in another bucket."""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from proxy.engine.locking import with_default_lock
from proxy.engine.verbs.copy import CopyBody
from proxy.engine.verbs.objects import ObjectVerbs
from proxy.engine.writing.body import Digests
from proxy.engine.writing.destination import VersionDestination
from proxy.errors import PolicyMoved, ReplicaRefused
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import Bucket, ObjectAttributes, PartSummary, Tenant, Version


class ReplicaDestination(VersionDestination, frozen=True, kw_only=True):
    """A version that says of itself what its source does: ETag, checksum, parts and time are those of the source."""

    source: Version
    parts: tuple[PartSummary, ...]

    def record(self, digests: Digests, size_bytes: int) -> VersionDraft:
        draft = super().record(digests, size_bytes)
        return _as_source(draft, self.source, self.attributes, self.parts, self.bucket)


class ReplicaVerbs(ObjectVerbs):
    """Copies versions to other buckets of the same owner."""

    async def replicate(self, source: Version, source_bucket: Bucket, bucket: Bucket, owner: Tenant, storage_class: str) -> Version:
        """Make a version in another bucket, with the same id, and all that the source says of itself.

        Inside one policy no data moves. `ReplicaRefused` for what cannot be stored anew without its customer's key.
        """
        storage_class = storage_class or source.attributes.storage_class
        attributes = replace(source.attributes, storage_class=storage_class, replication="REPLICA")
        parts = await self.load_parts(source_bucket, source)
        if await self._may_share(source, source_bucket, bucket, owner, attributes, source.extents):
            draft = VersionDraft(
                bucket_id=bucket.id,
                key=source.key,
                id=source.id,
                versioning=bucket.versioning,
                size=source.size,
                written=self._order.next(),
                modified_ms=source.modified_ms,
                shared_extents=source.extents,
            )
            with suppress(PolicyMoved):
                return await self._manifest.commit_version(_as_source(draft, source, attributes, parts, bucket))
        await self._refuse_enciphered(source)
        policy = self._policy(bucket)
        destination = ReplicaDestination(
            policy=policy,
            scheme=policy.scheme_of(storage_class),
            cipher=await self._cipher(owner, attributes),
            manifest=self._manifest,
            clock=self._clock,
            order=self._order,
            bucket=bucket,
            key=source.key,
            version_id=source.id,
            attributes=attributes,
            source=source,
            parts=parts,
        )
        opened = await self._open_source(source, owner, 0, source.size, bucket, None)
        return await self._write_version(destination, CopyBody(opened, source.size, None))

    async def _refuse_enciphered(self, source: Version) -> None:
        extents = await self._manifest.load_extents([extent.id for extent in source.extents])
        if any(extent.layout.customer_salt for extent in extents):
            raise ReplicaRefused("its bytes are under a customer's key, so that only a bucket of the same placement policy can have them")


def _as_source(
    draft: VersionDraft, source: Version, attributes: ObjectAttributes, parts: tuple[PartSummary, ...], bucket: Bucket
) -> VersionDraft:
    """Return the draft of a replica. Where its source has no retention, it has the default of its own bucket, as on AWS."""
    draft = replace(draft, etag=source.etag, checksum=source.checksum, modified_ms=source.modified_ms, attributes=attributes, parts=parts)
    return with_default_lock(bucket, replace(draft, default_lock=False))
