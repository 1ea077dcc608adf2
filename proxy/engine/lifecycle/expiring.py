"""Expirations: objects and versions that are deleted, markers that are made or removed, uploads that are aborted."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence

from proxy.clock import Clock
from proxy.engine.lifecycle.deeds import cause_of
from proxy.engine.throttle import Throttle
from proxy.manifest.lifecycle import DueVersion, Outcome
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, UploadId, VersionId
from proxy.s3.lifecycle.deciding import aborts, prefixes
from proxy.s3.lifecycle.rules import Configuration

AT_ONCE = 50  # versions that are deleted in one step of the manifest: some 10 ms, in which nobody else commits
_NAMES: Mapping[Outcome, str] = {"expired": "expired", "marked": "marked", "removed": "removed", "locked": "kept_locked"}


class Expirations:
    """Deletes what is due."""

    moves = False

    def __init__(self, manifest: Manifest, clock: Clock, throttle: Throttle) -> None:
        self._manifest = manifest
        self._clock = clock
        self._throttle = throttle

    def wants(self, configuration: Configuration) -> bool:
        return bool(prefixes(configuration)) or aborts(configuration)

    async def on_versions(self, bucket: Bucket, due: Sequence[DueVersion], done: Counter[str]) -> str:
        cause = await cause_of(self._manifest, bucket, "LifecycleExpiration:Delete") if due else None
        for start in range(0, len(due), AT_ONCE):
            await self._throttle.take()
            batch = due[start : start + AT_ONCE]
            marker_ids = [VersionId(secrets.token_urlsafe(24)) for _ in batch]
            outcomes = await self._manifest.carry_out(bucket.id, batch, marker_ids=marker_ids, now_ms=self._clock.now_ms(), cause=cause)
            done.update(_NAMES[outcome] for outcome in outcomes if outcome in _NAMES)
        return ""

    async def on_uploads(self, bucket: Bucket, due: Sequence[UploadId], done: Counter[str]) -> None:
        for upload_id in due:  # one a step: an upload may have ten thousand parts
            await self._throttle.take()
            done["aborted"] += await self._manifest.abort_due(bucket.id, [upload_id], now_ms=self._clock.now_ms())
