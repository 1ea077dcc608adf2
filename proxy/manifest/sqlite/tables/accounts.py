"""Tables of stores, tenants, keys and buckets."""

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
)
