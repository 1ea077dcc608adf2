"""`shardgate key`: a tenant's access keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.cli.tenant import find_tenant
from proxy.errors import TenantMissing
from proxy.manifest.records import AccessKey, AccessKeyId

if TYPE_CHECKING:
    from proxy.services import Services
    from proxy.tenancy import Credentials

app = typer.Typer(help="Add, list and revoke access keys.", no_args_is_help=True)


@app.command("add")
def add(tenant: str, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Make another access key for a tenant and print it. It is shown only once."""
    credentials = with_services(config, lambda services: _add(services, tenant))
    if as_json:
        print_json(credentials)
    else:
        print(f"aws_access_key_id = {credentials.access_key}\naws_secret_access_key = {credentials.secret_key}")


@app.command("list")
def list_all(tenant: str, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List a tenant's access keys."""
    keys = with_services(config, lambda services: _list(services, tenant))
    rows = [{"access_key": key.id, "created": datetime.fromtimestamp(key.created_ms / 1000, UTC).isoformat()} for key in keys]
    if as_json:
        print_json(rows)
    else:
        print_table(f"Access keys of {tenant}", ["access key", "created"], [list(row.values()) for row in rows])


@app.command("revoke")
def revoke(access_key: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Revoke an access key. It stops working with the next request."""
    if not with_services(config, lambda services: services.manifest.remove_access_key(AccessKeyId(access_key))):
        raise TenantMissing(f"there is no access key {access_key}")


async def _add(services: Services, name: str) -> Credentials:
    from proxy.tenancy import add_access_key  # ciphers, which most commands never need

    return await add_access_key(services.manifest, services.keyring, services.clock, await find_tenant(services, name))


async def _list(services: Services, name: str) -> tuple[AccessKey, ...]:
    return await services.manifest.list_access_keys((await find_tenant(services, name)).id)
