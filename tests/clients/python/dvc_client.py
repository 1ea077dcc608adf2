"""DVC: data is pushed to a remote, and pulled back.

Needs: boto3 dvc-s3 s3fs>=2026
"""

import sys

from checking import ENDPOINT, check, data, finish, folder, new_bucket, run, same

bucket, here = new_bucket(), folder()


def dvc(*arguments: object) -> str:
    return run(sys.executable, "-m", "dvc", "--cd", here, *arguments, DVC_NO_ANALYTICS="1")


with check("add, push, lose, pull"):
    dvc("init", "--no-scm")
    dvc("remote", "add", "-d", "shards", f"s3://{bucket}/dvc")
    dvc("remote", "modify", "shards", "endpointurl", ENDPOINT)
    (here / "big").write_bytes(data(15_000_000))
    dvc("add", "big")
    dvc("push")
    run("rm", "-rf", here / "big", here / ".dvc/cache")
    dvc("pull")
    same((here / "big").read_bytes() == data(15_000_000), True)

finish()
