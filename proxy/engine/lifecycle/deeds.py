"""What a pass of lifecycle rules does with what it finds: one kind a worker, so that moves, which take long, hold up no expiration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import DueVersion
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, UploadId
from proxy.s3.lifecycle.rules import Configuration
from proxy.s3.notification import SETTING as NOTIFICATION


class Deeds(Protocol):
    """Carries out one kind. It raises what the manifest raises; what a store did not do is told as trouble."""

    moves: bool  # whether it moves versions to other classes, or does all the rest

    def wants(self, configuration: Configuration) -> bool:
        """Tell whether there is anything to look for in a bucket of these rules."""
        ...

    async def on_versions(self, bucket: Bucket, due: Sequence[DueVersion], done: Counter[str]) -> str:
        """Do what is due with versions, count it, and return the first trouble."""
        ...

    async def on_uploads(self, bucket: Bucket, due: Sequence[UploadId], done: Counter[str]) -> None:
        """Do what is due with uploads."""
        ...


async def cause_of(manifest: Manifest, bucket: Bucket, name: str) -> Cause | None:
    """Return what those who listen to the bucket are told; None if nobody does."""
    if NOTIFICATION not in bucket.settings:
        return None
    owner = await manifest.find_tenant(bucket.tenant_id)
    return None if owner is None else Cause(name=name, owner=owner.canonical_id, principal="s3.amazonaws.com")
