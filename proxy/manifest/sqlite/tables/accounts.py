"""Tables of stores, tenants, keys and buckets, and the number that tells whether what was read of them still holds.

Triggers raise it, and not the code of each step: what changes a row raises it in the same transaction, whatever it is.
"""

_KEPT = ("tenant", "access_key", "role", "bucket")  # whose rows are kept in memory: see `callers`
_CHANGES = ("INSERT", "UPDATE", "DELETE")


def _raised(table: str, change: str) -> str:
    raising = "UPDATE generation SET number = number + 1"
    return f"CREATE TRIGGER {table}_{change.lower()}_kept AFTER {change} ON {table} BEGIN {raising}; END"


TABLES: tuple[str, ...] = (
    "CREATE TABLE tenant (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, canonical_id TEXT NOT NULL UNIQUE,"
    " account_id TEXT NOT NULL UNIQUE, record BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE store (name TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE access_key (id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, record BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX access_key_tenant ON access_key (tenant_id)",
    "CREATE TABLE role (tenant_id TEXT NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (tenant_id, name)) WITHOUT ROWID",
    "CREATE TABLE kms_key (id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, alias TEXT NOT NULL, record BLOB NOT NULL) WITHOUT ROWID",
    "CREATE UNIQUE INDEX kms_key_alias ON kms_key (tenant_id, alias) WHERE alias <> ''",
    "CREATE INDEX kms_key_tenant ON kms_key (tenant_id)",
    "CREATE TABLE bucket (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, tenant_id TEXT NOT NULL, record BLOB NOT NULL)",
    "CREATE INDEX bucket_tenant ON bucket (tenant_id, name)",
    "CREATE TABLE generation (number INTEGER NOT NULL)",
    "INSERT INTO generation VALUES (0)",
    *(_raised(table, change) for table in _KEPT for change in _CHANGES),
)
