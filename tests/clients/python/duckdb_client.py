"""duckdb over an fsspec file system: its own httpfs is an extension that is fetched from elsewhere.

Needs: duckdb s3fs>=2026
"""

import duckdb
import s3fs
from checking import ENDPOINT, check, finish, new_bucket, same

bucket = new_bucket()
database = duckdb.connect()
database.register_filesystem(s3fs.S3FileSystem(endpoint_url=ENDPOINT))

with check("Parquet is written by COPY, and read with a glob and a filter"):
    database.execute(f"COPY (SELECT range AS n, range % 3 AS part FROM range(10000)) TO 's3://{bucket}/one.parquet' (FORMAT parquet)")
    (total,) = database.execute(f"SELECT sum(n) FROM read_parquet('s3://{bucket}/*.parquet') WHERE part = 1").fetchone()
    same(total, sum(n for n in range(10000) if n % 3 == 1))

finish()
