"""Tables of damage, of the queue of repairs, and of what moves of shards leave behind."""

TABLES: tuple[str, ...] = (
    "CREATE TABLE damage (extent INTEGER NOT NULL, segment BLOB NOT NULL, shard INTEGER NOT NULL, kind TEXT NOT NULL, store TEXT NOT NULL,"
    " generation INTEGER NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (extent, segment, shard)) WITHOUT ROWID",
    # One row a segment with damage: the queue.
    "CREATE TABLE repair (extent INTEGER NOT NULL, segment BLOB NOT NULL, redundancy INTEGER NOT NULL, since INTEGER NOT NULL,"
    " due INTEGER NOT NULL, failures INTEGER NOT NULL, PRIMARY KEY (extent, segment)) WITHOUT ROWID",
    "CREATE INDEX repair_order ON repair (redundancy, due)",
    # One row a store that was found to have lost something of late: what the brake goes by.
    "CREATE TABLE loss (store TEXT PRIMARY KEY, since INTEGER NOT NULL, last INTEGER NOT NULL, found INTEGER NOT NULL,"
    " state TEXT NOT NULL, shards INTEGER NOT NULL) WITHOUT ROWID",
    # One row a move under way: a lease on the segment, and the names that may bear shards until it is committed.
    "CREATE TABLE draw (segment BLOB NOT NULL, generation INTEGER NOT NULL, targets BLOB NOT NULL, expires INTEGER NOT NULL,"
    " revoked INTEGER NOT NULL, PRIMARY KEY (segment, generation)) WITHOUT ROWID",
    "CREATE INDEX draw_age ON draw (expires)",
    # Shards that no segment points to, and that their store has not yet confirmed to be deleted. The names of a segment's begin alike.
    "CREATE TABLE leftover (name TEXT NOT NULL, store TEXT NOT NULL, shard INTEGER NOT NULL, PRIMARY KEY (name, store)) WITHOUT ROWID",
)
