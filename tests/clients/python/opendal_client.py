"""opendal: write, read, list, stat, copy, presign, delete.

Needs: boto3 opendal
"""

import opendal
from checking import AWKWARD, ENDPOINT, check, data, finish, new_bucket, same

bucket = new_bucket()
operator = opendal.Operator("s3", bucket=bucket, endpoint=ENDPOINT, region="us-east-1")

with check("awkward keys"):
    for key in AWKWARD:
        operator.write(key, key.encode())
        same(bytes(operator.read(key)), key.encode())

with check("a large file is written in chunks"):
    body = data(20_000_000)
    operator.write("large", body, chunk=6 * 2**20)
    same(bytes(operator.read("large")) == body, True)
    same(operator.stat("large").content_length, 20_000_000)

with check("copy, list, remove"):
    operator.copy("large", "copy/large")
    same([entry.path for entry in operator.list("copy/") if not entry.path.endswith("/")], ["copy/large"])
    operator.remove_all("copy/")
    same([entry.path for entry in operator.list("copy/") if not entry.path.endswith("/")], [])

finish()
