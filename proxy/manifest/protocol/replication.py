"""What the manifest promises about versions that are to be copied to another bucket. The steps that make and change versions queue them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from proxy.manifest.records import BucketName
from proxy.manifest.replication import PendingReplica
from proxy.s3.replication import ReplicationStatus


class Replication(Protocol):
    """See `Manifest`."""

    async def due_replicas(
        self, *, now_ms: int, limit: int, but_for: Collection[BucketName] = ()
    ) -> tuple[PendingReplica, ...]: ...  # fmt: skip

    """What is to be copied now, but for some destinations: oldest first; of one key and destination, the first alone. To copy twice does
    no harm."""

    async def put_off_replica(self, sequence: int, *, due_ms: int) -> None: ...
    async def finish_replica(self, replica: PendingReplica, status: ReplicationStatus | None) -> None: ...

    """Forget a replica. Once a version waits for no other, its status becomes the one given, if it is still there; None leaves it."""

    async def count_replicas(self) -> tuple[int, int]: ...  # how many wait, and since when the oldest does; 0 if none
