"""Tables of object lock."""

TABLES: tuple[str, ...] = (
    # One row, once there is a bucket with object lock: see `proxy.manifest.plans.trusted_time`.
    "CREATE TABLE trusted_time (id INTEGER PRIMARY KEY, day INTEGER NOT NULL, trusted INTEGER NOT NULL,"
    " running INTEGER NOT NULL, boot TEXT NOT NULL)",
)
