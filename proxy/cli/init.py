"""`shardgate init`: what the first start does, without starting."""

from __future__ import annotations

import configparser
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, with_services
from proxy.config import credentials_path
from proxy.errors import ConfigError
from proxy.paths import is_there

if TYPE_CHECKING:
    from proxy.services import Services

FIRST_TENANT = "local"
_REMEDY = "put back the manifest that belongs to it, or make it anew with: shardgate recover; for a new installation, move the file away"


def init(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make the manifest, the root key and the first tenant, where they are not there yet."""
    path = with_services(config, first_start, first=True)
    print(f"credentials: {path}")


async def first_start(services: Services) -> Path:
    """Make sure there is a tenant; return where the first one's credentials are.

    The credentials are on disk before the manifest knows them: a crash in between leaves a pending file, which the next start takes up.
    Once it has its final name nothing is done again, so that a key revoked later stays revoked. A file of that name from before is never
    replaced: its keys may be the only ones to data whose manifest is missed. Raises `ConfigError`.
    """
    path = credentials_path(services.config)
    pending = path.with_name("credentials.pending")
    if not is_there(pending) and not await services.manifest.list_tenants():
        if is_there(path):
            raise ConfigError(f"data: {path} holds credentials, but the manifest has no tenant; {_REMEDY}")
        _write_pending(pending)
    if is_there(pending):
        await _admit(services, pending)
        _publish(pending, path)
    return path


def _publish(pending: Path, path: Path) -> None:
    try:
        os.link(pending, path)
    except FileExistsError:
        if not pending.samefile(path):  # else a crash came before the next line
            raise ConfigError(f"data: cannot rename {pending} to {path}, which exists already; {_REMEDY}") from None
    pending.unlink()


async def _admit(services: Services, pending: Path) -> None:
    from proxy.tenancy import add_access_key, add_tenant  # ciphers, which most commands never need

    parser = configparser.ConfigParser(interpolation=None)
    parser.read(pending)
    try:
        access_key, secret_key = parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]
    except KeyError as error:
        raise ConfigError(f"{pending} is incomplete; remove it") from error
    manifest, keyring, clock = services.manifest, services.keyring, services.clock
    tenant = await manifest.find_tenant_by_name(FIRST_TENANT)
    if tenant is None:
        await add_tenant(manifest, keyring, clock, FIRST_TENANT, access_key=access_key, secret_key=secret_key)
    elif access_key not in {key.id for key in await manifest.list_access_keys(tenant.id)}:
        await add_access_key(manifest, keyring, clock, tenant, access_key=access_key, secret_key=secret_key)


def _write_pending(path: Path) -> None:
    text = f"[default]\naws_access_key_id = SG{secrets.token_hex(9).upper()}\naws_secret_access_key = {secrets.token_urlsafe(30)}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # never half a file under a name that is read
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
