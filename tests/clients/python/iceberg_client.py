"""pyiceberg: a table with its catalogue in SQLite and its data here.

Needs: boto3 pyiceberg[sql-sqlite] pyarrow
"""

import pyarrow as pa
from checking import ACCESS_KEY, ENDPOINT, SECRET_KEY, check, finish, folder, new_bucket, same
from pyiceberg.catalog.sql import SqlCatalog

bucket = new_bucket()
catalog = SqlCatalog(
    "c",
    **{
        "uri": f"sqlite:///{folder()}/catalog.db",
        "warehouse": f"s3://{bucket}/warehouse",
        "s3.endpoint": ENDPOINT,
        "s3.access-key-id": ACCESS_KEY,
        "s3.secret-access-key": SECRET_KEY,
        "s3.region": "us-east-1",
    },
)

with check("a table is made, appended to twice, filtered, and travelled in time"):
    catalog.create_namespace("ns")
    first = pa.table({"n": [1, 2, 3]})
    table = catalog.create_table("ns.t", schema=first.schema)
    table.append(first)
    snapshot = table.current_snapshot().snapshot_id
    table.append(pa.table({"n": [4, 5]}))
    same(sorted(table.scan(row_filter="n > 2").to_arrow().column("n").to_pylist()), [3, 4, 5])
    same(len(table.scan(snapshot_id=snapshot).to_arrow()), 3)

finish()
