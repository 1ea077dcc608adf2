"""mc: cp, mirror, stat, versions, share, find, rm.

Needs: boto3
Go: mc github.com/minio/mc@latest
"""

import json
import urllib.request

from checking import ACCESS_KEY, ENDPOINT, SECRET_KEY, check, data, finish, folder, new_bucket, run, same, tool

bucket, here = new_bucket(), folder()


def mc(*arguments: object) -> str:
    return run(tool("mc"), "--config-dir", here / "config", "--json", *arguments)


(here / "up").mkdir()
for name in ("one", "two é"):
    (here / "up" / name).write_bytes(name.encode())
(here / "large").write_bytes(data(80_000_000))

with check("alias, cp in parts, cat"):
    mc("alias", "set", "sg", ENDPOINT, ACCESS_KEY, SECRET_KEY)
    mc("cp", here / "large", f"sg/{bucket}/large")
    mc("cp", f"sg/{bucket}/large", here / "back")
    same((here / "back").read_bytes() == (here / "large").read_bytes(), True)

with check("mirror, ls, stat, find"):
    mc("mirror", here / "up", f"sg/{bucket}/up")
    same(len(mc("ls", f"sg/{bucket}/up/").splitlines()), 2)
    same(json.loads(mc("stat", f"sg/{bucket}/large"))["size"], 80_000_000)
    same(len(mc("find", f"sg/{bucket}", "--name", "one").splitlines()), 1)

with check("a shared URL"):
    url = json.loads(mc("share", "download", f"sg/{bucket}/up/one"))["share"]
    same(urllib.request.urlopen(url, timeout=10).read(), b"one")

with check("versions, tags, retention and anonymous reading"):
    mc("version", "enable", f"sg/{bucket}")
    mc("tag", "set", f"sg/{bucket}/up/one", "a=b")
    mc("cp", here / "up/one", f"sg/{bucket}/up/one")
    same(len(mc("ls", "--versions", f"sg/{bucket}/up/one").splitlines()), 2)

with check("rm of everything, versions too"):
    mc("rm", "--recursive", "--force", "--versions", f"sg/{bucket}/")
    mc("rb", f"sg/{bucket}")

finish()
