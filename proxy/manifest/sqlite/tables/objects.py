"""Tables of versions, extents and uploads."""

from proxy.manifest.packs import SMALL_BYTES, SMALL_SLOTS

TABLES: tuple[str, ...] = (
    # `order_key` is the version's sequence, negated: a key's newest version comes first, so "latest" is a seek and a listing a scan.
    # `line` is what listings tell, as the record says it: see `proxy.s3.lines`. A delete marker has none.
    "CREATE TABLE version (bucket INTEGER NOT NULL, key BLOB NOT NULL, order_key INTEGER NOT NULL, version_id TEXT NOT NULL,"
    " latest INTEGER NOT NULL, marker INTEGER NOT NULL, line BLOB, record BLOB NOT NULL, parts BLOB, pack INTEGER, slot INTEGER,"
    " PRIMARY KEY (bucket, key, order_key)) WITHOUT ROWID",
    # With the columns of its condition it covers a hop from one common prefix to the next: no row is read on the way.
    "CREATE INDEX version_current ON version (bucket, key, latest, marker) WHERE latest = 1 AND marker = 0",
    # Finds a version of a long history by its id. A key never overwritten with versioning has no row in it.
    "CREATE INDEX version_older ON version (bucket, key, version_id) WHERE latest = 0",
    # Who uses which slot of a pack: `pack` is the extent, `slot` the offset in it. The record says the same.
    "CREATE INDEX version_slot ON version (pack, slot) WHERE pack IS NOT NULL",
    # Keys of which something was deleted, until the journal has noted that (up to `sequence`): what comes there next comes after it.
    "CREATE TABLE gone (bucket INTEGER NOT NULL, key BLOB NOT NULL, written INTEGER NOT NULL, sequence INTEGER NOT NULL,"
    " PRIMARY KEY (bucket, key)) WITHOUT ROWID",
    "CREATE TABLE extent (id INTEGER PRIMARY KEY AUTOINCREMENT, refs INTEGER NOT NULL, layout BLOB NOT NULL)",
    # Those that nobody refers to any more, of large deletions: see `bury_extents`.
    "CREATE INDEX extent_unused ON extent (id) WHERE refs = 0",
    # What is in use of each pack: see `proxy.manifest.packs`.
    "CREATE TABLE pack (extent INTEGER PRIMARY KEY, kind TEXT NOT NULL, whole INTEGER NOT NULL, live INTEGER NOT NULL,"
    " slots INTEGER NOT NULL, made INTEGER NOT NULL, dead_since INTEGER)",
    "CREATE INDEX pack_dead ON pack (dead_since) WHERE dead_since IS NOT NULL",
    # So written: SQLite makes "live * 2 < whole" of a query another term than that of an index, and scans.
    "CREATE INDEX pack_half ON pack (extent) WHERE whole > live * 2",
    f"CREATE INDEX pack_small ON pack (kind, extent) WHERE live < {SMALL_BYTES} AND slots < {SMALL_SLOTS}",
    "CREATE TABLE upload (id TEXT PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, initiated INTEGER NOT NULL,"
    " record BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX upload_key ON upload (bucket, key, initiated, id)",
    "CREATE TABLE part (upload TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (upload, number)) WITHOUT ROWID",
    "CREATE TABLE completed_upload (id TEXT PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, version_id TEXT NOT NULL,"
    " parts BLOB NOT NULL, completed INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX completed_upload_age ON completed_upload (completed)",
)
