"""Which stores there have been: one that is known and not there is missing, not new."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.manifest.sqlite.rows import Connection


def known_stores(connection: Connection) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute("SELECT name FROM store"))


def know_stores(connection: Connection, names: Iterable[str]) -> None:
    connection.executemany("INSERT OR IGNORE INTO store VALUES (?)", [(name,) for name in names])
