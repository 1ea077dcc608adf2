"""How SQLite answers listings: by seeks in an index and reads in its order, whatever the bucket holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.listing import objects, records

VALUES = {
    "bucket": 1,
    "key": b"k",
    "low": b"a",
    "end": b"z",
    "limit": 10,
    "last": "v",
    "tail": 1,
    "delimiter": b"/",
    "kept": 0,
    "raised": b"0",
}


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(0)):
        return tmp_path / "m.sqlite"


@pytest.mark.parametrize(
    "statement",
    [
        objects._SCANNED,
        objects._FOUND,
        objects._FOUND_BEFORE_COMMON,
        objects._CURRENT_HOPS,
        *records._ALL,
        *records._UPLOADS,
    ],
)
def test_nothing_is_collected_or_sorted_to_find_a_page(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", VALUES)]
    assert any("SEARCH version" in step or "SEARCH upload" in step for step in steps)
    assert not any(step.startswith(("SCAN version", "SCAN upload", "MATERIALIZE")) or "TEMP B-TREE" in step for step in steps)
