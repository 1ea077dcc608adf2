"""What the commands share: their options, and a way into the services."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from proxy.config import load_config
from proxy.errors import ConfigError
from proxy.paths import is_there

if TYPE_CHECKING:
    from proxy.services import Services

Result = TypeVar("Result")
ConfigOption = Annotated[Path, typer.Option("--config", "-c", envvar="SHARDGATE_CONFIG", help="Configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_CONFIG = Path("config/local.toml")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # what a client may have in a key, and a terminal obeys


def with_services(config: Path, command: Callable[[Services], Awaitable[Result]], *, first: bool = False) -> Result:
    """Open the services, run one command against them, close them.

    Raises `ConfigError` if there is no manifest, unless the command may be the `first`: in the wrong folder, one that only asks would make
    a manifest, a root key and stores there.
    """
    settings = load_config(config)
    manifest = Path(settings.manifest.path).absolute()
    if not first and not is_there(manifest):
        raise ConfigError(
            f"manifest.path: {manifest} does not exist; correct the path, or change to the right folder; for a new installation, run: "
            "shardgate init; if it is lost, run: shardgate recover"
        )

    from proxy.services import open_services  # half a second, and 40 MiB: not for commands that do without

    async def run() -> Result:
        async with open_services(settings) as services:
            return await command(services)

    return asyncio.run(run())


def print_json(data: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def _escaped(control: re.Match[str]) -> str:
    return control[0].encode("unicode_escape").decode()


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console  # 50 ms, where a table is printed
    from rich.table import Table
    from rich.text import Text

    # Text, not str: a key may hold what rich reads as markup.
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # a name that is cut cannot be looked for
    for row in rows:
        table.add_row(*(Text(_CONTROLS.sub(_escaped, cell)) for cell in row))
    # In a file or a pipe: wide, and plain text whatever the environment says of terminals (FORCE_COLOR, TERM).
    console = Console() if sys.stdout.isatty() else Console(width=160, force_terminal=False)
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(table)
