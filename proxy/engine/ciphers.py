"""Which key opens what: the tenant's, a KMS key of the tenant, and beneath it perhaps a customer's.

A KMS key that is disabled opens nothing for clients. What keeps shards alive asks nobody: a disabled key must not cost data.
"""

from __future__ import annotations

from proxy.codec.customer import CustomerKey
from proxy.errors import CustomerKeyMissing, CustomerKeyNeedless, CustomerKeyWrong, KeyUnavailable, KmsKeyDisabled, KmsKeyMissing
from proxy.keyring import Keyring, TenantCipher
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Encryption, KmsKey, KmsKeyId, Layout, Tenant, TenantId


async def cipher_of(manifest: Manifest, keyring: Keyring, layout: Layout) -> TenantCipher:
    """Return the cipher of a layout, for background work. Raises `KeyUnavailable`."""
    holder: Tenant | KmsKey | None = await manifest.find_tenant(TenantId(layout.tenant_key_id))
    if holder is None:
        holder = await manifest.find_kms_key(KmsKeyId(layout.tenant_key_id))
    if holder is None:
        raise KeyUnavailable(f"there is no tenant and no KMS key {layout.tenant_key_id}")
    return keyring.tenant_cipher(holder)


async def cipher_for_client(manifest: Manifest, keyring: Keyring, owner: Tenant, encryption: Encryption | None) -> TenantCipher:
    """Return the cipher under which a client's data is, or will be. Raises `KmsKeyMissing`, `KmsKeyDisabled`, `KeyUnavailable`."""
    key_id = owner.id if encryption is None else encryption.kms_key_id or owner.id
    if key_id == owner.id:
        return keyring.tenant_cipher(owner)
    key = await manifest.find_kms_key(KmsKeyId(key_id))
    if key is None or key.tenant_id != owner.id:
        raise KmsKeyMissing(key_id)
    if not key.enabled:
        raise KmsKeyDisabled(key_id)
    return keyring.tenant_cipher(key)


def check_customer_key(encryption: Encryption | None, key: CustomerKey | None) -> None:
    """Compare the customer's key that came with a request with what is known of the object's. Raises a `CustomerKeyRefused`."""
    check = b"" if encryption is None else encryption.customer_check
    if not check:
        if key is not None:
            raise CustomerKeyNeedless("the object is under no customer's key")
    elif key is None:
        raise CustomerKeyMissing("the object is under a customer's key")
    elif not key.fits(check):
        raise CustomerKeyWrong("the object is under another customer's key")
