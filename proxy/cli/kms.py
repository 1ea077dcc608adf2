"""`shardgate kms`: the keys that a tenant's objects may be encrypted under (SSE-KMS)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.cli.tenant import find_tenant
from proxy.manifest.records import KmsKeyId
from proxy.s3.encryption import key_arn

if TYPE_CHECKING:
    from proxy.manifest.records import KmsKey, Tenant
    from proxy.services import Services

app = typer.Typer(help="Add, list, disable and enable KMS keys.", no_args_is_help=True)
Row = dict[str, str | bool]


@app.command("add")
def add(
    tenant: str,
    alias: Annotated[str, typer.Option(help="What clients may call it by, behind alias/.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a key that the tenant's objects may be encrypted under, and print its id."""
    row = with_services(config, lambda services: _add(services, tenant, alias))
    if as_json:
        print_json(row)
    else:
        print(row["arn"])


@app.command("list")
def list_all(tenant: str, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List a tenant's KMS keys; aws/s3 is the tenant key, which clients get that name none."""
    rows = with_services(config, lambda services: _list(services, tenant))
    if as_json:
        print_json(rows)
    else:
        shown = [
            [str(row["key"]), str(row["alias"]), "yes" if row["enabled"] else "no", str(row["created"]), str(row["arn"])] for row in rows
        ]
        print_table(f"KMS keys of {tenant}", ["key", "alias", "enabled", "created", "arn"], shown)


@app.command("disable")
def disable(key: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Refuse to read or write whatever is under a key, from the next request on. Nothing is deleted."""
    with_services(config, lambda services: services.manifest.set_kms_key_enabled(KmsKeyId(key), False))


@app.command("enable")
def enable(key: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Read and write under a key again."""
    with_services(config, lambda services: services.manifest.set_kms_key_enabled(KmsKeyId(key), True))


async def _add(services: Services, name: str, alias: str) -> Row:
    from proxy.tenancy import add_kms_key  # ciphers, which most commands never need

    tenant = await find_tenant(services, name)
    key = await add_kms_key(services.manifest, services.keyring, services.clock, tenant, alias=alias)
    return _row(services, tenant, key.id, alias, key.created_ms)


async def _list(services: Services, name: str) -> list[Row]:
    tenant = await find_tenant(services, name)
    keys: tuple[KmsKey, ...] = await services.manifest.list_kms_keys(tenant.id)
    own = _row(services, tenant, tenant.id, "aws/s3", tenant.created_ms)
    return [own, *(_row(services, tenant, key.id, key.alias, key.created_ms, enabled=key.enabled) for key in keys)]


def _row(services: Services, tenant: Tenant, key_id: str, alias: str, created_ms: int, *, enabled: bool = True) -> Row:
    return {
        "key": key_id,
        "alias": alias,
        "enabled": enabled,
        "created": datetime.fromtimestamp(created_ms / 1000, UTC).isoformat(timespec="seconds"),
        "arn": key_arn(key_id, region=services.config.region, account_id=tenant.account_id),
    }
