"""The table of events that are still to be told."""

TABLES: tuple[str, ...] = (
    "CREATE TABLE event (sequence INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, target TEXT NOT NULL,"
    " configuration TEXT NOT NULL, at INTEGER NOT NULL, record BLOB NOT NULL)",
    "CREATE INDEX event_target ON event (target, sequence)",
)
