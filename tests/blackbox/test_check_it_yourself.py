"""What the threat model tells a stranger to paste, to see that no hand could read: with real buckets, and the output that it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest

from bench.ports import free_port
from proxy.codec.format import shard_name
from tests.laboratory import laboratory
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, moto_servers

BIN = Path(sys.executable).parent
IN_BUCKETS = ("alder", "birch", "cedar", "fir")
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def upstream() -> Iterator[str]:
    with ExitStack() as stack:
        (url,) = stack.enter_context(moto_servers([free_port()]))
        yield url


@pytest.fixture
async def folder(tmp_path: Path, upstream: str) -> Path:
    """What ten objects leave in six stores: four of them buckets, two of them disks."""
    async with laboratory(tmp_path / "data") as lab:
        for number in range(10):
            await lab.put(f"key-{number}", bytes(1000 * number + 1))
    client = boto3.client("s3", endpoint_url=upstream, **{key.lower(): value for key, value in KEYS.items() if "KEY" in key})
    for name in IN_BUCKETS:
        client.create_bucket(Bucket=f"acme-{name}")
        for path in sorted((tmp_path / "data/stores" / name).glob("*/*-*")):
            client.put_object(Bucket=f"acme-{name}", Key=f"{path.parent.name}/{path.name}", Body=path.read_bytes())
    (tmp_path / "disks").mkdir()
    for name in ("dogwood", "elm"):
        shutil.move(tmp_path / "data/stores" / name, tmp_path / "disks" / name)
    shutil.copy(ROOT / "tools/shardgate-verify.py", tmp_path)
    return tmp_path


def section() -> str:
    text = (ROOT / "docs/THREAT_MODEL.md").read_text("utf-8")
    return text.partition("\n## Check it yourself\n")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section(), flags=re.MULTILINE | re.DOTALL)


def paste(folder: Path, upstream: str, text: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", text],
        env={**environ, **KEYS, "PATH": path, "HOME": str(folder), "AWS_ENDPOINT_URL": upstream},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


async def test_the_commands_print_what_the_page_shows_and_find_a_rule_that_is_broken(folder: Path, upstream: str) -> None:
    state, get_listings, count = blocks("sh")
    assert paste(folder, upstream, state + get_listings).returncode == 0
    told = paste(folder, upstream, count)
    assert (told.returncode, told.stderr) == (0, "")
    (shown,) = blocks("text")
    assert shown in told.stdout
    assert "Shards that give a segment back: 4 (20 footers)" in told.stdout  # of the disk and the bucket, whose contents can be read

    # Three more shards of one segment in the last bucket: one provider could read it.
    client = boto3.client("s3", endpoint_url=upstream, **{key.lower(): value for key, value in KEYS.items() if "KEY" in key})
    held = client.list_objects_v2(Bucket="acme-fir")["Contents"][0]["Key"]
    segment, index = bytes.fromhex(held[3:35]), int(held[36:38], 16)
    for step in (1, 2, 3):
        client.put_object(Bucket="acme-fir", Key=shard_name(segment, (index + step) % 6), Body=b"")
    broken = paste(folder, upstream, count)
    assert broken.returncode == 1
    assert f"{segment.hex()}  provider fir-cloud has shards " in broken.stdout
