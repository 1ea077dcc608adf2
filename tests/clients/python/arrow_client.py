"""pyarrow's own S3 file system: a partitioned dataset, written and read with filters.

Needs: boto3 pyarrow
"""

import pyarrow as pa
import pyarrow.dataset as ds
from checking import HOST, check, finish, new_bucket, same
from pyarrow import fs

bucket = new_bucket()
s3 = fs.S3FileSystem(endpoint_override=HOST, scheme="http", region="us-east-1")
table = pa.table({"year": [2024, 2025, 2025, 2026], "n": [1, 2, 3, 4]})

with check("a partitioned dataset is written and read"):
    by_year = ds.partitioning(pa.schema([("year", pa.int64())]), flavor="hive")
    ds.write_dataset(
        table,
        f"{bucket}/data",
        filesystem=s3,
        format="parquet",
        partitioning=by_year,
    )
    found = ds.dataset(f"{bucket}/data", filesystem=s3, partitioning="hive")
    same(sorted(found.to_table().column("n").to_pylist()), [1, 2, 3, 4])
    same(sorted(found.to_table(filter=ds.field("year") == 2025).column("n").to_pylist()), [2, 3])

with check("a large stream, in parts"):
    with s3.open_output_stream(f"{bucket}/stream") as stream:
        for n in range(30):
            stream.write(bytes([n]) * 1_000_000)
    same(s3.get_file_info(f"{bucket}/stream").size, 30_000_000)
    with s3.open_input_file(f"{bucket}/stream") as file:
        same(file.read_at(10, 29_999_990), bytes([29]) * 10)

with check("folders, moving, deleting"):
    s3.create_dir(f"{bucket}/folder")
    s3.move(f"{bucket}/stream", f"{bucket}/folder/moved")
    same(len(s3.get_file_info(fs.FileSelector(f"{bucket}/folder"))), 1)
    s3.delete_dir(f"{bucket}/folder")
    same(s3.get_file_info(f"{bucket}/folder/moved").type, fs.FileType.NotFound)

finish()
