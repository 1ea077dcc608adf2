"""`shardgate role`: what a tenant lets others become for a while."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.cli.policy_files import read_policy_file
from proxy.cli.tenant import find_tenant
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.services import Services

app = typer.Typer(help="Put, list and remove roles.", no_args_is_help=True)
Row = dict[str, object]


@app.command("put")
def put(
    tenant: str,
    name: str,
    trust: Annotated[Path, typer.Option(help="A policy document: who may become the role.")],
    policy: Annotated[Path, typer.Option(help="A policy document: what the role may do.")],
    config: ConfigOption = DEFAULT_CONFIG,
    max_session_seconds: Annotated[int, typer.Option(help="How long a session may live, 3600 to 43200.")] = 3600,
) -> None:
    """Make a role, or change the one of this name, and print its ARN. Sessions go by it from the next request on."""
    from proxy.s3.policy.document import read_identity_policy, read_trust_policy

    texts = read_policy_file(trust, read_trust_policy), read_policy_file(policy, read_identity_policy)
    print(with_services(config, lambda services: _put(services, tenant, name, texts, max_session_seconds)))


@app.command("list")
def list_all(tenant: str, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List a tenant's roles, with their policies."""
    rows = with_services(config, lambda services: _list(services, tenant))
    if as_json:
        print_json(rows)
        return
    columns = ["name", "arn", "max_session_seconds", "trust", "policy"]
    shown = [[text if isinstance(text := row[name], str) else msgspec.json.encode(text).decode() for name in columns] for row in rows]
    print_table(f"Roles of {tenant}", ["name", "arn", "longest session (s)", "trust", "policy"], shown)


@app.command("remove")
def remove(tenant: str, name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Remove a role. Its sessions end with their next request."""
    if not with_services(config, lambda services: _remove(services, tenant, name)):
        raise ConfigError(f'tenant "{tenant}" has no role "{name}"')


async def _put(services: Services, tenant: str, name: str, texts: tuple[str, str], max_session_seconds: int) -> str:
    from proxy.s3.policy.principal import role_arn
    from proxy.tenancy import put_role

    found = await find_tenant(services, tenant)
    trust, policy = texts
    await put_role(services.manifest, services.clock, found, name, trust=trust, policy=policy, max_session_seconds=max_session_seconds)
    return role_arn(found.account_id, name)


async def _list(services: Services, name: str) -> list[Row]:
    from proxy.s3.policy.principal import role_arn

    tenant = await find_tenant(services, name)
    return [
        {
            "name": role.name,
            "arn": role_arn(tenant.account_id, role.name),
            "created": datetime.fromtimestamp(role.created_ms / 1000, UTC).isoformat(timespec="seconds"),
            "max_session_seconds": role.max_session_seconds,
            "trust": msgspec.json.decode(role.trust),
            "policy": msgspec.json.decode(role.policy),
        }
        for role in await services.manifest.list_roles(tenant.id)
    ]


async def _remove(services: Services, tenant: str, name: str) -> bool:
    return await services.manifest.remove_role((await find_tenant(services, tenant)).id, name)
