"""`shardgate manifest`: the database of what lies where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, with_services
from proxy.config import load_config
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.services import Services

app = typer.Typer(help="Look after the manifest.", no_args_is_help=True)
MEANING = (
    "this takes the manifest for the newest there is, though the stores have seen a newer one. What was stored after this copy was made "
    "cannot be found by it. Nothing of that is deleted now; but deleting an object that this copy shows may delete data that a newer copy "
    "of the object shares. Put the newest manifest back instead, if you have it. If you mean it, say --yes"
)


@app.command("backup")
def backup(
    path: Path,
    config: ConfigOption = DEFAULT_CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Copy the manifest to a file of its own and verify the copy. The server may go on.

    The stores are told that the manifest goes on from here, so that whoever puts the copy back beside newer data is warned.
    """
    from proxy.manifest.sqlite.backup import back_up  # the database, which most commands reach by the services

    size = back_up(Path(load_config(config).manifest.path), path, replace=force)
    print(f"{path}: {size:,} bytes, verified")
    with_services(config, lambda services: services.epoch.move())


@app.command("accept")
def accept(
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Mean it: read what it does first.")] = False,
) -> None:
    """Use a manifest that is older than its stores: what was stored after it was made is lost to it."""
    epoch = with_services(config, lambda services: _accept(services, yes=yes))
    print(f"accepted: the manifest is at epoch {epoch}, and may be written again")


async def _accept(services: Services, *, yes: bool) -> int:
    if not (await services.manifest.find_epoch()).fence:
        raise ConfigError("the manifest is not behind its stores: there is nothing to accept")
    if not yes:
        raise ConfigError(MEANING)
    return (await services.epoch.accept()).number
