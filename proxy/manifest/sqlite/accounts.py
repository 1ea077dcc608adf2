"""Tenants and their access keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import msgspec
from msgspec.structs import replace

from proxy.errors import KmsKeyExists, KmsKeyMissing, TenantExists, TenantMissing, TenantNotEmpty
from proxy.manifest.records import AccessKey, AccessKeyId, KmsKey, KmsKeyId, Role, Tenant, TenantId
from proxy.manifest.sqlite.rows import Connection, encode, one

_tenants = msgspec.msgpack.Decoder(Tenant)
_access_keys = msgspec.msgpack.Decoder(AccessKey)
_kms_keys = msgspec.msgpack.Decoder(KmsKey)
_roles = msgspec.msgpack.Decoder(Role)


def add_tenant(connection: Connection, tenant: Tenant) -> None:
    try:
        row = (tenant.id, tenant.name, tenant.canonical_id, tenant.account_id, encode(tenant))
        connection.execute("INSERT INTO tenant VALUES (?, ?, ?, ?, ?)", row)
    except sqlite3.IntegrityError as error:
        ids = {"canonical_id": f"the canonical id {tenant.canonical_id}", "account_id": f"the account id {tenant.account_id}"}
        what = next((words for column, words in ids.items() if column in str(error)), f"tenant {tenant.name}")
        raise TenantExists(f"{what} exists") from None


def find_tenant(connection: Connection, tenant_id: TenantId) -> Tenant | None:
    return one(connection, "SELECT record FROM tenant WHERE id = ?", (tenant_id,), _tenants)


def find_tenant_by_name(connection: Connection, name: str) -> Tenant | None:
    return one(connection, "SELECT record FROM tenant WHERE name = ?", (name,), _tenants)


def find_account(connection: Connection, account: str) -> Tenant | None:
    return one(connection, "SELECT record FROM tenant WHERE account_id = ? OR canonical_id = ?", (account, account), _tenants)


def find_accounts(connection: Connection, canonical_ids: Collection[str], emails: Collection[str]) -> tuple[Tenant, ...]:
    """Addresses are looked for among all tenants: they are asked for once in a while, when an ACL names one."""
    wanted = {email.lower() for email in emails}
    found = {tenant.id: tenant for tenant in list_tenants(connection) if tenant.email.lower() in wanted} if wanted else {}
    for canonical_id in canonical_ids:
        tenant = one(connection, "SELECT record FROM tenant WHERE canonical_id = ?", (canonical_id,), _tenants)
        if tenant is not None:
            found[tenant.id] = tenant
    return tuple(found.values())


def list_tenants(connection: Connection) -> tuple[Tenant, ...]:
    return tuple(_tenants.decode(row[0]) for row in connection.execute("SELECT record FROM tenant ORDER BY name"))


def set_tenant_enabled(connection: Connection, tenant_id: TenantId, *, enabled: bool) -> None:
    tenant = find_tenant(connection, tenant_id)
    if tenant is None:
        raise TenantMissing(f"no tenant {tenant_id}")
    connection.execute("UPDATE tenant SET record = ? WHERE id = ?", (encode(replace(tenant, enabled=enabled)), tenant_id))


def remove_tenant(connection: Connection, tenant_id: TenantId) -> None:
    if find_tenant(connection, tenant_id) is None:
        raise TenantMissing(f"no tenant {tenant_id}")
    if connection.execute("SELECT 1 FROM bucket WHERE tenant_id = ? LIMIT 1", (tenant_id,)).fetchone():
        raise TenantNotEmpty(f"tenant {tenant_id} still owns buckets: delete them first")
    connection.execute("DELETE FROM access_key WHERE tenant_id = ?", (tenant_id,))
    connection.execute("DELETE FROM kms_key WHERE tenant_id = ?", (tenant_id,))
    connection.execute("DELETE FROM role WHERE tenant_id = ?", (tenant_id,))
    connection.execute("DELETE FROM tenant WHERE id = ?", (tenant_id,))


def add_access_key(connection: Connection, key: AccessKey) -> None:
    if find_tenant(connection, key.tenant_id) is None:
        raise TenantMissing(f"no tenant {key.tenant_id}")
    try:
        connection.execute("INSERT INTO access_key VALUES (?, ?, ?)", (key.id, key.tenant_id, encode(key)))
    except sqlite3.IntegrityError:
        raise TenantExists(f"access key {key.id} exists") from None


def list_access_keys(connection: Connection, tenant_id: TenantId) -> tuple[AccessKey, ...]:
    rows = connection.execute("SELECT record FROM access_key WHERE tenant_id = ? ORDER BY id", (tenant_id,))
    return tuple(_access_keys.decode(row[0]) for row in rows)


def remove_access_key(connection: Connection, access_key: AccessKeyId) -> bool:
    return connection.execute("DELETE FROM access_key WHERE id = ?", (access_key,)).rowcount > 0


def put_role(connection: Connection, role: Role) -> None:
    if find_tenant(connection, role.tenant_id) is None:
        raise TenantMissing(f"no tenant {role.tenant_id}")
    connection.execute("DELETE FROM role WHERE tenant_id = ? AND name = ?", (role.tenant_id, role.name))
    connection.execute("INSERT INTO role VALUES (?, ?, ?)", (role.tenant_id, role.name, encode(role)))


def find_role(connection: Connection, tenant_id: TenantId, name: str) -> Role | None:
    return one(connection, "SELECT record FROM role WHERE tenant_id = ? AND name = ?", (tenant_id, name), _roles)


def list_roles(connection: Connection, tenant_id: TenantId) -> tuple[Role, ...]:
    rows = connection.execute("SELECT record FROM role WHERE tenant_id = ? ORDER BY name", (tenant_id,))
    return tuple(_roles.decode(row[0]) for row in rows)


def remove_role(connection: Connection, tenant_id: TenantId, name: str) -> bool:
    return connection.execute("DELETE FROM role WHERE tenant_id = ? AND name = ?", (tenant_id, name)).rowcount > 0


def add_kms_key(connection: Connection, key: KmsKey) -> None:
    if find_tenant(connection, key.tenant_id) is None:
        raise TenantMissing(f"no tenant {key.tenant_id}")
    try:
        connection.execute("INSERT INTO kms_key VALUES (?, ?, ?, ?)", (key.id, key.tenant_id, key.alias, encode(key)))
    except sqlite3.IntegrityError:
        raise KmsKeyExists(f'the tenant has a KMS key with the alias "{key.alias}" already') from None


def find_kms_key(connection: Connection, key_id: KmsKeyId) -> KmsKey | None:
    return one(connection, "SELECT record FROM kms_key WHERE id = ?", (key_id,), _kms_keys)


def find_kms_key_by_alias(connection: Connection, tenant_id: TenantId, alias: str) -> KmsKey | None:
    return one(connection, "SELECT record FROM kms_key WHERE tenant_id = ? AND alias = ? AND alias <> ''", (tenant_id, alias), _kms_keys)


def list_kms_keys(connection: Connection, tenant_id: TenantId | None) -> tuple[KmsKey, ...]:
    rows = connection.execute("SELECT record FROM kms_key WHERE ?1 IS NULL OR tenant_id = ?1", (tenant_id,))
    return tuple(sorted((_kms_keys.decode(row[0]) for row in rows), key=lambda key: (key.created_ms, key.id)))


def set_kms_key_enabled(connection: Connection, key_id: KmsKeyId, *, enabled: bool) -> None:
    key = find_kms_key(connection, key_id)
    if key is None:
        raise KmsKeyMissing(key_id)
    connection.execute("UPDATE kms_key SET record = ? WHERE id = ?", (encode(replace(key, enabled=enabled)), key_id))


def key_owner(connection: Connection, key_id: str) -> str:
    """Return the tenant whose key this is: a KMS key's, or the tenant of this id."""
    key = find_kms_key(connection, KmsKeyId(key_id))
    return key_id if key is None else key.tenant_id
