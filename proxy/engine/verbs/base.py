"""What every verb of the engine works with."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Mapping, Sequence
from typing import NamedTuple

from proxy.clock import Clock, WriteOrder
from proxy.codec.customer import CustomerKey
from proxy.codec.format import SALT_SIZE
from proxy.engine.ciphers import check_customer_key, cipher_for_client
from proxy.engine.packing.pack import Packer
from proxy.engine.placing.classify import keeps_promises
from proxy.engine.placing.placement import Policy
from proxy.engine.reading.read import Reader, ReadKeys, Source
from proxy.engine.version_ids import VersionIds
from proxy.engine.writing.body import Body
from proxy.engine.writing.destination import VersionDestination
from proxy.engine.writing.write import Writer
from proxy.errors import CustomerKeyRefused, PolicyMissing
from proxy.keyring import Keyring, TenantCipher
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, ExtentRef, ObjectAttributes, Tenant, Version, VersionId


class CustomerKeys(NamedTuple):
    """The customers' keys of a copy: of what is read, and of what is written."""

    source: CustomerKey | None = None
    target: CustomerKey | None = None


NO_KEYS = CustomerKeys()


class Verbs:
    """Base of the engine's verbs, which are grouped by what they are about: buckets, objects, uploads, listings."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        keyring: Keyring,
        writer: Writer,
        packer: Packer | None,
        reader: Reader,
        policies: Mapping[str, Policy],
        clock: Clock,
    ) -> None:
        """Without a `packer`, each object is stored as segments of its own."""
        self._manifest = manifest
        self._keyring = keyring
        self._writer = writer
        self._packer = packer
        self._reader = reader
        self._policies = policies
        self._clock = clock
        self._order = WriteOrder(clock)
        self._version_ids = VersionIds()

    def _policy(self, bucket: Bucket) -> Policy:
        try:
            return self._policies[bucket.policy]
        except KeyError:
            raise PolicyMissing(f"the policy {bucket.policy} of bucket {bucket.name} is not configured any more") from None

    def _new_version_id(self) -> VersionId:
        """Draw an id for a version or delete marker. Whether it will bear it, or be the null one, is decided by the commit."""
        return self._version_ids.next()

    def _new_salt(self, customer_key: CustomerKey | None) -> bytes:
        """Draw the salt of one body that is to be enciphered. Each attempt has its own: the keystream of another was used."""
        return b"" if customer_key is None else secrets.token_bytes(SALT_SIZE)

    def _write_version(self, destination: VersionDestination, body: Body) -> Awaitable[Version]:
        """Store a body as a version, with others in a pack if it is one for that."""
        packer = self._packer
        if packer is not None and packer.takes(destination, body):
            return packer.write(destination, body)
        return self._writer.write(destination, body)

    async def _cipher(self, owner: Tenant, attributes: ObjectAttributes) -> TenantCipher:
        """Return the cipher of an object. `owner` is that of its bucket. Raises `KmsKeyMissing`, `KmsKeyDisabled`."""
        return await cipher_for_client(self._manifest, self._keyring, owner, attributes.encryption)

    async def _read_keys(self, version: Version, owner: Tenant, customer_key: CustomerKey | None) -> ReadKeys:
        encryption = version.attributes.encryption
        check_customer_key(encryption, customer_key)
        cipher = self._keyring.tenant_cipher(owner) if encryption is None else await self._cipher(owner, version.attributes)
        return ReadKeys(cipher, owner.id, customer_key)

    async def _open_source(
        self, version: Version, owner: Tenant, start: int, length: int, target: Bucket, customer_key: CustomerKey | None
    ) -> Source:
        """Return a range of a version, to be written into segments of the target. `owner` is that of the version's bucket."""
        segment_size = self._policy(target).segment_size
        keys = await self._read_keys(version, owner, customer_key)
        return await self._reader.open_source(version, keys, start, length, run_size=segment_size)

    async def _may_share(
        self, source: Version, source_bucket: Bucket, bucket: Bucket, owner: Tenant, attributes: ObjectAttributes, refs: Sequence[ExtentRef]
    ) -> bool:
        """Tell whether a copy may share extents of its source. Customers' keys are looked at elsewhere: see `has_customer_key`."""
        if (source_bucket.policy, source_bucket.tenant_id) != (bucket.policy, bucket.tenant_id):
            return False
        await self._cipher(owner, source.attributes)  # to a disabled key a copy is a read, whether data moves or not
        cipher = await self._cipher(owner, attributes)
        policy = self._policy(bucket)
        scheme = policy.scheme_of(attributes.storage_class)
        extents = await self._manifest.load_extents([ref.id for ref in refs])
        return all(extent.layout.tenant_key_id == cipher.key_id and keeps_promises(policy, scheme, extent.layout) for extent in extents)


def has_customer_key(source: Version, customer_key: CustomerKey | None) -> bool:
    """Tell whether what is stored of a version is under this key, or under none if there is none: then a copy may share it."""
    try:
        check_customer_key(source.attributes.encryption, customer_key)
    except CustomerKeyRefused:
        return False
    return True
