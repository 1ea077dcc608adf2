"""Tables of what scrub and fsck keep."""

TABLES: tuple[str, ...] = (
    "CREATE TABLE quarantine (store TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, since INTEGER NOT NULL,"
    " found INTEGER NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (store, name)) WITHOUT ROWID",
)
