"""`shardgate tenant`: accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.errors import TenantMissing, TenantNotEmpty

if TYPE_CHECKING:
    from proxy.manifest.records import Tenant
    from proxy.services import Services

app = typer.Typer(help="Add, list, disable and remove tenants.", no_args_is_help=True)


@app.command("add")
def add(
    name: str,
    config: ConfigOption = DEFAULT_CONFIG,
    access_key: Annotated[str | None, typer.Option(help="Generated if not given.")] = None,
    secret_key: Annotated[str | None, typer.Option(help="Generated if not given.")] = None,
    display_name: Annotated[str | None, typer.Option(help="The tenant's name if not given.")] = None,
    email: str = "",
    canonical_id: Annotated[str | None, typer.Option(help="64 hexadecimal digits; generated if not given.")] = None,
    account_id: Annotated[str | None, typer.Option(help="12 digits, the account in ARNs; generated if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant and print its credentials. They are shown only once."""
    from proxy.tenancy import add_tenant  # ciphers, which most commands never need

    credentials = with_services(
        config,
        lambda services: add_tenant(
            services.manifest,
            services.keyring,
            services.clock,
            name,
            access_key=access_key,
            secret_key=secret_key,
            display_name=display_name,
            email=email,
            canonical_id=canonical_id,
            account_id=account_id,
        ),
    )
    if as_json:
        print_json(credentials)
    else:
        print(f"aws_access_key_id = {credentials.access_key}\naws_secret_access_key = {credentials.secret_key}")


@app.command("list")
def list_all(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the tenants."""
    tenants = with_services(config, lambda services: services.manifest.list_tenants())
    rows = [
        {
            "name": tenant.name,
            "id": tenant.id,
            "display_name": tenant.display_name,
            "email": tenant.email,
            "account_id": tenant.account_id,
            "canonical_id": tenant.canonical_id,
            "enabled": tenant.enabled,
        }
        for tenant in tenants
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ["name", "account id", "display name", "email", "canonical id", "enabled"]
        print_table("Tenants", columns, [_cells(tenant) for tenant in tenants])


@app.command("disable")
def disable(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Refuse all of a tenant's requests; nothing is deleted."""
    with_services(config, lambda services: _set_enabled(services, name, enabled=False))


@app.command("enable")
def enable(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Accept a tenant's requests again."""
    with_services(config, lambda services: _set_enabled(services, name, enabled=True))


@app.command("remove")
def remove(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Remove a tenant that owns no bucket, and its keys."""
    with_services(config, lambda services: _remove(services, name))


def _cells(tenant: Tenant) -> list[str]:
    enabled = "yes" if tenant.enabled else "no"
    return [tenant.name, tenant.account_id, tenant.display_name, tenant.email, tenant.canonical_id, enabled]


async def find_tenant(services: Services, name: str) -> Tenant:
    """Return the tenant of this name. Raises `TenantMissing`."""
    tenant = await services.manifest.find_tenant_by_name(name)
    if tenant is None:
        raise TenantMissing(f'there is no tenant "{name}"')
    return tenant


async def _set_enabled(services: Services, name: str, *, enabled: bool) -> None:
    await services.manifest.set_tenant_enabled((await find_tenant(services, name)).id, enabled)


async def _remove(services: Services, name: str) -> None:
    tenant = await find_tenant(services, name)
    try:
        await services.manifest.remove_tenant(tenant.id)
    except TenantNotEmpty as error:
        raise TenantNotEmpty(f'tenant "{name}" still owns buckets: delete them first') from error
