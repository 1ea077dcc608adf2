"""`shardgate init`: what the first start does, without starting."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, with_services
from proxy.config import load_config
from proxy.services import Services
from proxy.tenancy import add_tenant

FIRST_TENANT = "local"


def init(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make the manifest, the root key and the first tenant, where they are not there yet."""
    path = with_services(load_config(config), first_start)
    print(f"credentials: {path}")


async def first_start(services: Services) -> Path:
    """Make sure there is a tenant; return where the first one's credentials are."""
    path = Path(services.config.data) / "credentials"
    if not await services.manifest.list_tenants():
        credentials = await add_tenant(services.manifest, services.keyring, services.clock, FIRST_TENANT)
        text = f"[default]\naws_access_key_id = {credentials.access_key}\naws_secret_access_key = {credentials.secret_key}\n"
        _write_private(path, text)
    return path


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
