"""s3fs (fsspec): files, folders, appending, ranges, moving.

Needs: s3fs>=2026
"""

import s3fs
from checking import AWKWARD, ENDPOINT, check, data, finish, new_bucket, same

bucket = new_bucket()
fs = s3fs.S3FileSystem(endpoint_url=ENDPOINT)

with check("awkward keys"):
    for key in AWKWARD:
        fs.pipe(f"{bucket}/{key}", key.encode())
        same(fs.cat(f"{bucket}/{key}"), key.encode())

with check("a large file is written in blocks and read at random"):
    body = data(20_000_000)
    with fs.open(f"{bucket}/large", "wb", block_size=5 * 2**20) as file:
        file.write(body)
    with fs.open(f"{bucket}/large", "rb") as file:
        file.seek(12_345_678)
        same(file.read(1000), body[12_345_678:12_346_678])

with check("append, find, du, move, remove"):
    with fs.open(f"{bucket}/log", "ab") as file:
        file.write(b"one")
    with fs.open(f"{bucket}/log", "ab") as file:
        file.write(b"two")
    same(fs.cat(f"{bucket}/log"), b"onetwo")
    fs.mv(f"{bucket}/log", f"{bucket}/moved/log")
    same(fs.find(f"{bucket}/moved"), [f"{bucket}/moved/log"])
    fs.rm(bucket + "/moved", recursive=True)
    same(fs.exists(f"{bucket}/moved/log"), False)

finish()
