"""The SQLite schema and its migrations: statement lists applied in order, counted by `user_version`.

`application_id` tells with which first list, and with which records, a database began. Until the first release both are changed in place,
and a database that began with others is refused: its records would be read as something that they are not.
"""

from __future__ import annotations

import sqlite3
import zlib

from proxy.errors import ConfigError

RECORDS = 2  # raised when records or sealed bytes that were written before can no longer be read

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE tenant (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, canonical_id TEXT NOT NULL UNIQUE, record BLOB NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE store (name TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE access_key (id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, record BLOB NOT NULL) WITHOUT ROWID",
        "CREATE INDEX access_key_tenant ON access_key (tenant_id)",
        "CREATE TABLE bucket (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, tenant_id TEXT NOT NULL,"
        " record BLOB NOT NULL)",
        "CREATE INDEX bucket_tenant ON bucket (tenant_id, name)",
        # `order_key` is the version's sequence, negated: a key's newest version comes first, so "latest" is a seek and a listing a scan.
        "CREATE TABLE version (bucket INTEGER NOT NULL, key BLOB NOT NULL, order_key INTEGER NOT NULL, version_id TEXT NOT NULL,"
        " latest INTEGER NOT NULL, marker INTEGER NOT NULL, record BLOB NOT NULL, parts BLOB, PRIMARY KEY (bucket, key, order_key))"
        " WITHOUT ROWID",
        # With the columns of its condition it covers a hop from one common prefix to the next: no row is read on the way.
        "CREATE INDEX version_current ON version (bucket, key, latest, marker) WHERE latest = 1 AND marker = 0",
        # Finds a version of a long history by its id. A key never overwritten with versioning has no row in it.
        "CREATE INDEX version_older ON version (bucket, key, version_id) WHERE latest = 0",
        "CREATE TABLE extent (id INTEGER PRIMARY KEY AUTOINCREMENT, refs INTEGER NOT NULL, layout BLOB NOT NULL)",
        "CREATE TABLE missing_shard (extent INTEGER NOT NULL, segment BLOB NOT NULL, shard INTEGER NOT NULL,"
        " PRIMARY KEY (extent, segment, shard)) WITHOUT ROWID",
        "CREATE TABLE upload (id TEXT PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, initiated INTEGER NOT NULL,"
        " record BLOB NOT NULL) WITHOUT ROWID",
        "CREATE INDEX upload_key ON upload (bucket, key, initiated, id)",
        "CREATE TABLE part (upload TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL,"
        " PRIMARY KEY (upload, number)) WITHOUT ROWID",
        "CREATE TABLE completed_upload (id TEXT PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, version_id TEXT NOT NULL,"
        " parts BLOB NOT NULL, completed INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE INDEX completed_upload_age ON completed_upload (completed)",
        "CREATE TABLE intent (id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, expires INTEGER NOT NULL, ids BLOB NOT NULL,"
        " settled INTEGER NOT NULL)",
        # The key begins with the store: of one that is down the rows are not even looked at, and each is counted on its own.
        "CREATE TABLE garbage (store TEXT NOT NULL, due INTEGER NOT NULL, name TEXT NOT NULL, search INTEGER NOT NULL,"
        " PRIMARY KEY (store, due, name)) WITHOUT ROWID",
        "CREATE TABLE job (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE epoch (identity TEXT NOT NULL, number INTEGER NOT NULL, moved INTEGER NOT NULL, fence TEXT NOT NULL)",
        "INSERT INTO epoch VALUES (lower(hex(randomblob(16))), 0, 0, '')",
        "CREATE TABLE probe (filler BLOB NOT NULL)",  # always empty: see `probe_writing`
    ),
)


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
