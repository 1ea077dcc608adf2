"""The SQLite schema and its migrations: statement lists applied in order, counted by `user_version`.

`application_id` tells with which first list, and with which records, a database began. Until the first release both are changed in place,
and a database that began with others is refused: its records would be read as something that they are not.
"""

from __future__ import annotations

import sqlite3
import zlib

from proxy.errors import ConfigError
from proxy.manifest.sqlite import tables

RECORDS = 2  # raised when records or sealed bytes that were written before can no longer be read

MIGRATIONS: tuple[tuple[str, ...], ...] = (tables.ALL,)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to this version's schema; one written by a newer version is refused."""
    if _schema(connection) == len(MIGRATIONS):
        return  # without a lock: another program may hold it for long
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[_schema(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute(f"PRAGMA application_id = {_origin()}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_schema(connection: sqlite3.Connection) -> None:
    """Refuse a database that is no manifest of this version. Raises `ConfigError`."""
    if _schema(connection) != len(MIGRATIONS):
        raise ConfigError("this database is not a manifest of this version of Shardgate; name another file")


def probe_writing(connection: sqlite3.Connection) -> None:
    """Write something, and take it back in the same transaction. It fails where other writes would, as on a full disk."""
    connection.execute("INSERT INTO probe VALUES (zeroblob(16384))")  # some pages, which must be found room for
    connection.execute("DELETE FROM probe")


def _schema(connection: sqlite3.Connection) -> int:
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    if current > len(MIGRATIONS):
        raise ConfigError(f"the manifest has schema {current}; this version of Shardgate knows {len(MIGRATIONS)}: use the newer one")
    (origin,) = connection.execute("PRAGMA application_id").fetchone()
    if current and origin != _origin():
        raise ConfigError(
            "manifest.path: the manifest was written before the first release, in a layout that is no longer used; "
            "this version can read neither it nor its shards: begin with a new data directory and empty stores"
        )
    return int(current)


def _origin() -> int:
    return zlib.crc32("\n".join((f"records {RECORDS}", *MIGRATIONS[0])).encode()) >> 1  # SQLite keeps 31 bits and a sign
