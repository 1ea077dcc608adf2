"""What every verb of the engine works with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

from proxy.clock import Clock, WriteOrder
from proxy.codec.customer import CustomerKey
from proxy.codec.format import SALT_SIZE
from proxy.engine.ciphers import check_customer_key, cipher_for_client
from proxy.engine.placement import Policy
from proxy.engine.read import Pieces, Reader, ReadKeys
from proxy.engine.write import Writer
from proxy.errors import PolicyMissing
from proxy.keyring import Keyring, TenantCipher
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, ObjectAttributes, Tenant, Version, VersionId


class CustomerKeys(NamedTuple):
    """The customers' keys of a copy: of what is read, and of what is written."""

    source: CustomerKey | None = None
    target: CustomerKey | None = None


NO_KEYS = CustomerKeys()


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

    def _new_salt(self, customer_key: CustomerKey | None) -> bytes:
        """Draw the salt of one body that is to be enciphered. Each attempt has its own: the keystream of another was used."""
        return b"" if customer_key is None else secrets.token_bytes(SALT_SIZE)

    async def _cipher(self, owner: Tenant, attributes: ObjectAttributes) -> TenantCipher:
        """Return the cipher of an object. `owner` is that of its bucket. Raises `KmsKeyMissing`, `KmsKeyDisabled`."""
        return await cipher_for_client(self._manifest, self._keyring, owner, attributes.encryption)

    async def _read_keys(self, version: Version, owner: Tenant, customer_key: CustomerKey | None) -> ReadKeys:
        check_customer_key(version.attributes.encryption, customer_key)
        return ReadKeys(await self._cipher(owner, version.attributes), owner.id, customer_key)

    async def _open_source(
        self, version: Version, owner: Tenant, start: int, length: int, target: Bucket, customer_key: CustomerKey | None
    ) -> Pieces:
        """Return a range of a version, to be written into segments of the target. `owner` is that of the version's bucket."""
        segment_size = self._policy(target).segment_size
        keys = await self._read_keys(version, owner, customer_key)
        return await self._reader.open_source(version, keys, start, length, run_size=segment_size)
