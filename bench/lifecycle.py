"""The walk for lifecycle rules over a large bucket: fills a manifest of its own with many keys, and counts what it looks at in a second.

`python -m bench.lifecycle` puts ten million keys, of which none is due: once because all are too young, once because no filter takes them.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.listing import BUCKET, FOLDERS, PAGE, begin, fill
from proxy.clock import SystemClock
from proxy.engine.lifecycle.worker import DUE, ROWS
from proxy.manifest.lifecycle import Place
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite import open_sqlite
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import DAY_MS, SETTING, encode_configuration

MADE_MS = 1_700_000_000_000  # when the first of the keys was made; each later one a millisecond after
FILTERS: tuple[dict[str, object], ...] = (
    {"Tag": {"Key": "temporary", "Value": "yes"}},
    {"ObjectSizeGreaterThan": 1_000_000_000},
    {"Prefix": "folder-000001/"},
)


def main(
    keys: Annotated[int, typer.Option(min=FOLDERS * (PAGE + 1), help="How many keys.")] = 10_000_000,
    folder: Annotated[Path | None, typer.Option(help="Where the manifest is made, and removed again.")] = None,
) -> None:
    """Walk all keys for rules that want none of them."""
    place = Path(tempfile.mkdtemp(prefix="shardgate-lifecycle-", dir=folder))
    try:
        path = place / "manifest.sqlite"
        asyncio.run(begin(path))
        fill(path, keys)
        Console().print(asyncio.run(_measured(path, f"{keys:,} keys, {path.stat().st_size / 1e9:.1f} GB")))
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _measured(path: Path, title: str) -> Table:
    table = Table("a walk of all versions", "rows", "rows a CPU second", "CPU s", "CPU ms a page", title=title)
    async with open_sqlite(path, SystemClock()) as manifest:
        # The last filter's prefix would keep the walk to one folder: it is tried alone.
        for name, filters, days in (
            ("all too young", FILTERS[:2], 3),
            ("old enough, and no filter takes them", FILTERS[:2], 300),
            ("rules for one folder", FILTERS[2:], 3),
        ):
            await _set_rules(manifest, filters)
            table.add_row(name, *await _walked(manifest, MADE_MS + days * DAY_MS))
    table.caption = f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, filling included"
    return table


async def _set_rules(manifest: Manifest, filters: tuple[dict[str, object], ...]) -> None:
    rules = [{"ID": str(at), "Status": "Enabled", "Filter": one, "Expiration": {"Days": 30}} for at, one in enumerate(filters)]
    configuration = read_configuration({"Rules": rules}, minimum_size=None, storage_classes=())
    await manifest.put_bucket_setting(BUCKET, SETTING, encode_configuration(configuration))


async def _walked(manifest: Manifest, now_ms: int) -> tuple[str, ...]:
    rows, pages, place, began = 0, 0, Place(), time.process_time()
    while True:
        page = await manifest.walk_due(BUCKET, after=place, now_ms=now_ms, moves=False, max_rows=ROWS, max_due=DUE)
        rows, pages, place = rows + page.rows, pages + 1, page.place
        if page.ended:
            break
    seconds = time.process_time() - began
    return f"{rows:,}", f"{rows / seconds:,.0f}", f"{seconds:.1f}", f"{seconds / pages * 1000:.1f}"


if __name__ == "__main__":
    typer.run(main)
