"""delta-rs: a table that two writers race for; conditional puts decide who comes first.

Needs: boto3 deltalake pyarrow
"""

import threading

import pyarrow as pa
from checking import ACCESS_KEY, ENDPOINT, SECRET_KEY, check, finish, new_bucket, same
from deltalake import DeltaTable, write_deltalake

bucket = new_bucket()
options = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "conditional_put": "etag",
}
path = f"s3://{bucket}/table"
WRITES = 8


def rows(first: int) -> pa.Table:
    return pa.table({"n": list(range(first, first + 10))})


def write(start: int) -> None:
    for n in range(WRITES):
        write_deltalake(path, rows(start + n * 10), mode="append", storage_options=options)


with check("a table is made, appended to, and read at a version"):
    write_deltalake(path, rows(0), storage_options=options)
    write_deltalake(path, rows(10), mode="append", storage_options=options)
    same(len(DeltaTable(path, storage_options=options).to_pyarrow_table()), 20)
    same(len(DeltaTable(path, version=0, storage_options=options).to_pyarrow_table()), 10)

with check("two writers race, and no row is lost"):
    threads = [threading.Thread(target=write, args=(start,)) for start in (1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(DeltaTable(path, storage_options=options).to_pyarrow_table().column("n").to_pylist())
    same(found, [*range(20), *range(1000, 1000 + WRITES * 10), *range(2000, 2000 + WRITES * 10)])

finish()
