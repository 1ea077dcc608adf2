"""What the manifest does with versions that are to be copied to another bucket."""

from __future__ import annotations

from collections.abc import Collection

from proxy.manifest.records import BucketName
from proxy.manifest.replication import PendingReplica
from proxy.manifest.sqlite import replication, versions
from proxy.manifest.sqlite.adapter.runner import StepRunner
from proxy.s3.replication import ReplicationStatus


class Replication(StepRunner):
    """See the protocol."""

    async def due_replicas(self, *, now_ms: int, limit: int, but_for: Collection[BucketName] = ()) -> tuple[PendingReplica, ...]:
        return await self._list(replication.due_replicas, now_ms, limit, tuple(but_for))

    async def put_off_replica(self, sequence: int, *, due_ms: int) -> None:
        await self._note(replication.put_off_replica, sequence, due_ms)

    async def finish_replica(self, replica: PendingReplica, status: ReplicationStatus | None) -> None:
        await self._write(versions.finish_replica, replica, status)

    async def count_replicas(self) -> tuple[int, int]:
        return await self._list(replication.count_replicas)
