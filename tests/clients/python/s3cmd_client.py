"""s3cmd: put, get, sync, ls, info, signurl, del.

Needs: boto3 s3cmd
"""

import json
import urllib.request

from checking import ACCESS_KEY, HOST, SECRET_KEY, check, data, finish, folder, new_bucket, run, same, tool

bucket, here = new_bucket(), folder()
options = [
    "--no-ssl",
    f"--host={HOST}",
    f"--host-bucket={HOST}",
    f"--access_key={ACCESS_KEY}",
    f"--secret_key={SECRET_KEY}",
    "--no-progress",
]


def s3cmd(*arguments: object) -> str:
    return run(tool("s3cmd"), *options, *arguments)


(here / "up").mkdir()
for name in ("one.txt", "two é.txt"):
    (here / "up" / name).write_bytes(name.encode())
(here / "large").write_bytes(data(20_000_000))

with check("put and get, in parts"):
    s3cmd("put", "--multipart-chunk-size-mb=5", here / "large", f"s3://{bucket}/large")
    s3cmd("get", f"s3://{bucket}/large", here / "back")
    same((here / "back").read_bytes() == (here / "large").read_bytes(), True)

with check("sync up and down"):
    s3cmd("sync", f"{here}/up/", f"s3://{bucket}/up/")
    s3cmd("sync", f"s3://{bucket}/up/", f"{here}/down/")
    same({path.name: path.read_bytes() for path in (here / "down").iterdir()}, {n: n.encode() for n in ("one.txt", "two é.txt")})

with check("ls, info, du"):
    same("large" in s3cmd("ls", f"s3://{bucket}/"), True)
    same("20000000" in s3cmd("info", f"s3://{bucket}/large"), True)
    same(s3cmd("du", f"s3://{bucket}/large").split()[0], "20000000")

with check("a signed URL"):
    url = s3cmd("signurl", f"s3://{bucket}/up/one.txt", "+60").strip().replace("https://", "http://")
    same(urllib.request.urlopen(url, timeout=10).read(), b"one.txt")

with check("policies, CORS and lifecycle"):
    policy = here / "policy.json"
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{bucket}/keep/*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [denied]}))
    s3cmd("setpolicy", policy, f"s3://{bucket}")
    s3cmd("delpolicy", f"s3://{bucket}")
    s3cmd("expire", f"s3://{bucket}", "--expiry-days=7", "--expiry-prefix=tmp/")
    same("<Days>7</Days>" in s3cmd("getlifecycle", f"s3://{bucket}"), True)

with check("cp, mv, del"):
    s3cmd("cp", f"s3://{bucket}/up/one.txt", f"s3://{bucket}/copy")
    s3cmd("mv", f"s3://{bucket}/copy", f"s3://{bucket}/moved")
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}/")
    same(s3cmd("ls", "--recursive", f"s3://{bucket}/"), "")

finish()
