"""What the documents tell people to paste: the first lines of the README, and the recipes of clients, with another port."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardgate]:
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copy(ROOT / "README.md", folder)
    with shardgate(folder / "data", config=ROOT / "config/bench.toml") as running:
        yield running


def blocks(file: str, heading: str, language: str) -> list[str]:
    """Return the blocks of a language below a heading."""
    text = (ROOT / file).read_text("utf-8")
    section = re.search(rf"^##? {re.escape(heading)}\n(.*?)(?=^##? |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    return re.findall(rf"^```{language}\n(.*?)^```", section[1], flags=re.MULTILINE | re.DOTALL)


def paste(server: Shardgate, *texts: str) -> str:
    """Run the lines in a shell of their own, in the folder that they are for; none may fail."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    text = "\n".join(texts).replace("127.0.0.1:9000", f"127.0.0.1:{server.port}")
    done = subprocess.run(
        ["/bin/bash", "-euc", text],
        env={**environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(server.data)},
        cwd=server.data.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def credentials() -> str:
    (text,) = blocks("docs/CLIENTS.md", "Clients", "sh")
    return text


def emptied(server: Shardgate) -> None:
    s3 = server.client()
    for entry in s3.list_objects_v2(Bucket="hello").get("Contents", []):
        s3.delete_object(Bucket="hello", Key=entry["Key"])
    s3.delete_bucket(Bucket="hello")


@pytest.fixture(autouse=True)
def _no_bucket(server: Shardgate) -> Iterator[None]:
    yield
    emptied(server)


def test_the_first_lines_of_the_readme(server: Shardgate) -> None:
    (lines,) = [block for block in blocks("README.md", "Start", "sh") if "s3 mb" in block]
    assert paste(server, lines).rstrip().endswith("world.txt")


def test_aws_cli(server: Shardgate) -> None:
    assert paste(server, credentials(), *blocks("docs/CLIENTS.md", "aws-cli", "sh")).rstrip().endswith("README.md")


def test_the_profile_of_aws_cli(server: Shardgate, tmp_path: Path) -> None:
    (profile,) = blocks("docs/CLIENTS.md", "aws-cli", "ini")
    write = f"export AWS_CONFIG_FILE={tmp_path}/config AWS_PROFILE=shardgate\ncat > $AWS_CONFIG_FILE <<'END'\n{profile}END\n"
    assert "make_bucket: hello" in paste(server, credentials(), write, "aws s3 mb s3://hello")


def test_boto3(server: Shardgate) -> None:
    (script,) = blocks("docs/CLIENTS.md", "boto3", "python")
    assert paste(server, credentials(), f"{sys.executable} - <<'END'\n{script}END\n") == "b'world'\n"


@pytest.mark.skipif(shutil.which("rclone", path=f"{BIN}{os.pathsep}{os.environ['PATH']}") is None, reason="rclone is not installed")
def test_rclone(server: Shardgate) -> None:
    paste(server, credentials(), *blocks("docs/CLIENTS.md", "rclone", "sh"))
    assert [entry["Key"] for entry in server.client().list_objects_v2(Bucket="hello")["Contents"]] == ["README.md"]
