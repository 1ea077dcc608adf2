"""The verbs that delete: one version for good, or the latest by S3's rules of versioning; one key or many."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.engine.verbs.base import Verbs
from proxy.errors import ProxyError
from proxy.manifest.begun import Begun
from proxy.manifest.drafts import NO_CONDITIONS, Conditions
from proxy.manifest.events import Cause
from proxy.manifest.records import Bucket, ObjectKey, Version, VersionId
from proxy.s3.policy.acl import Acl

AT_ONCE = 64  # the manifest groups commits that wait together


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One of many keys to delete; without a version id, its latest version."""

    key: ObjectKey
    version_id: VersionId | None = None
    conditions: Conditions = NO_CONDITIONS
    cause: Cause | None = None
    bypass_governance: bool = False
    owner: Acl | None = None  # whose a delete marker is, if it is not the bucket owner's


class DeletingVerbs(Verbs):
    """Deletes versions."""

    async def delete_version(
        self, bucket: Bucket, key: ObjectKey, version_id: VersionId, *, bypass_governance: bool = False, cause: Cause | None = None
    ) -> Version | None:
        """Remove one version for good. Return it, or None if it was not there. Raises `VersionLocked`."""
        now_ms = self._clock.now_ms()
        return await self._manifest.delete_version(
            bucket.id, key, version_id, now_ms=now_ms, bypass_governance=bypass_governance, cause=cause
        )

    async def delete_latest(
        self,
        bucket: Bucket,
        key: ObjectKey,
        *,
        conditions: Conditions = NO_CONDITIONS,
        cause: Cause | None = None,
        owner: Acl | None = None,
    ) -> Version | None:
        """Remove or hide the latest version, as the bucket's versioning says. Return the delete marker added, if one was."""
        marker_id = self._new_version_id()
        now_ms = self._clock.now_ms()
        return await self._manifest.delete_latest(
            bucket.id, key, marker_id=marker_id, now_ms=now_ms, conditions=conditions, cause=cause, owner=owner
        )

    def begin_delete_latest(self, bucket: Bucket, key: ObjectKey) -> Begun[Version | None] | None:
        """Begin what `delete_latest` does, if it waits for nothing but its commit; else None, and nothing has been begun."""
        return self._manifest.begin_delete_latest(bucket.id, key, marker_id=self._new_version_id(), now_ms=self._clock.now_ms())

    async def delete_many(self, bucket: Bucket, deletions: Sequence[Deletion]) -> tuple[Version | ProxyError | None, ...]:
        """Delete each on its own: one that fails does not stop the rest. Return what `delete` did, or its error, in the order asked."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def delete(deletion: Deletion) -> Version | ProxyError | None:
            async with turn:
                try:
                    return await self._delete(bucket, deletion)
                except ProxyError as error:
                    return error

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(delete(deletion)) for deletion in deletions]
        return tuple(task.result() for task in tasks)

    async def _delete(self, bucket: Bucket, deletion: Deletion) -> Version | None:
        if deletion.version_id is not None:
            bypass, cause = deletion.bypass_governance, deletion.cause
            return await self.delete_version(bucket, deletion.key, deletion.version_id, bypass_governance=bypass, cause=cause)
        cause, owner = deletion.cause, deletion.owner
        return await self.delete_latest(bucket, deletion.key, conditions=deletion.conditions, cause=cause, owner=owner)
