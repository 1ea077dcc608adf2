"""The aws command line against a real server: what a person types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.expect import MIB, content
from tests.patience import PATIENCE_SECONDS
from tests.servers import Shardgate

# What a file system and the command line take; the harder keys are for boto3.
TREE = {
    "plain.txt": b"plain",
    "empty": b"",
    "with space/and space.txt": b"space",
    "plus+sign&ampersand=equals": b"plus",
    "percent%20sign%": b"percent",
    "emoji-\U0001f600/\u00e9.txt": b"emoji",
    "quote'\"<xml>": b"quote",
    "deep/a/b/c/d/e": b"deep",
    "hash#tag;semi,comma@at": b"hash",
    "star (1) [2] ~!": b"star",
    "medium.bin": content(MIB + 7),
}


@pytest.fixture(scope="session")
def aws_environment(server: Shardgate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    config = tmp_path_factory.mktemp("aws") / "config"
    # Small parts, so that a file of a few MiB already takes the multipart way.
    config.write_text(
        "[default]\nregion = us-east-1\ns3 =\n    multipart_threshold = 6MB\n    multipart_chunksize = 5MB\n    addressing_style = path\n"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_CONFIG_FILE": str(config),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "PYTHONUTF8": "1",
    }


@pytest.fixture
def aws(server: Shardgate, aws_environment: dict[str, str]) -> Callable[..., str]:
    def run(*arguments: str, succeeds: bool = True) -> str:
        command = [str(Path(sys.executable).parent / "aws"), "--endpoint-url", server.endpoint, *arguments]
        done = subprocess.run(command, env=aws_environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert (done.returncode == 0) == succeeds, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout if succeeds else done.stderr

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, body in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (1_700_000_000, 1_700_000_000))  # S3 tells whole seconds: a file of this very second would be newer than its copy
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_bucket_is_made_listed_and_removed(aws: Callable[..., str]) -> None:
    name = "made-by-the-command-line"
    assert aws("s3", "mb", f"s3://{name}") == f"make_bucket: {name}\n"
    assert name in aws("s3", "ls")
    aws("s3", "rb", f"s3://{name}")
    assert name not in aws("s3", "ls")


def test_tree_goes_up_and_comes_back(aws: Callable[..., str], bucket: str, tree: Path, tmp_path: Path) -> None:
    aws("s3", "sync", str(tree), f"s3://{bucket}/t", "--quiet")
    assert aws("s3", "sync", str(tree), f"s3://{bucket}/t") == ""  # nothing is left to do
    aws("s3", "sync", f"s3://{bucket}/t", str(tmp_path / "back"), "--quiet")
    assert contents(tmp_path / "back") == TREE


def test_sync_deletes_what_is_gone(aws: Callable[..., str], bucket: str, tree: Path) -> None:
    aws("s3", "cp", str(tree), f"s3://{bucket}/", "--recursive", "--quiet")
    (tree / "plain.txt").unlink()
    (tree / "with space" / "and space.txt").unlink()
    aws("s3", "sync", str(tree), f"s3://{bucket}/", "--delete", "--quiet")
    listed = aws("s3", "ls", f"s3://{bucket}", "--recursive", "--summarize")
    assert "plain.txt" not in listed
    assert f"Total Objects: {len(TREE) - 2}" in listed


def test_large_file_takes_the_multipart_way(aws: Callable[..., str], bucket: str, tmp_path: Path) -> None:
    body = content(17 * MIB + 3)
    (tmp_path / "large").write_bytes(body)
    aws("s3", "cp", str(tmp_path / "large"), f"s3://{bucket}/large", "--quiet")
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "large"))
    assert head["ETag"].endswith('-4"')
    aws("s3", "cp", f"s3://{bucket}/large", f"s3://{bucket}/copy", "--quiet")  # by UploadPartCopy
    aws("s3", "cp", f"s3://{bucket}/copy", str(tmp_path / "back"), "--quiet")
    assert (tmp_path / "back").read_bytes() == body


def test_move_and_remove(aws: Callable[..., str], bucket: str, tree: Path) -> None:
    aws("s3", "cp", str(tree), f"s3://{bucket}/a/", "--recursive", "--quiet")
    aws("s3", "mv", f"s3://{bucket}/a/", f"s3://{bucket}/b/", "--recursive", "--quiet")
    assert aws("s3", "ls", f"s3://{bucket}/").split() == ["PRE", "b/"]
    aws("s3", "rm", f"s3://{bucket}/b/", "--recursive", "--quiet")
    aws("s3", "ls", f"s3://{bucket}/b/", succeeds=False)


def test_listing_shows_folders_sizes_and_names(aws: Callable[..., str], bucket: str, tree: Path) -> None:
    aws("s3", "cp", str(tree), f"s3://{bucket}/", "--recursive", "--quiet")
    lines = aws("s3", "ls", f"s3://{bucket}/").splitlines()
    assert [line.split("PRE ")[1] for line in lines if "PRE " in line] == ["deep/", "emoji-\U0001f600/", "with space/"]
    assert any(line.endswith(" 0 empty") for line in lines)
    assert any(line.endswith(f" {MIB + 7} medium.bin") for line in lines)


def test_presigned_address(aws: Callable[..., str], bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"presigned")
    aws("s3", "cp", str(tmp_path / "f"), f"s3://{bucket}/a b+c.txt", "--quiet")
    url = aws("s3", "presign", f"s3://{bucket}/a b+c.txt", "--expires-in", "3600").strip()
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        assert answer.read() == b"presigned"


def test_streams_go_up_and_down(server: Shardgate, aws: Callable[..., str], aws_environment: dict[str, str], bucket: str) -> None:
    command = [str(Path(sys.executable).parent / "aws"), "--endpoint-url", server.endpoint, "s3", "cp"]
    body = content(7 * MIB)
    subprocess.run([*command, "-", f"s3://{bucket}/stream"], input=body, env=aws_environment, check=True, timeout=PATIENCE_SECONDS)
    down = subprocess.run(
        [*command, f"s3://{bucket}/stream", "-"], env=aws_environment, check=True, timeout=PATIENCE_SECONDS, capture_output=True
    )
    assert down.stdout == body


def test_metadata_and_type_travel_with_a_copy(aws: Callable[..., str], bucket: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"<p>")
    aws("s3", "cp", str(tmp_path / "page.html"), f"s3://{bucket}/page.html", "--metadata", "a=b", "--cache-control", "no-cache", "--quiet")
    aws("s3", "cp", f"s3://{bucket}/page.html", f"s3://{bucket}/copy", "--quiet")
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "copy"))
    assert (head["ContentType"], head["Metadata"], head["CacheControl"]) == ("text/html", {"a": "b"}, "no-cache")


def test_errors_are_understood(aws: Callable[..., str], bucket: str) -> None:
    assert "NoSuchBucket" in aws("s3", "ls", "s3://no-such-bucket-here", succeeds=False)
    assert "404" in aws("s3", "cp", f"s3://{bucket}/missing", "-", succeeds=False)
    assert "BucketNotEmpty" not in aws("s3", "ls")


def test_delete_objects_by_api(aws: Callable[..., str], bucket: str, tree: Path) -> None:
    aws("s3", "cp", str(tree), f"s3://{bucket}/", "--recursive", "--quiet")
    names = json.dumps({"Objects": [{"Key": name} for name in TREE]})
    deleted = json.loads(aws("s3api", "delete-objects", "--bucket", bucket, "--delete", names))["Deleted"]
    assert {one["Key"] for one in deleted} == set(TREE)
