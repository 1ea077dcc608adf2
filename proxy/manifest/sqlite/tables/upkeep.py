"""Tables of leases, garbage, background work and the epoch."""

TABLES: tuple[str, ...] = (
    "CREATE TABLE intent (id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, expires INTEGER NOT NULL, ids BLOB NOT NULL,"
    " settled INTEGER NOT NULL)",
    # The key begins with the store: of one that is down the rows are not even looked at, and each is counted on its own. A segment that
    # is deleted is one row until it is due, and `shards` says where they lie: clients wait for that row, and six cost six times as much.
    "CREATE TABLE garbage (store TEXT NOT NULL, due INTEGER NOT NULL, name TEXT NOT NULL, search INTEGER NOT NULL, shards BLOB,"
    " PRIMARY KEY (store, due, name)) WITHOUT ROWID",
    "CREATE TABLE job (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE epoch (identity TEXT NOT NULL, number INTEGER NOT NULL, moved INTEGER NOT NULL, fence TEXT NOT NULL)",
    "INSERT INTO epoch VALUES (lower(hex(randomblob(16))), 0, 0, '')",
    "CREATE TABLE probe (filler BLOB NOT NULL)",  # always empty: see `probe_writing`
    "CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",  # where background work stands: see `load_state`
)
