"""How answers of providers become our errors, against a server that says what it is told to."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from proxy.clock import SystemClock
from proxy.config import StoreConfig
from proxy.errors import ConfigError, ShardMissing, ShardOversized, StoreError, StoreRejected, StoreUnavailable
from proxy.stores.build import open_store
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import Store
from proxy.stores.upstream import azure_store, gcs_store, s3_store
from tests.patience import PATIENCE_SECONDS
from tests.unit.stores.conftest import INFO, NAME

MIB = 1024 * 1024
SECRET = "AWS4-HMAC-SHA256-signature-0123456789abcdef"


class Provider(ThreadingHTTPServer):
    """Answers every request with one status and body, and remembers what it was asked."""

    status = 200
    body = b""
    headers: dict[str, str] = {}
    hangs = False  # until the test ends
    connections = 0
    sent = 0
    traced_bytes = 0  # when the head of the last request had come

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.over = threading.Event()
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answer(self, status: int, code: str = "") -> None:
        self.status = status
        self.body = f"<Error><Code>{code}</Code><SignatureProvided>{SECRET}</SignatureProvided></Error>".encode() if code else b""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is no news."""


class _Answer(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def _answer(self) -> None:
        if tracemalloc.is_tracing():
            self.server.traced_bytes = tracemalloc.get_traced_memory()[0]
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        if self.server.hangs:
            self.server.over.wait(PATIENCE_SECONDS)
        self.send_response(self.server.status)
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(self.server.body), MIB):
            self.wfile.write(self.server.body[start : start + MIB])
            self.server.sent += MIB

    do_GET = do_PUT = do_DELETE = do_POST = _answer

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


KINDS = ["s3", "gcs", "azure"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, provider: Provider) -> Store:
    return _store(request.param, provider, PATIENCE_SECONDS)


def _store(kind: str, provider: Provider, timeout_seconds: float) -> Store:
    if kind == "gcs":
        return gcs_store(INFO, bucket="bucket", endpoint=provider.url, anonymous=True, timeout_seconds=timeout_seconds)
    if kind == "azure":
        return azure_store(
            INFO, container="bucket", account="acc", account_key="Zm9v", endpoint=provider.url, timeout_seconds=timeout_seconds
        )
    return _s3(provider, timeout_seconds=timeout_seconds)


def _s3(provider: Provider, *, timeout_seconds: float = PATIENCE_SECONDS) -> Store:
    return s3_store(
        INFO, bucket="bucket", prefix="pre/fix", endpoint=provider.url, access_key="k", secret_key="s", timeout_seconds=timeout_seconds
    )


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "InternalError", StoreUnavailable),
        (503, "SlowDown", StoreUnavailable),
        (429, "", StoreUnavailable),
        (408, "", StoreUnavailable),
        (409, "OperationAborted", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (400, "ExpiredToken", StoreUnavailable),
        (403, "RequestTimeTooSkewed", StoreUnavailable),
        (400, "AuthorizationHeaderMalformed", StoreRejected),
        (401, "", StoreRejected),
        (403, "AccessDenied", StoreRejected),
        (403, "SignatureDoesNotMatch", StoreRejected),
        (404, "NoSuchBucket", StoreRejected),
        (404, "ContainerNotFound", StoreRejected),
    ],
)
async def test_answers_become_errors(store: Store, provider: Provider, status: int, code: str, kind: type[StoreError]) -> None:
    provider.answer(status, code)
    for call in (store.put(NAME, [b"x"]), store.get_range(NAME, 0, 5), store.get(NAME), store.delete(NAME)):
        with pytest.raises(kind) as caught:
            await call
        assert SECRET not in str(caught.value)
        assert "Signature" not in str(caught.value).replace("SignatureDoesNotMatch", "")
    assert len(provider.requests) == 4  # none of them tried twice
    with pytest.raises(kind):
        _ = [entry async for entry in store.list()]


async def test_a_missing_shard(store: Store, provider: Provider) -> None:
    provider.answer(404, "NoSuchKey")
    for call in (store.get(NAME), store.get_range(NAME, 0, 5)):
        with pytest.raises(ShardMissing):
            await call


async def test_a_range_beyond_the_end(store: Store, provider: Provider) -> None:
    provider.answer(416, "InvalidRange")
    with pytest.raises(ShardMissing):
        await store.get_range(NAME, 10, 5)


async def test_an_answer_longer_than_the_range_asked_for_is_not_read_to_its_end(store: Store, provider: Provider) -> None:
    provider.status, provider.headers, provider.body = 206, {"Content-Range": "bytes 0-99/1000"}, bytes(64 * MIB)
    with pytest.raises(StoreUnavailable, match="more than the 100 bytes asked for"):
        await store.get_range(NAME, 0, 100)
    assert provider.sent < 32 * MIB  # what the sockets hold


async def test_what_is_announced_larger_than_any_shard_is_not_read(store: Store, provider: Provider) -> None:
    provider.body = bytes(64 * MIB)
    with pytest.raises(ShardOversized, match="no shard is that large"):
        await store.get(NAME)
    assert provider.sent < 32 * MIB


async def test_ranges_one_after_the_other_share_a_connection(store: Store, provider: Provider) -> None:
    sizes = (100, 100_000, 2 * MIB, 100) * 3
    for size in sizes:
        provider.status, provider.headers, provider.body = 206, {"Content-Range": f"bytes 0-{size - 1}/{size}"}, bytes(size)
        assert await store.get_range(NAME, 0, size) == provider.body
    # Not always one: the next request may come before the last one's connection is back in the client's pool.
    assert provider.connections < len(sizes)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_hangs_is_unavailable(kind: str, provider: Provider) -> None:
    provider.hangs = True
    with pytest.raises(StoreUnavailable, match="HTTP error"):
        await _store(kind, provider, 0.5).get(NAME)
    while not provider.requests:  # a busy machine may have been late to accept it
        await asyncio.sleep(0.01)
    assert len(provider.requests) == 1


async def test_a_put_sends_its_pieces_as_they_lie(store: Store, provider: Provider) -> None:
    pieces = [bytes([number]) * 65_552 for number in range(64)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await store.put(NAME, [*pieces, memoryview(b"foot"), bytearray(b"er"), b""])
    finally:
        tracemalloc.stop()
    assert provider.traced_bytes - before < len(pieces) * len(pieces[0]) // 4
    assert provider.requests[-1][3] == b"".join(pieces) + b"footer"


async def test_a_put_is_one_request_of_the_whole_shard(provider: Provider) -> None:
    await _s3(provider).put(NAME, [b"head", memoryview(bytes(12_000_000))])
    ((command, path, _, body),) = provider.requests
    assert (command, path, len(body)) == ("PUT", f"/bucket/pre/fix/{NAME}", 12_000_004)


async def test_the_environment_changes_nothing(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "mars-north-1")
    await _s3(provider).put(NAME, [b"x"])
    headers = provider.requests[0][2]
    assert "x-amz-security-token" not in headers
    assert "Credential=k/" in headers["authorization"]
    assert "/us-east-1/s3/" in headers["authorization"]


async def test_without_keys_boto3_is_asked(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "chain")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "mars-north-1")
    await s3_store(INFO, bucket="bucket", endpoint=provider.url).put(NAME, [b"x"])
    headers = provider.requests[0][2]
    assert "Credential=chain/" in headers["authorization"]
    assert "/us-east-1/s3/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "token"


def test_no_credentials_at_all_is_a_fault_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(ConfigError, match=r"stores\.s: boto3 finds no credentials"):
        s3_store(INFO, bucket="bucket")


async def test_payloads_are_hashed_without_tls_only(provider: Provider) -> None:
    await _s3(provider).put(NAME, [b"x"])
    assert provider.requests[0][2]["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"


async def test_a_bucket_is_created_on_request(provider: Provider) -> None:
    await _open_creating(provider)
    assert [(command, path) for command, path, *_ in provider.requests] == [("PUT", "/bucket")]


@pytest.mark.parametrize("status", [403, 409, 500])
async def test_a_bucket_that_cannot_be_created_is_no_reason_not_to_start(
    provider: Provider, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    provider.answer(status, "BucketAlreadyOwnedByYou" if status == 409 else "AccessDenied")
    store = await _open_creating(provider)
    assert store.ready_for("put")
    assert bool(caplog.records) == (status != 409)


async def _open_creating(provider: Provider) -> ObservedStore:
    place = {"provider": "p", "region": "us-east-1", "jurisdiction": "j", "bucket": "bucket", "endpoint": provider.url}
    config = StoreConfig(kind="s3", **place, access_key="k", secret_key="s", create_bucket=True)
    return (await open_store("s", config, clock=SystemClock(), create=True, open_seconds=10, put_seconds=10, get_seconds=10)).store
