"""The table of versions that are still to be copied to another bucket."""

TABLES: tuple[str, ...] = (
    "CREATE TABLE replica (sequence INTEGER PRIMARY KEY AUTOINCREMENT, bucket INTEGER NOT NULL, key BLOB NOT NULL,"
    " version_id TEXT NOT NULL, destination TEXT NOT NULL, storage_class TEXT NOT NULL, since INTEGER NOT NULL, due INTEGER NOT NULL)",
    # Finds whether a version before is still to be copied.
    "CREATE INDEX replica_key ON replica (bucket, key, destination, sequence)",
)
