"""`shardgate object lost`: which objects cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from msgspec import Struct

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services

if TYPE_CHECKING:
    from proxy.services import Services

LOST = 3  # exit codes: 1 and 2 are of errors and of wrong arguments
SHOWN = 1000  # rows in the table


class LostRow(Struct, frozen=True, kw_only=True):
    """An object version, or a part of an upload that is in progress."""

    bucket: str
    key: str
    version_id: str
    upload_id: str
    part_number: int
    size: int
    lost: int


def lost(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the objects that cannot be read, as far as is on record: too few of their shards are left."""
    rows = with_services(config, _found)
    if as_json:
        print_json(rows)
    elif not rows:
        print("Every object can be read, as far as is on record. To look at the stores themselves: shardgate scrub --now")
    else:
        _show(rows)
    if rows:
        raise typer.Exit(LOST)


async def _found(services: Services) -> list[LostRow]:
    from proxy.engine.walking.lost import lost_objects  # with the erasure coder, which few commands load

    return [
        LostRow(
            bucket=found.bucket, key=found.key, version_id=found.version_id, upload_id=found.upload_id, part_number=found.part_number,
            size=found.size_bytes, lost=found.lost_bytes,
        )
        async for found in lost_objects(services.manifest)
    ]  # fmt: skip


def _show(rows: list[LostRow]) -> None:
    columns = ["bucket", "key", "version", "bytes", "lost"]
    cells = [[row.bucket, row.key, _version(row), f"{row.size:,}", f"{row.lost:,}"] for row in rows[:SHOWN]]
    print_table("Objects that cannot be read", columns, cells)
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN:,} more, which --json names")
    print(
        f"{len(rows):,} in all. They can be read again as soon as a store is back that has some of their shards, and are repaired then.\n"
        "What is gone for good must be put anew, or deleted. Which stores do not answer: shardgate stores check"
    )


def _version(row: LostRow) -> str:
    return f"part {row.part_number} of upload {row.upload_id}" if row.upload_id else row.version_id
