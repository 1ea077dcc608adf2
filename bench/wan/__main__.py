"""`python -m bench.wan`: measure Shardgate over six distant buckets, in every state they can be in."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.servers import ServerFailed
from bench.wan.campaign import FULL, QUICK, TROUBLES, measure, narrowed
from bench.wan.table import as_json, table

console = Console(width=170)


def main(
    quick: Annotated[bool, typer.Option(help="Fewer requests and operations, about a minute.")] = False,
    state: Annotated[list[str] | None, typer.Option(help=f"Only these beside healthy: {', '.join(TROUBLES)}.")] = None,
    operation: Annotated[list[str] | None, typer.Option(help='Only these, as in "PUT 64 KiB".')] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns of each side: more make a p99 surer.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every latency here.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the manifests are.")] = None,
    keep_logs: Annotated[Path | None, typer.Option(help="Keep the proxies' logs in this folder.")] = None,
) -> None:
    """Measure, and print the ratio first."""
    data = Path(tempfile.mkdtemp(prefix="shardgate-wan-", dir=folder))
    began = time.monotonic()
    try:
        scale = narrowed(QUICK if quick else FULL, rounds, operation)
        findings = measure(data, scale, console.print, states=state or tuple(TROUBLES))
        console.print(table(findings))
        if json_file is not None:
            json_file.write_text(as_json(findings) + "\n")
        console.print(f"{time.monotonic() - began:.0f} s")
    except (ServerFailed, ValueError) as error:
        console.print(f"bench: {error}", markup=False)
        raise typer.Exit(1) from error
    finally:
        if keep_logs is not None:
            _keep(data, keep_logs)
        shutil.rmtree(data, ignore_errors=True)


def _keep(data: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for log in data.rglob("log"):
        shutil.copy(log, folder / "-".join(log.relative_to(data).parent.parts))


typer.run(main)
