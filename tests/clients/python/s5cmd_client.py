"""s5cmd: cp, sync, cat, ls, rm, and a run of many.

Needs: boto3 s5cmd
"""

from checking import ENDPOINT, check, data, finish, folder, new_bucket, run, same, tool

bucket, here = new_bucket(), folder()


def s5cmd(*arguments: object, given: str | None = None) -> str:
    return run(tool("s5cmd"), "--endpoint-url", ENDPOINT, *arguments, given=given)


(here / "up").mkdir()
for n in range(50):
    (here / "up" / f"f{n}").write_bytes(data(1000 + n, n))
(here / "large").write_bytes(data(30_000_000))

with check("cp of a large file, in parts, and back"):
    s5cmd("cp", "--part-size", "5", here / "large", f"s3://{bucket}/large")
    s5cmd("cp", f"s3://{bucket}/large", here / "back")
    same((here / "back").read_bytes() == (here / "large").read_bytes(), True)

with check("sync of many, and ls"):
    s5cmd("sync", f"{here}/up/", f"s3://{bucket}/up/")
    same(len(s5cmd("ls", f"s3://{bucket}/up/*").splitlines()), 50)

with check("cat, and a wildcard"):
    same(run(tool("s5cmd"), "--endpoint-url", ENDPOINT, "ls", f"s3://{bucket}/up/f4*").count("\n"), 11)

with check("run of many commands"):
    s5cmd("run", given="".join(f"cp s3://{bucket}/up/f{n} s3://{bucket}/copy/f{n}\n" for n in range(20)))
    same(len(s5cmd("ls", f"s3://{bucket}/copy/*").splitlines()), 20)

with check("rm of all"):
    s5cmd("rm", f"s3://{bucket}/*")
    same([line for line in s5cmd("ls", f"s3://{bucket}").splitlines() if line], [])

finish()
