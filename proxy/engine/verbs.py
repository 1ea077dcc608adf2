"""What every verb of the engine works with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from proxy.clock import Clock, WriteOrder
from proxy.engine.placement import Policy
from proxy.engine.read import Pieces, Reader
from proxy.engine.write import Writer
from proxy.errors import PolicyMissing
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, Tenant, Version, VersionId


class Verbs:
    """Base of the engine's verbs, which are grouped by what they are about: buckets, objects, uploads, listings."""

    def __init__(
        self, *, manifest: Manifest, keyring: Keyring, writer: Writer, reader: Reader, policies: Mapping[str, Policy], clock: Clock
    ) -> None:
        self._manifest = manifest
        self._keyring = keyring
        self._writer = writer
        self._reader = reader
        self._policies = policies
        self._clock = clock
        self._order = WriteOrder(clock)

    def _policy(self, bucket: Bucket) -> Policy:
        try:
            return self._policies[bucket.policy]
        except KeyError:
            raise PolicyMissing(f"the policy {bucket.policy} of bucket {bucket.name} is not configured any more") from None

    def _new_version_id(self) -> VersionId:
        """Draw an id for a version or delete marker. Whether it will bear it, or be the null one, is decided by the commit."""
        return VersionId(secrets.token_urlsafe(24))

    async def _open_source(self, version: Version, owner: Tenant, start: int, length: int, target: Bucket) -> Pieces:
        """Return a range of a version, to be written into segments of the target. `owner` is that of the version's bucket."""
        segment_size = self._policy(target).segment_size
        return await self._reader.open_source(version, self._keyring.tenant_cipher(owner), start, length, run_size=segment_size)
