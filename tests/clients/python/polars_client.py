"""polars: Parquet and CSV, scanned lazily.

Needs: boto3 polars
"""

import polars as pl
from checking import ACCESS_KEY, ENDPOINT, SECRET_KEY, boto, check, finish, new_bucket, same

bucket = new_bucket()
options = {
    "aws_access_key_id": ACCESS_KEY,
    "aws_secret_access_key": SECRET_KEY,
    "aws_endpoint_url": ENDPOINT,
    "aws_region": "us-east-1",
    "aws_allow_http": "true",
}
frame = pl.DataFrame({"a": range(1000), "b": ["x", "y"] * 500})

with check("Parquet is written, and scanned with a filter"):
    frame.write_parquet(f"s3://{bucket}/p.parquet", storage_options=options)
    found = (
        pl.scan_parquet(f"s3://{bucket}/*.parquet", storage_options=options).filter(pl.col("b") == "x").select(pl.col("a").sum()).collect()
    )
    same(found.item(), sum(range(0, 1000, 2)))

with check("CSV is scanned"):
    boto().put_object(Bucket=bucket, Key="c.csv", Body=frame.write_csv().encode())
    same(pl.scan_csv(f"s3://{bucket}/c.csv", storage_options=options).select(pl.len()).collect().item(), 1000)

finish()
