"""Tenants, their access keys and their KMS keys: making them, with secrets sealed by the tenant's own key."""

from __future__ import annotations

import re
import secrets
import string
from uuid import uuid4

from msgspec import Struct

from proxy.clock import Clock
from proxy.errors import ConfigError
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import AccessKey, AccessKeyId, Caller, KmsKey, KmsKeyId, Role, Tenant, TenantId
from proxy.s3.policy.document import read_identity_policy, read_trust_policy
from proxy.s3.policy.grants import UNRESTRICTED, Restrictions
from proxy.s3.policy.principal import ANONYMOUS, Principal, is_account_id
from proxy.s3.sts.requests import MAX_SECONDS

_KEY_ALPHABET = string.ascii_uppercase + "234567"
MIN_ROLE_SECONDS = 3600  # as IAM's MaxSessionDuration
_USER = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")  # as IAM's
_ALIAS = re.compile(r"[A-Za-z0-9/_-]{1,250}")  # as AWS has them, behind "alias/"


class Credentials(Struct, frozen=True, kw_only=True):
    """What a client signs with. Shown once: the manifest keeps the secret sealed."""

    tenant: str
    access_key: str
    secret_key: str


async def add_tenant(
    manifest: Manifest,
    keyring: Keyring,
    clock: Clock,
    name: str,
    *,
    access_key: str | None = None,
    secret_key: str | None = None,
    display_name: str | None = None,
    email: str = "",
    canonical_id: str | None = None,
    account_id: str | None = None,
) -> Credentials:
    """Make a tenant with a key of its own and one access key. Raises `TenantExists`, or `ConfigError` for a name that cannot be shown."""
    _check_names(name, display_name or name)
    access_key, secret_key = _new_or_checked(access_key, secret_key)
    tenant_id = TenantId(str(uuid4()))
    root_key_id, wrapped = keyring.new_tenant_key(tenant_id)
    tenant = Tenant(
        id=tenant_id,
        name=name,
        canonical_id=_canonical_id(canonical_id),
        account_id=_account_id(account_id),
        display_name=display_name or name,
        email=email,
        root_key_id=root_key_id,
        wrapped_key=wrapped,
        created_ms=clock.now_ms(),
    )
    await manifest.add_tenant(tenant)
    return await add_access_key(manifest, keyring, clock, tenant, access_key=access_key, secret_key=secret_key)


async def add_access_key(
    manifest: Manifest,
    keyring: Keyring,
    clock: Clock,
    tenant: Tenant,
    *,
    access_key: str | None = None,
    secret_key: str | None = None,
    name: str = "",
    policy: str = "",
) -> Credentials:
    """Give a tenant another access key, with the name of a user and a policy if wanted.

    Raises `TenantExists` if its id is taken, `ConfigError` for a name that is none, MalformedPolicy.
    """
    access_key, secret_key = _new_or_checked(access_key, secret_key)
    if name and not _USER.fullmatch(name):
        raise ConfigError(f'"{name}" cannot be the name of a user: it must have 1 to 64 letters, digits or any of _+=,.@-')
    if policy:
        read_identity_policy(policy.encode())
    sealed = keyring.tenant_cipher(tenant).seal_secret(secret_key)
    await manifest.add_access_key(
        AccessKey(
            id=AccessKeyId(access_key), tenant_id=tenant.id, sealed_secret=sealed, created_ms=clock.now_ms(), name=name, policy=policy
        )
    )
    return Credentials(tenant=tenant.name, access_key=access_key, secret_key=secret_key)


async def add_kms_key(manifest: Manifest, keyring: Keyring, clock: Clock, tenant: Tenant, *, alias: str = "") -> KmsKey:
    """Give a tenant another key to encrypt objects under. Raises `KmsKeyExists`, or `ConfigError` for an alias that is none."""
    if alias and (not _ALIAS.fullmatch(alias) or alias.startswith("aws/")):
        raise ConfigError("an alias must have 1 to 250 letters, digits, and any of / _ -, and must not begin with aws/")
    key_id = KmsKeyId(str(uuid4()))
    root_key_id, wrapped = keyring.new_tenant_key(key_id)
    key = KmsKey(id=key_id, tenant_id=tenant.id, alias=alias, root_key_id=root_key_id, wrapped_key=wrapped, created_ms=clock.now_ms())
    await manifest.add_kms_key(key)
    return key


async def put_role(
    manifest: Manifest, clock: Clock, tenant: Tenant, name: str, *, trust: str, policy: str, max_session_seconds: int = MIN_ROLE_SECONDS
) -> None:
    """Make a role, or change the one of this name. Raises MalformedPolicy, and `ConfigError` for a name or a time that AWS would refuse."""
    if not _USER.fullmatch(name):
        raise ConfigError(f'"{name}" cannot be the name of a role: it must have 1 to 64 letters, digits or any of _+=,.@-')
    if not MIN_ROLE_SECONDS <= max_session_seconds <= MAX_SECONDS:
        raise ConfigError(f"a role's sessions may live for {MIN_ROLE_SECONDS} to {MAX_SECONDS} seconds")
    read_trust_policy(trust.encode())
    read_identity_policy(policy.encode())
    await manifest.put_role(
        Role(
            tenant_id=tenant.id,
            name=name,
            trust=trust,
            policy=policy,
            max_session_seconds=max_session_seconds,
            created_ms=clock.now_ms(),
        )
    )


def credentials_of(caller: Caller) -> tuple[Principal, Restrictions]:
    """Return whom an access key stands for, and what it may do at most; without one, nobody in particular."""
    tenant, key = caller.tenant, caller.access_key
    if tenant is None or key is None:
        return ANONYMOUS, UNRESTRICTED
    principal = Principal(tenant.id, key.id, tenant.account_id, tenant.canonical_id, key.user)
    return principal, Restrictions(limits=(("key policy", key.policy),)) if key.policy else UNRESTRICTED


def _new_or_checked(access_key: str | None, secret_key: str | None) -> tuple[str, str]:
    access_key = access_key or "SG" + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(18))
    secret_key = secret_key or secrets.token_urlsafe(30)
    if not (3 <= len(access_key) <= 128 and access_key.isascii() and access_key.isalnum()) or len(secret_key) < 8:
        raise ConfigError("an access key must have 3 to 128 letters and digits, and a secret key at least 8 characters")
    return access_key, secret_key


def _check_names(name: str, display_name: str) -> None:
    # A log line's fields are divided by spaces, and a display name stands in XML, which has no control characters.
    if name.split() != [name] or not name.isprintable():
        raise ConfigError("a tenant's name must have at least one character, printable ones only, and no spaces")
    if not display_name.isprintable():
        raise ConfigError("a display name must have printable characters only")


def _canonical_id(given: str | None) -> str:
    if given is None:
        return secrets.token_hex(32)
    if len(given) != 64 or set(given) - set(string.hexdigits):
        raise ConfigError("a canonical id must have 64 hexadecimal digits")
    return given.lower()


def _account_id(given: str | None) -> str:
    if given is None:
        return str(10**11 + secrets.randbelow(9 * 10**11))  # without a zero before it, which spreadsheets drop
    if not is_account_id(given):
        raise ConfigError("an account id must have 12 digits")
    return given
