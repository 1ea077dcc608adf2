"""What fails is freed at once: cycles are looked for seldom, and each might hold a segment that no budget knows of."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from traceback import walk_tb
from types import FrameType

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from proxy.errors import BucketMissing, ManifestUnavailable, NotEnoughShards, PreconditionUnmet
from proxy.manifest.drafts import Conditions
from proxy.manifest.records import Bucket, BucketId, BucketName, ObjectAttributes, ObjectKey, Tenant, VersionId
from proxy.metrics import Counts
from proxy.server.app import listening
from proxy.server.dispatch import Dispatcher
from proxy.server.telemetry import Answered, Telemetry
from proxy.tenancy import add_tenant
from tests.blackbox.signer import UNSIGNED, Signed, Signer
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.patience import PATIENCE_SECONDS

SIZE = 1_000_000
SECRET = "secretsecretsecretsecretsecretsecretsecr"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        await running.put("k", os.urandom(SIZE))
        yield running


@contextmanager
def _cycles() -> Iterator[list[str]]:
    """Yield a list that will have the functions whose frames only a collection would free."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [item.f_code.co_qualname for item in gc.garbage if isinstance(item, FrameType)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _read(lab: Laboratory) -> Awaitable[object]:
    return lab.get("k")


def _write(lab: Laboratory) -> Awaitable[object]:
    return lab.put("other", b"x" * SIZE)


@pytest.mark.parametrize("size", [4096, 100_000])  # in a pack, and alone
async def test_what_a_pack_held_is_freed_when_it_fails(tmp_path: Path, size: int) -> None:
    async with laboratory(tmp_path, packs=True) as lab:
        for store in list(lab.stores.values())[:5]:
            store.down = True
        with _cycles() as found:
            for _ in range(2):
                with suppress(NotEnoughShards):
                    await lab.put("k", os.urandom(size))
        assert found == []


@pytest.mark.parametrize("act", [_read, _write])
@pytest.mark.parametrize("down", [1, 4])
async def test_what_stores_that_are_down_were_sent_is_freed(
    lab: Laboratory, act: Callable[[Laboratory], Awaitable[object]], down: int
) -> None:
    for name in list(lab.stores)[:down]:
        lab.stores[name].down = True
    with _cycles() as found, suppress(NotEnoughShards):
        await act(lab)
    assert found == []


async def test_a_read_of_forged_shards_is_freed(lab: Laboratory) -> None:
    for store in list(lab.stores.values())[:4]:
        store.flips_bits = True
    with _cycles() as found, suppress(NotEnoughShards):
        await lab.get("k")
    assert found == []


async def test_a_write_that_is_broken_off_while_it_is_sealed_is_freed(lab: Laboratory) -> None:
    with _cycles() as found:
        for turns in range(0, 60, 3):
            write = asyncio.ensure_future(lab.put("other", b"x" * (4 * SIZE)))
            for _ in range(turns):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.wait([write])
            del write
    assert found == []


@pytest.mark.parametrize("size", [SIZE, 4 * SIZE])  # coded at once, and as it comes
async def test_a_write_that_fails_while_it_is_coded_is_freed(lab: Laboratory, size: int) -> None:
    class Unhashable(BytesBody):
        def digest(self, data: bytes | memoryview) -> None:
            raise MemoryError

    with _cycles() as found, suppress(MemoryError):
        await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("other"), Unhashable(b"x" * size), ObjectAttributes())
    assert found == []
    assert lab.services.budget.held_bytes == 0


@pytest.mark.parametrize("packs", [False, True])
async def test_a_write_that_the_manifest_refuses_is_freed(tmp_path: Path, packs: bool) -> None:
    async with laboratory(tmp_path, packs=packs) as lab:
        bucket = replace(lab.bucket, id=BucketId(99))
        with _cycles() as found:
            for _ in range(2):
                with suppress(BucketMissing):
                    await lab.services.engine.put_object(bucket, lab.tenant, ObjectKey("k"), BytesBody(b"x" * 1000), ObjectAttributes())
        assert found == []


async def test_deletions_that_the_manifest_refuses_are_freed(lab: Laboratory) -> None:
    delete = partial(lab.services.manifest.delete_latest, marker_id=VersionId("m"), now_ms=0)
    refused = Conditions(if_match="another")
    with _cycles() as found:
        for keys in (["k"], ["k", "k", "other"]):  # alone, and together
            outcomes = await asyncio.gather(
                *(delete(lab.bucket.id, ObjectKey(key), conditions=refused) for key in keys), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [PreconditionUnmet] * len(keys)
            del outcomes
    assert found == []


async def test_a_deletion_whose_caller_is_called_back_is_freed_when_it_is_refused(lab: Laboratory) -> None:
    with _cycles() as found:
        for _ in range(2):
            begun = lab.services.manifest.begin_delete_latest(BucketId(99), ObjectKey("k"), marker_id=VersionId("m"), now_ms=0)
            assert begun is not None
            await asyncio.wait([begun.ended])
            with suppress(BucketMissing):
                begun.result()
            del begun
    assert found == []


@pytest.mark.parametrize("statement", ["SELECT nothing", "COMMIT"], ids=["alone", "with its group"])
async def test_a_change_that_the_database_fails_is_freed(lab: Laboratory, statement: str) -> None:
    committer = lab.services.manifest._committer  # type: ignore[attr-defined]
    with _cycles() as found:
        for _ in range(2):
            with suppress(ManifestUnavailable):
                await committer.run(lambda connection: connection.execute(statement))
                raise AssertionError("it has not failed")
    assert found == []


async def test_an_error_that_is_kept_keeps_no_segment(lab: Laboratory) -> None:
    error = ConnectionResetError()

    class Broken(BytesBody):
        async def chunks(self) -> AsyncIterator[bytes]:
            yield self._data[: SIZE // 2]
            raise error

    with pytest.raises(ConnectionResetError):
        await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("other"), Broken(b"x" * SIZE), ObjectAttributes())
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    assert "Filler.fill" in [frame.f_code.co_qualname for frame in frames]
    assert [frame for frame in frames if "sealer" in frame.f_locals] == []


class Counting(Telemetry):
    """Tells when a request has come to its end."""

    def __init__(self) -> None:
        super().__init__(Counts(CollectorRegistry()))
        self.ended = asyncio.Event()

    def end(self, outcome: Answered) -> None:
        super().end(outcome)
        self.ended.set()


def _begun(method: str, target: str, size: int, payload_hash: str, when: datetime, **headers: str) -> tuple[bytes, Signed]:
    path, _, query = target.partition("?")
    sent = {"content-length": str(size), **{name.replace("_", "-"): value for name, value in headers.items()}}
    signer = Signer("ACCESSACCESSACCESSAC", SECRET, host="127.0.0.1")
    signed = signer.sign(method, path, [(query, "")] if query else [], sent, payload_hash=payload_hash, when=when)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items())]
    return "\r\n".join([*lines, "", ""]).encode(), signed


def _plain(when: datetime) -> bytes:
    return _begun("PUT", "/theirs/k", 2 * SIZE, UNSIGNED, when)[0] + b"x" * SIZE


def _wrong(when: datetime) -> bytes:
    return _begun("PUT", "/theirs/k", SIZE, UNSIGNED, when, content_md5="XrY7u+Ae7tCTyyK7j1rNww==")[0] + b"x" * SIZE


def _signed_chunk(when: datetime) -> bytes:
    mode = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    head, signed = _begun("PUT", "/theirs/k", SIZE + 172, mode, when, x_amz_decoded_content_length=str(SIZE))
    return head + f"{SIZE:x};chunk-signature={signed.chunk(bytes(SIZE), signed.signature)}\r\n".encode() + bytes(SIZE - 1)


def _forged_chunk(when: datetime) -> bytes:
    return _signed_chunk(when) + b"x\r\n"


def _document(when: datetime) -> bytes:
    return _begun("POST", "/theirs?delete", 2 * SIZE, UNSIGNED, when)[0] + b"x" * SIZE


async def _their_bucket(lab: Laboratory) -> tuple[Bucket, Tenant]:
    services = lab.services
    await add_tenant(services.manifest, services.keyring, lab.clock, "u", access_key="ACCESSACCESSACCESSAC", secret_key=SECRET)
    owner = next(tenant for tenant in await services.manifest.list_tenants() if tenant.name == "u")
    bucket = Bucket(name=BucketName("theirs"), tenant_id=owner.id, policy="standard", created_ms=lab.clock.now_ms())
    return await services.manifest.create_bucket(bucket), owner


@pytest.mark.parametrize("request_of", [_plain, _wrong, _signed_chunk, _forged_chunk, _document])
async def test_what_a_client_breaks_off_is_freed_with_its_connection(lab: Laboratory, request_of: Callable[[datetime], bytes]) -> None:
    services, telemetry = lab.services, Counting()
    await _their_bucket(lab)
    request = request_of(datetime.fromtimestamp(lab.clock.now_ms() / 1000, UTC))
    async with listening(Dispatcher(services, telemetry), host="127.0.0.1", port=0) as port:
        with _cycles() as found:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                writer.write_eof()
                await telemetry.ended.wait()
                telemetry.ended.clear()
                await reader.read()
                writer.close()
                del reader, writer
    assert [frame for frame in found if not frame.startswith("test_")] == []
    assert services.budget.held_bytes == 0


@pytest.mark.parametrize("is_wanted", [False, True], ids=["its memory is free", "others want its memory"])
async def test_what_a_client_leaves_of_an_answer_is_freed_with_its_connection(lab: Laboratory, is_wanted: bool) -> None:
    services, telemetry = lab.services, Counting()
    bucket, owner = await _their_bucket(lab)
    size = 32 * SIZE  # more than the kernel takes
    await services.engine.put_object(bucket, owner, ObjectKey("large"), BytesBody(os.urandom(size)), ObjectAttributes())
    request, _ = _begun("GET", "/theirs/large", 0, UNSIGNED, datetime.fromtimestamp(lab.clock.now_ms() / 1000, UTC))
    async with listening(Dispatcher(services, telemetry), host="127.0.0.1", port=0) as port:
        with _cycles() as found:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while not services.budget._filling:  # what is being passed on
                        await asyncio.sleep(0)
                    while is_wanted and services.budget.held_bytes:
                        for grant in tuple(services.budget._filling):
                            grant.revoke()
                        await asyncio.sleep(0)
                    writer.transport.abort()
                    await telemetry.ended.wait()
                telemetry.ended.clear()
                del reader, writer
    assert [frame for frame in found if not frame.startswith("test_")] == []
    assert services.budget.held_bytes == 0
