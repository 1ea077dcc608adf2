"""Tables of campaigns."""

TABLES: tuple[str, ...] = (
    "CREATE TABLE campaign (id TEXT PRIMARY KEY, planned INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID",
    # What an extent with several users was exchanged for, so that copies go on to share: see `exchange_extent`.
    "CREATE TABLE successor (extent INTEGER NOT NULL, policy TEXT NOT NULL, k INTEGER NOT NULL, m INTEGER NOT NULL,"
    " successor INTEGER NOT NULL, PRIMARY KEY (extent, policy, k, m)) WITHOUT ROWID",
)
