"""A server on an older copy of its manifest: it answers reads, refuses writes, and says why where operators look."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate
from tests.snapshots import copy_of


def health(server: Shardgate) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{server.endpoint}/-/health", timeout=PATIENCE_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_server_on_an_older_copy_is_read_only_until_it_is_accepted(tmp_path: Path) -> None:
    with shardgate(tmp_path) as server:
        server.client().create_bucket(Bucket="bucket")
        server.client().put_object(Bucket="bucket", Key="old", Body=b"old")
    copy_of(tmp_path / "manifest.sqlite", tmp_path / "copy")
    with shardgate(tmp_path) as server:
        server.client().put_object(Bucket="bucket", Key="new", Body=b"new")
    for path in tmp_path.glob("manifest.sqlite*"):
        path.unlink()
    (tmp_path / "copy").rename(tmp_path / "manifest.sqlite")
    with shardgate(tmp_path, workers=2) as server:
        s3 = server.client()
        assert s3.get_object(Bucket="bucket", Key="old")["Body"].read() == b"old"
        for write in (
            lambda: s3.put_object(Bucket="bucket", Key="k", Body=b"x" * 100_000),
            lambda: s3.delete_object(Bucket="bucket", Key="old"),
            lambda: s3.create_bucket(Bucket="another"),
            lambda: s3.create_multipart_upload(Bucket="bucket", Key="k"),
        ):
            with pytest.raises(ClientError) as refused:
                write()
            assert refused.value.response["Error"]["Code"] == "ServiceUnavailable"
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        status, reason = health(server)
        assert (status, "this manifest is an older copy" in reason) == (503, True)
        assert "this manifest is an older copy" in (tmp_path / "server.log").read_text()
        command = [sys.executable, "-m", "proxy.cli.main", "manifest", "accept", "--yes", "--config", str(server.config)]
        subprocess.run(command, cwd=ROOT, env={"SHARDGATE_DATA": str(tmp_path), "PYTHONPATH": str(ROOT)}, check=True)
        s3.put_object(Bucket="bucket", Key="k", Body=b"x")
        assert health(server) == (200, "ok\n")
