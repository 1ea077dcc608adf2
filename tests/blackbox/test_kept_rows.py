"""Who may do what is kept in the memory of each worker, and yet no worker lets anybody in a moment longer than it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.blackbox.raw import RawAnswer
from tests.blackbox.signer import UNSIGNED, Signer
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate

CONFIG = ROOT / "config" / "bench.toml"
WORKERS = 2
Send = Callable[..., list[RawAnswer]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Shardgate]:
    with shardgate(tmp_path, config=CONFIG, workers=WORKERS) as running:
        yield running


@pytest.fixture
def each(server: Shardgate) -> Iterator[Send]:
    """Send a request to each of the workers, over connections that stay open, and return their answers."""
    host, port = "127.0.0.1", server.port
    workers: dict[str, HTTPConnection] = {}
    with ExitStack() as opened:
        while len(workers) < WORKERS:
            connection = opened.enter_context(closing(HTTPConnection(host, port, timeout=PATIENCE_SECONDS)))
            workers.setdefault(_send(connection, _signer(server), "GET", "/").headers["x-amz-id-2"], connection)

        def send(method: str, path: str, *, signer: Signer | None = None, body: bytes = b"") -> list[RawAnswer]:
            return [_send(connection, signer or _signer(server), method, path, body) for connection in workers.values()]

        yield send


def _signer(server: Shardgate, access_key: str = "", secret_key: str = "") -> Signer:
    return Signer(access_key or server.access_key, secret_key or server.secret_key, f"127.0.0.1:{server.port}")


def _send(connection: HTTPConnection, signer: Signer, method: str, target: str, body: bytes = b"") -> RawAnswer:
    path, _, name = target.partition("?")
    signed = signer.sign(method, path, [(name, "")] if name else [], payload_hash=UNSIGNED)
    connection.request(method, target + ("=" if name else ""), body=body or None, headers=signed.headers)
    answer = connection.getresponse()
    return RawAnswer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def _statuses(answers: list[RawAnswer]) -> list[int]:
    return [answer.status for answer in answers]


def _command(tmp_path: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "proxy.cli.main", *arguments, "--config", str(CONFIG)]
    environ = {**os.environ, "SHARDGATE_DATA": str(tmp_path)}
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environ).stdout


def _warm(each: Send, path: str, **options: Signer) -> None:
    for method in ("GET", "HEAD", "GET", "HEAD"):
        assert _statuses(each(method, path, **options)) == [200] * WORKERS


def test_a_key_that_the_command_revokes_is_refused_by_every_worker_at_once(server: Shardgate, each: Send, tmp_path: Path) -> None:
    tenants = json.loads(_command(tmp_path, "tenant", "list", "--json"))
    made = json.loads(_command(tmp_path, "key", "add", tenants[0]["name"], "--json"))
    signer = _signer(server, made["access_key"], made["secret_key"])
    each("PUT", "/bucket")
    each("PUT", "/bucket/k", body=b"content")
    _warm(each, "/bucket/k", signer=signer)
    _command(tmp_path, "key", "revoke", made["access_key"])
    for method, path in (("GET", "/bucket/k"), ("HEAD", "/bucket/k"), ("GET", "/bucket"), ("DELETE", "/bucket/k"), ("PUT", "/bucket/k")):
        assert _statuses(each(method, path, signer=signer)) == [403] * WORKERS
    _warm(each, "/bucket/k")


def test_a_tenant_that_the_command_disables_is_refused_and_let_in_again(each: Send, tmp_path: Path) -> None:
    tenants = json.loads(_command(tmp_path, "tenant", "list", "--json"))
    each("PUT", "/bucket")
    each("PUT", "/bucket/k", body=b"content")
    _warm(each, "/bucket/k")
    _command(tmp_path, "tenant", "disable", tenants[0]["name"])
    assert _statuses(each("GET", "/bucket/k")) == [403] * WORKERS
    _command(tmp_path, "tenant", "enable", tenants[0]["name"])
    _warm(each, "/bucket/k")


def test_a_bucket_policy_holds_in_the_other_workers_too(server: Shardgate, each: Send) -> None:
    each("PUT", "/bucket")
    each("PUT", "/bucket/k", body=b"content")
    _warm(each, "/bucket/k")
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [denied]}).encode()
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)) as one:
        assert _send(one, _signer(server), "PUT", "/bucket?policy", document).status == 204
        assert _statuses(each("GET", "/bucket/k")) == [403] * WORKERS
        assert _send(one, _signer(server), "DELETE", "/bucket?policy").status == 204
    _warm(each, "/bucket/k")


def test_a_bucket_that_is_deleted_and_made_anew_is_the_new_one_for_every_worker(server: Shardgate, each: Send) -> None:
    each("PUT", "/bucket")
    each("PUT", "/bucket/k", body=b"content")
    _warm(each, "/bucket/k")
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)) as one:
        assert _send(one, _signer(server), "DELETE", "/bucket/k").status == 204
        assert _send(one, _signer(server), "DELETE", "/bucket").status == 204
        assert [answer.verdict[1] for answer in each("GET", "/bucket/k")] == ["NoSuchBucket"] * WORKERS
        assert _send(one, _signer(server), "PUT", "/bucket").status == 200
        assert [answer.verdict[1] for answer in each("GET", "/bucket/k")] == ["NoSuchKey"] * WORKERS
        assert _send(one, _signer(server), "PUT", "/bucket/k", b"other").status == 200
    assert [answer.body for answer in each("GET", "/bucket/k")] == [b"other"] * WORKERS
