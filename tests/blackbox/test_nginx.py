"""The nginx configuration of the documents: clients work through it, nothing is buffered, and internals stay internal."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.ports import free_port
from tests.blackbox.command_line import run_aws
from tests.blackbox.expect import until
from tests.blackbox.signer import UNSIGNED, Signer
from tests.certificates import Authority
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate, stop, wait_for

MIB = 1024 * 1024
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {documented}
}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx")


@pytest.fixture(scope="module")
def behind(folder: Path) -> Iterator[Shardgate]:
    with shardgate(folder / "data", config=ROOT / "config/bench.toml") as running:
        running.client().create_bucket(Bucket="bucket")
        yield running


@pytest.fixture(scope="module")
def server(behind: Shardgate, folder: Path, authority: Authority) -> Iterator[Shardgate]:
    """Shardgate as clients see it through nginx."""
    authority.sign().write(folder / "certificate.pem", folder / "key.pem")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(AROUND.format(folder=folder, documented=_documented(behind.port, port, folder)))
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(config)])
    try:
        wait_for(f"https://127.0.0.1:{port}", process, ca=authority.path)
        yield Shardgate(process, f"https://127.0.0.1:{port}", behind.data, behind.config, authority.path)
    finally:
        stop(process)


def _documented(upstream: int, port: int, folder: Path) -> str:
    """Return the text of the document, with the ports and files of this test."""
    (text,) = re.findall(r"^```nginx\n(.*?)^```", (ROOT / "docs/OPERATIONS.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    for pattern, replacement in (
        (r"127\.0\.0\.1:9000", f"127.0.0.1:{upstream}"),
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"ssl_certificate  .*", f"ssl_certificate {folder}/certificate.pem;"),
        (r"ssl_certificate_key .*", f"ssl_certificate_key {folder}/key.pem;"),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, pattern
    return text


def test_aws_cli_uploads_in_parts_and_reads_back(server: Shardgate, tmp_path: Path) -> None:
    data = os.urandom(20 * MIB)
    (tmp_path / "up").write_bytes(data)
    run_aws(server, "s3", "cp", str(tmp_path / "up"), "s3://bucket/multipart")
    run_aws(server, "s3", "cp", "s3://bucket/multipart", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data
    assert server.client().head_object(Bucket="bucket", Key="multipart")["ETag"].endswith('-3"')


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls_work(server: Shardgate, authority: Authority, version: str) -> None:
    context = ssl.create_default_context(cafile=authority.path)
    s3 = server.client(signature_version=version, s3={"addressing_style": "path"})
    put = urllib.request.Request(
        s3.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": f"signed {version}"}), data=b"signed", method="PUT"
    )
    put.add_header("Content-Type", "")
    urllib.request.urlopen(put, timeout=PATIENCE_SECONDS, context=context).close()
    url = s3.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": f"signed {version}"})
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS, context=context) as answer:
        assert answer.read() == b"signed"


@pytest.mark.parametrize("key", ["a//b", "a b+c%2F", "x/../y", "./z", "\U0001f600", "?#&=;,'\"<>", "/first"])
def test_keys_reach_shardgate_as_they_were_signed(server: Shardgate, key: str) -> None:
    s3 = server.client(s3={"addressing_style": "path"})
    s3.put_object(Bucket="bucket", Key=key, Body=key.encode(), Metadata={"a.b_c": "kept"})
    answer = s3.get_object(Bucket="bucket", Key=key)
    assert answer["Body"].read() == key.encode()
    assert answer["Metadata"] == {"a.b_c": "kept"}


def test_an_upload_reaches_shardgate_while_it_is_sent(server: Shardgate, behind: Shardgate) -> None:
    signed = Signer(server.access_key, server.secret_key, host=f"127.0.0.1:{server.port}").sign(
        "PUT", "/bucket/streamed", (), {"content-length": str(2 * MIB)}, payload_hash=UNSIGNED
    )
    lines = ["PUT /bucket/streamed HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items())]
    context = ssl.create_default_context(cafile=server.ca)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + b"a" * MIB)
        until(lambda: b"shardgate_requests_in_flight 1.0" in _read(f"{behind.endpoint}/-/metrics"))
        connection.sendall(b"b" * MIB)
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("path", ["/-/health", "/-/metrics"])
def test_internals_are_not_told_to_the_world(server: Shardgate, authority: Authority, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(
            f"{server.endpoint}{path}", timeout=PATIENCE_SECONDS, context=ssl.create_default_context(cafile=authority.path)
        )
    assert refusal.value.code == 403


def test_conditions_and_ranges_pass(server: Shardgate) -> None:
    s3 = server.client(s3={"addressing_style": "path"})
    etag = s3.put_object(Bucket="bucket", Key="k", Body=b"0123456789")["ETag"]
    assert s3.get_object(Bucket="bucket", Key="k", Range="bytes=2-4")["Body"].read() == b"234"
    with pytest.raises(s3.exceptions.ClientError, match="304"):
        s3.get_object(Bucket="bucket", Key="k", IfNoneMatch=etag)
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="bucket", Key="k", Body=b"", IfNoneMatch="*")


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        return answer.read()
