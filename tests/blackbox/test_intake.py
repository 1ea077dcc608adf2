"""Clients that send and take as little as they can: what they make a real server hold is bounded, and others are served meanwhile."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.conftest import OTHER_ACCESS_KEY, OTHER_SECRET_KEY
from tests.blackbox.raw import RawClient
from tests.blackbox.signer import UNSIGNED, Signed, Signer, encode_query
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MIB = 1024 * 1024
BUDGET_MIB = 64
MAY_GROW_MIB = 2 * BUDGET_MIB  # the budget, and what lies beside it: connections, parsers, what the allocator keeps
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardgate]:
    data = tmp_path_factory.mktemp("intake")
    config = data / "intake.toml"
    patient = "".join(
        f"{name}_seconds = {PATIENCE_SECONDS}\n" for name in ("memory_wait", "manifest_timeout", "put_timeout", "get_timeout")
    )
    limits = f"memory_mib = {BUDGET_MIB}\nbody_idle_seconds = 20\n{patient}"
    config.write_text(f"{(ROOT / 'config' / 'bench.toml').read_text()}\n[limits]\n{limits}")
    with shardgate(data, config=config) as running:
        add = ["tenant", "add", "other", "--config", str(config), "--access-key", OTHER_ACCESS_KEY, "--secret-key", OTHER_SECRET_KEY]
        environ = {**os.environ, "SHARDGATE_DATA": str(data)}
        subprocess.run([sys.executable, "-m", "proxy.cli.main", *add], check=True, capture_output=True, cwd=ROOT, env=environ)
        yield running


def _client(server: Shardgate, access_key: str, secret_key: str) -> S3Client:
    return server.client(access_key=access_key, secret_key=secret_key, s3={"addressing_style": "path"})


@pytest.fixture(scope="module")
def s3(server: Shardgate) -> S3Client:
    client = _client(server, server.access_key, server.secret_key)
    client.create_bucket(Bucket="intake")
    client.put_object(Bucket="intake", Key="k", Body=os.urandom(20 * MIB))  # whatever is made at the first use is there
    return client


@pytest.fixture(scope="module")
def other_s3(server: Shardgate) -> S3Client:
    client = _client(server, OTHER_ACCESS_KEY, OTHER_SECRET_KEY)
    client.create_bucket(Bucket="other-intake")
    return client


@pytest.fixture(scope="module")
def raw(server: Shardgate) -> RawClient:
    return RawClient("127.0.0.1", server.port, Signer(server.access_key, server.secret_key, host=f"127.0.0.1:{server.port}"))


@contextmanager
def _bounded(server: Shardgate) -> Iterator[None]:
    """The server's resident memory grows by no more than it may, at any time in the block."""
    process = Path(f"/proc/{server.process.pid}")
    (process / "clear_refs").write_text("5")  # the peak begins anew
    before = _peak_mib(process)
    yield
    assert _peak_mib(process) - before < MAY_GROW_MIB


def _peak_mib(process: Path) -> float:
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _head(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _begin(raw: RawClient, head: bytes, body: bytes = b"") -> socket.socket:
    connection = raw.connect()
    with suppress(ConnectionError):
        connection.sendall(head)
        connection.sendall(body)
    return connection


def _flood(raw: RawClient, first: bytes, more: Callable[[int], bytes], count: int) -> bytes:
    """Send what never ends; return what came before the connection was closed, or what it was closed with."""
    with raw.connect() as connection:
        try:
            connection.sendall(first)
            for number in range(count):
                connection.sendall(more(number))
        except ConnectionError:
            return b"reset"
        answer = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
        return answer or b"reset"


def _in_threads(count: int, act: Callable[[], object]) -> None:
    threads = [threading.Thread(target=act) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


REQUEST_LINE = b"GET /b/k HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (REQUEST_LINE, lambda number: b"x-amz-meta-%d: " % number + b"a" * 16_000 + b"\r\n"),
        (REQUEST_LINE, lambda number: b"".join(b"a%d-%d:\r\n" % (number, each) for each in range(1000))),
        (b"GET /", lambda _: b"a" * 16_000),
        (b"GET /b/k HTTP/1.0\r\n", lambda _: b"a: b\r\n" * 2000),
    ],
    ids=["large headers", "small headers", "request line", "version 1.0"],
)
def test_a_head_without_an_end_is_refused_and_not_kept(
    server: Shardgate, s3: S3Client, raw: RawClient, first: bytes, more: Callable[[int], bytes]
) -> None:
    answers: list[bytes] = []
    with _bounded(server):
        for _ in range(4):
            _in_threads(20, lambda: answers.append(_flood(raw, first, more, 500)))
    assert all(b"RequestHeaderSectionTooLarge" in answer or answer == b"reset" for answer in answers)
    assert len(answers) == 80


@pytest.mark.parametrize("size", [9_000, 15_000, 40_000])
def test_who_sends_too_large_a_head_is_told(s3: S3Client, raw: RawClient, size: int) -> None:
    answer = raw.exchange(REQUEST_LINE + b"".join(b"x-amz-meta-%d: %s\r\n" % (each, b"a" * 1000) for each in range(size // 1000)) + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>RequestHeaderSectionTooLarge</Code>" in answer


def test_eight_kilobytes_of_headers_are_served(s3: S3Client, raw: RawClient) -> None:
    assert raw.request("GET", "/", headers={"x-filler": "a" * 7_000}).status == 200


def test_requests_sent_ahead_of_their_answers_are_answered_and_not_piled_up(server: Shardgate, s3: S3Client, raw: RawClient) -> None:
    def pipeline() -> None:
        with raw.connect() as connection, suppress(ConnectionError, TimeoutError):
            connection.settimeout(2)
            connection.sendall((REQUEST_LINE + b"\r\n") * 100_000)

    with _bounded(server):
        _in_threads(40, pipeline)
    with raw.connect() as connection:
        connection.sendall((REQUEST_LINE + b"\r\n") * 10)
        answers = b""
        while answers.count(b"HTTP/1.1 4") < 10:
            answers += connection.recv(65536)


def test_trailers_without_an_end_are_refused_and_not_kept(server: Shardgate, s3: S3Client, raw: RawClient) -> None:
    sent = {"transfer-encoding": "chunked", "x-amz-decoded-content-length": "5"}
    head = _head("PUT", "/intake/t", raw.sign("PUT", "/intake/t", sent, payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER").headers)
    with _bounded(server):
        for name in (b"t%d: ", b"1;extension=%d"):
            _in_threads(20, lambda name=name: _flood(raw, head + b"0\r\n", lambda number: name % number + b"a" * 8_000 + b"\r\n", 500))


def _signed_chunk(signed: Signed, size: int) -> bytes:
    return f"{size:x};chunk-signature={signed.chunk(bytes(size), signed.signature)}\r\n".encode()


@pytest.mark.parametrize("ends", [False, True])
def test_signed_chunks_without_their_last_byte_are_not_kept(server: Shardgate, s3: S3Client, raw: RawClient, ends: bool) -> None:
    size = 16 * MIB
    headers = {"content-encoding": "aws-chunked", "content-length": str(size + 200), "x-amz-decoded-content-length": str(size)}
    signed = raw.sign("PUT", "/intake/c", headers, payload_hash=STREAMING)
    head, line = _head("PUT", "/intake/c", signed.headers), _signed_chunk(signed, size)

    def stall(connections: ExitStack) -> None:
        connection = connections.enter_context(raw.connect())
        connection.settimeout(5)
        with suppress(OSError):
            connection.sendall(head + line)
            connection.sendall(bytes(size - 1))
        if ends:
            connection.close()

    with _bounded(server), ExitStack() as connections:
        _in_threads(30, lambda: stall(connections))
        assert s3.list_buckets()["Buckets"]


def test_documents_without_their_last_byte_are_not_kept(server: Shardgate, s3: S3Client, raw: RawClient) -> None:
    size = 2 * MIB
    query = [("delete", "")]
    signed = raw.signer.sign("POST", "/intake", query, {"content-length": str(size)})
    head = _head("POST", "/intake?delete=", signed.headers)

    def stall(connections: ExitStack) -> None:
        connection = connections.enter_context(raw.connect())
        connection.settimeout(5)
        with suppress(OSError):
            connection.sendall(head)
            connection.sendall(b" " * (size - 1))

    with _bounded(server), ExitStack() as connections:
        for _ in range(10):
            _in_threads(20, lambda: stall(connections))
        assert len(s3.get_object(Bucket="intake", Key="k")["Body"].read()) == 20 * MIB


def _drip(raw: RawClient, path: str, connections: ExitStack) -> socket.socket:
    head = _head("PUT", path, raw.sign("PUT", path, {"content-length": str(64 * MIB)}).headers)
    return connections.enter_context(_begin(raw, head, b"x"))


@pytest.mark.parametrize("count", [7, 150])
def test_clients_that_send_a_byte_now_and_then_starve_nobody(
    server: Shardgate, s3: S3Client, other_s3: S3Client, raw: RawClient, count: int
) -> None:
    data = os.urandom(20 * MIB)
    with _bounded(server), ExitStack() as connections:
        dripping = [_drip(raw, f"/intake/drip{number}", connections) for number in range(count)]
        for round_number in range(3):
            for connection in dripping:
                with suppress(ConnectionError):
                    connection.sendall(b"x")
            for client, bucket in ((s3, "intake"), (other_s3, "other-intake")):
                client.put_object(Bucket=bucket, Key=f"put{round_number}", Body=data)
        assert s3.get_object(Bucket="intake", Key="put0")["Body"].read() == data


def test_many_uploads_at_once_wait_for_each_other_and_none_is_refused(server: Shardgate, s3: S3Client, raw: RawClient) -> None:
    data = os.urandom(24 * MIB)
    numbers, answers = iter(range(48)), []

    def upload() -> None:
        path = f"/intake/many{next(numbers)}"
        head = _head(
            "PUT", path, raw.sign("PUT", path, {"content-length": str(len(data)), "connection": "close"}, payload_hash=UNSIGNED).headers
        )
        with _begin(raw, head) as connection:
            with suppress(ConnectionError):
                connection.sendall(data)
            answers.append(_read_all(connection))

    with _bounded(server):
        _in_threads(48, upload)
    assert [answer for answer in answers if not answer.startswith(b"HTTP/1.1 200 ")] == []
    assert len(answers) == 48


def test_a_form_with_a_large_file_is_stored_as_it_comes(server: Shardgate, s3: S3Client, raw: RawClient) -> None:
    form = s3.generate_presigned_post("intake", "form", Conditions=[["content-length-range", 0, 5 * 1024 * MIB]])
    before = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in form["fields"].items()
    )
    before += b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    after, pieces = b"\r\n--b--\r\n", 110
    assert pieces > BUDGET_MIB
    size = len(before) + pieces * MIB + len(after)
    head = _head(
        "POST",
        "/intake",
        {"Host": f"127.0.0.1:{server.port}", "Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(size)},
    )
    sent, got = hashlib.md5(), hashlib.md5()
    with _bounded(server), raw.connect() as connection:
        connection.sendall(head + before)
        for number in range(pieces):
            piece = random.Random(number).randbytes(MIB)
            sent.update(piece)
            connection.sendall(piece)
        connection.sendall(after)
        assert b" 204 " in connection.recv(4096).split(b"\r\n")[0]
    for piece in s3.get_object(Bucket="intake", Key="form")["Body"].iter_chunks(MIB):
        got.update(piece)
    assert got.digest() == sent.digest()


def test_readers_that_take_nothing_cut_nobody_off(server: Shardgate, s3: S3Client, raw: RawClient) -> None:
    data = os.urandom(64 * MIB)
    s3.put_object(Bucket="intake", Key="large", Body=data)
    head = _head("GET", "/intake/large", raw.sign("GET", "/intake/large").headers)
    with _bounded(server), ExitStack() as connections:
        readers = [connections.enter_context(_begin(raw, head)) for _ in range(200)]  # each with 256 KiB on its way, beside the budget
        assert s3.get_object(Bucket="intake", Key="large")["Body"].read() == data
        s3.put_object(Bucket="intake", Key="put", Body=data[: 20 * MIB])
        assert _read_all(readers[0]).endswith(data)  # it has lost its memory, not its answer


def test_listings_that_nobody_takes_are_not_kept(server: Shardgate, s3: S3Client, raw: RawClient) -> None:
    s3.create_bucket(Bucket="many-long-keys")
    s3.put_bucket_versioning(Bucket="many-long-keys", VersioningConfiguration={"Status": "Enabled"})
    markers = [{"Key": "\u00e9" * 500 + f"{number:04}"} for number in range(1000)]  # one request makes them all: a thousand take a minute
    assert len(s3.delete_objects(Bucket="many-long-keys", Delete={"Objects": markers})["Deleted"]) == 1000
    query = [("encoding-type", "url"), ("versions", "")]
    signed = raw.signer.sign("GET", "/many-long-keys", query, payload_hash=UNSIGNED)
    head = _head("GET", f"/many-long-keys?{encode_query(query)}", signed.headers)
    with _bounded(server), ExitStack() as connections:
        for _ in range(40):
            connections.enter_context(_begin(raw, head * 3))
        assert len(server.client().list_object_versions(Bucket="many-long-keys")["DeleteMarkers"]) == 1000


def _read_all(connection: socket.socket) -> bytes:
    answer = bytearray()
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(MIB)
    size = answer.index(b"\r\n\r\n") + 4 + 64 * MIB
    while len(answer) < size and (piece := connection.recv(MIB)):
        answer += piece
    return bytes(answer)
