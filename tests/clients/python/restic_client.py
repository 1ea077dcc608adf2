"""restic: a repository is made, backed up to, checked whole, restored, and pruned.

Needs: boto3
Go: restic github.com/restic/restic/cmd/restic@latest
"""

from checking import ENDPOINT, check, data, finish, folder, new_bucket, run, same, tool

bucket, here = new_bucket(), folder()
(here / "home/deep").mkdir(parents=True)
(here / "home/large").write_bytes(data(30_000_000))
(here / "home/deep/é").write_text("hello")


def restic(*arguments: object) -> str:
    return run(
        tool("restic"),
        "-r",
        f"s3:{ENDPOINT}/{bucket}/repo",
        "--cache-dir",
        here / "cache",
        *arguments,
        RESTIC_PASSWORD="open sesame",
        GOMAXPROCS="2",
    )


with check("init, backup, check with every byte read"):
    restic("init")
    restic("backup", here / "home")
    restic("check", "--read-data")

with check("a second backup, restore, forget and prune"):
    (here / "home/deep/é").write_text("changed")
    restic("backup", here / "home")
    restic("restore", "latest", "--target", here / "back")
    (changed,) = (here / "back").rglob("é")
    same(changed.read_text(), "changed")
    restic("forget", "--keep-last", "1", "--prune")
    restic("check")

finish()
