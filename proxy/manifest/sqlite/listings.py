"""What stores list, in a scratch database beside the manifest: names are put in as they come, and taken out as they are explained.

The names of all shards do not fit into memory, and a store lists them in an order of its own. So they lie in a file, which needs no
durability: whoever loses it begins anew. It is beside the manifest, where there is room: the temporary folder of a machine is often memory.
The file has no name while it is used, so it is gone when its process is, however that ends. One insertion and one removal take 7 us.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from proxy.codec.format import segment_prefix
from proxy.manifest.sqlite.room import require_room

# Nothing is rolled back, and nobody else looks. Without a journal, SQLite does not mind that the file has lost its name.
_PRAGMAS = ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -8192", "temp_store = FILE")
# By name first: the shards of a segment, in whatever stores, lie together.
_TABLES = (
    "CREATE TABLE listed (name TEXT NOT NULL, store TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (name, store)) WITHOUT ROWID",
    "CREATE TABLE doomed (name TEXT NOT NULL, store TEXT NOT NULL, PRIMARY KEY (name, store)) WITHOUT ROWID",
    "CREATE TABLE searched (name TEXT NOT NULL, store TEXT NOT NULL, PRIMARY KEY (name, store)) WITHOUT ROWID",
)


class Listed(NamedTuple):
    """A name in a store."""

    store: str
    name: str
    size_bytes: int


class Listings:
    """Names that stores have listed and that nothing has explained yet. Every call may wait for a disk: none is for the event loop."""

    def __init__(self, manifest_path: Path) -> None:
        self._folder = manifest_path.parent
        path = manifest_path.with_name(f"{manifest_path.name}.scratch-{secrets.token_hex(8)}")
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        for table in _TABLES:
            self._connection.execute(table)
        path.unlink()
        self._connection.execute("BEGIN")  # for good: what does not fit into the cache is written when it must be

    def add(self, store: str, entries: Iterable[tuple[str, int]]) -> None:
        """Note what a store lists. Raises `NoRoom`."""
        require_room(self._folder)
        rows = [(name, store, size) for name, size in entries]
        self._connection.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?, ?)", rows)

    def take(self, shards: Iterable[tuple[str, str]]) -> list[int | None]:
        """Take out what is expected, as (store, name), and return the size of each; None of one that was not listed."""
        sizes: list[int | None] = []
        for store, name in shards:
            rows = self._connection.execute("DELETE FROM listed WHERE name = ? AND store = ? RETURNING size", (name, store)).fetchall()
            sizes.append(rows[0][0] if rows else None)
        return sizes

    def explain_segments(self, segment_ids: Iterable[bytes]) -> None:
        """Take out every shard of these segments, in whatever store."""
        self.explain_searches(("", segment_prefix(segment_id)) for segment_id in segment_ids)

    def explain_searches(self, searches: Iterable[tuple[str, str]]) -> None:
        """Take out what a search of a store, as (store, prefix), would find; of every store, if none is named."""
        self._connection.executemany(
            "DELETE FROM listed WHERE name >= ?1 AND name < ?2 AND (?3 = '' OR store = ?3)",
            [(prefix, _behind(prefix), store) for store, prefix in searches],
        )

    def doom(self, shards: Iterable[tuple[str, str]], searches: Iterable[tuple[str, str]]) -> None:
        """Note what may be gone by the time that the stores have listed: shards as (store, name), searches as (store, prefix).

        Raises `NoRoom`.
        """
        require_room(self._folder)
        for table, rows in (("doomed", shards), ("searched", searches)):
            statement = f"INSERT OR IGNORE INTO {table} (store, name) VALUES (?, ?)"  # noqa: S608 - of constants
            self._connection.executemany(statement, rows)

    def explain_doomed(self) -> None:
        """Take out what was doomed before."""
        self._connection.execute("DELETE FROM listed WHERE (name, store) IN (SELECT name, store FROM doomed)")
        self.explain_searches(self._connection.execute("SELECT store, name FROM searched").fetchall())

    def left(self, *, after: Listed | None, limit: int) -> Sequence[Listed]:
        """Return a page of what nothing has explained."""
        key = ("", "") if after is None else (after.name, after.store)
        rows = self._connection.execute(
            "SELECT store, name, size FROM listed WHERE (name, store) > (?, ?) ORDER BY name, store LIMIT ?", (*key, limit)
        )
        return [Listed(*row) for row in rows]

    def close(self) -> None:
        self._connection.close()


def _behind(prefix: str) -> str:
    """Return the first string behind all that begin with a prefix. Names are ASCII."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
