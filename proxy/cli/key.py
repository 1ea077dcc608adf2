"""`shardgate key`: a tenant's access keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.cli.policy_files import read_policy_file
from proxy.cli.tenant import find_tenant
from proxy.errors import ConfigError, TenantMissing
from proxy.manifest.records import AccessKey, AccessKeyId

if TYPE_CHECKING:
    from proxy.services import Services
    from proxy.tenancy import Credentials

app = typer.Typer(help="Add, list and revoke access keys.", no_args_is_help=True)


@app.command("add")
def add(
    tenant: str,
    config: ConfigOption = DEFAULT_CONFIG,
    name: Annotated[str, typer.Option(help="Of the user that the key stands for in policies; none: the tenant itself.")] = "",
    policy: Annotated[Path | None, typer.Option(help="A policy document: the key may do nothing else.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="The key may only read and list.")] = False,
    bucket: Annotated[list[str] | None, typer.Option(help="The key may reach this bucket alone; several may be given.")] = None,
    prefix: Annotated[
        list[str] | None, typer.Option(help="In its buckets the key may reach this prefix alone; several may be given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make another access key for a tenant and print it. It is shown only once."""
    document = _policy(policy, read_only=read_only, buckets=bucket or [], prefixes=prefix or [])
    credentials = with_services(config, lambda services: _add(services, tenant, name, document))
    if as_json:
        print_json(credentials)
    else:
        print(f"aws_access_key_id = {credentials.access_key}\naws_secret_access_key = {credentials.secret_key}")


@app.command("list")
def list_all(tenant: str, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List a tenant's access keys, with their names and policies."""
    keys = with_services(config, lambda services: _list(services, tenant))
    rows = [
        {
            "access_key": key.id,
            "name": key.name,
            "created": datetime.fromtimestamp(key.created_ms / 1000, UTC).isoformat(timespec="seconds"),
            "policy": msgspec.json.decode(key.policy) if key.policy else None,
        }
        for key in keys
    ]
    if as_json:
        print_json(rows)
    else:
        cells = [[*(str(row[name]) for name in ("access_key", "name", "created")), key.policy] for row, key in zip(rows, keys, strict=True)]
        print_table(f"Access keys of {tenant}", ["access key", "name", "created", "policy"], cells)


@app.command("revoke")
def revoke(access_key: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Revoke an access key. It stops working with the next request."""
    if not with_services(config, lambda services: services.manifest.remove_access_key(AccessKeyId(access_key))):
        raise TenantMissing(f"there is no access key {access_key}")


def _policy(path: Path | None, *, read_only: bool, buckets: list[str], prefixes: list[str]) -> str:
    """Return the policy of a new key; "" for none."""
    if path is not None and (read_only or buckets or prefixes):
        raise ConfigError("--policy says all that the key may do: leave out --read-only, --bucket and --prefix")
    if prefixes and not buckets:
        raise ConfigError("--prefix needs --bucket: a prefix is one of a bucket")
    if path is not None:
        from proxy.s3.policy.document import read_identity_policy

        return read_policy_file(path, read_identity_policy)
    if not read_only and not buckets:
        return ""
    from proxy.s3.policy.restrictions import restricting_policy

    return restricting_policy(read_only=read_only, buckets=buckets, prefixes=prefixes)


async def _add(services: Services, tenant: str, name: str, policy: str) -> Credentials:
    from proxy.tenancy import add_access_key  # ciphers, which most commands never need

    found = await find_tenant(services, tenant)
    return await add_access_key(services.manifest, services.keyring, services.clock, found, name=name, policy=policy)


async def _list(services: Services, name: str) -> tuple[AccessKey, ...]:
    return await services.manifest.list_access_keys((await find_tenant(services, name)).id)
