"""What the checks of clients share: where the server is, and how an outcome is told.

Each check runs in a virtual environment of the clients, so that what they need never meets what the server needs.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDPOINT = sys.argv[1] if len(sys.argv) > 1 else ""
HOST = ENDPOINT.partition("://")[2]
ACCESS_KEY, SECRET_KEY = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
REGION = "us-east-1"
AWKWARD = ("a b", "a+b", "100%", "é/ü", "deep/er/key", "emoji-🙂", "semi;colon", "quote'd", "tilde~")

_failed: list[str] = []


@contextmanager
def check(name: str) -> Iterator[None]:
    """Tell whether what is done inside goes well."""
    try:
        yield
    except Exception as error:  # whatever a client raises is a failure of the check
        _failed.append(name)
        print(f"FAIL {name}: {type(error).__name__} {str(error)[:1000]}", flush=True)
    else:
        print(f"ok   {name}", flush=True)


def finish() -> None:
    """End with 1 if a check failed."""
    sys.exit(1 if _failed else 0)


def same(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{str(found)[:300]} is not {str(wanted)[:300]}")


def data(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def new_bucket() -> str:
    """Make a bucket, and return its name."""
    name = f"client-{uuid.uuid4()}"
    boto().create_bucket(Bucket=name)
    return name


def boto():
    """Return a client of AWS's own for Python. botocore is enough: what needs an older one does not go with the boto3 of today."""
    from botocore.session import get_session

    return get_session().create_client("s3", endpoint_url=ENDPOINT, region_name=REGION)


def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="shardgate-client-"))


def tool(name: str) -> str:
    """Return the path of a program that a package of this environment brought."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(name)
    return found


def program(name: str) -> str:
    """Return the path of a program that the machine has."""
    found = shutil.which(name, path=places())
    if found is None:
        raise FileNotFoundError(name)
    return found


def places() -> str:
    """Return where programs may be; Debian keeps those of PostgreSQL aside."""
    return os.pathsep.join([os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))])


def run(*command: str | Path, given: str | None = None, **environ: str) -> str:
    """Run a program; return what it printed. Raises with what it complained of."""
    words, found = [str(part) for part in command], {**os.environ, **environ}
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=120, env=found, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(str(command[0])).name} ended with {done.returncode}: {done.stderr[-800:]}{done.stdout[-400:]}")
    return done.stdout
