"""What a write leaves that fails at its very end: nothing visible, no shard, no memory taken, and no put that goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from proxy.codec.customer import CustomerKey
from proxy.engine.writing.body import Digests, OpenEnded
from proxy.errors import ManifestUnavailable, NotEnoughShards
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import Encryption, ObjectAttributes, ObjectKey, Version
from proxy.stores.protocol import ShardName
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.listed import listed
from tests.packing import alone, company, packs_leave, sized, some_objects

MIB = 1024 * 1024


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, put_timeout_seconds=100, packs=request.param) as running, packs_leave(running):
        yield running


async def _put(lab: Laboratory, body: BytesBody) -> Version:
    return await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), body, ObjectAttributes())


async def _assert_nothing_is_left(lab: Laboratory) -> None:
    page = await lab.services.manifest.list_objects(lab.bucket.id, prefix="", delimiter="", after="", limit=10)
    assert listed(page) == []
    assert lab.services.budget.held_bytes == 0
    await lab.collect()
    assert await lab.shards() == set()


class BadEnd(BytesBody):
    """All its bytes come, and what follows them is wrong: a trailer, or the signature of the last chunk."""

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in super().chunks():
            yield chunk
        raise ValueError("the end of the body is wrong")


class BadClaim(BytesBody):
    """What was claimed of it is not so."""

    def finish(self) -> Digests:
        raise ValueError("the digest is another")


@sized(alone=[0, 1, 100_000, 18 * MIB], packed=[1, 4096])
@pytest.mark.parametrize("kind", [BadEnd, BadClaim])
async def test_a_body_that_is_wrong_at_its_end_is_not_stored(lab: Laboratory, kind: type[BytesBody], size: int) -> None:
    async with company(lab):
        with pytest.raises(ValueError, match="the"):
            await _put(lab, kind(os.urandom(size)))
    await _assert_nothing_is_left(lab)


class OpenBody(BytesBody, OpenEnded):
    """A body whose end is known only nearly, as that of a form's file."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size_bytes += 20_000

    @property
    def sure_bytes(self) -> int:
        return len(self._data)

    async def settle(self) -> None:
        self.size_bytes = len(self._data)


class BrokenForm(OpenBody):
    """A form that breaks off before its end."""

    async def settle(self) -> None:
        raise ValueError("the form has no end")


KEY = CustomerKey(bytes(32))
UNDER_KEY = ObjectAttributes(encryption=Encryption(customer_check=KEY.check_value(bytes(24))))


@alone
@pytest.mark.parametrize("size", [100_000, 40 * MIB])
@pytest.mark.parametrize("fault", ["down", "rejects"])
async def test_a_form_whose_stores_fail_leaves_nothing(lab: Laboratory, size: int, fault: str) -> None:
    for name in list(lab.stores)[3:]:  # with three left nothing can be stored
        setattr(lab.stores[name], fault, True)
    with pytest.raises(NotEnoughShards):
        await _put(lab, OpenBody(os.urandom(size)))
    for store in lab.stores.values():
        setattr(store, fault, False)
    await _assert_nothing_is_left(lab)


@alone
@pytest.mark.parametrize("size", [100_000, 40 * MIB])
async def test_a_form_that_breaks_off_leaves_nothing(lab: Laboratory, size: int) -> None:
    with pytest.raises(ValueError, match="no end"):
        await _put(lab, BrokenForm(os.urandom(size)))
    await _assert_nothing_is_left(lab)


@alone
@pytest.mark.parametrize("fault", ["down", "rejects", "full"])
async def test_a_part_under_a_customers_key_whose_stores_fail_leaves_nothing_and_is_sent_again(lab: Laboratory, fault: str) -> None:
    engine = lab.services.engine
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("k"), UNDER_KEY)
    data = os.urandom(20 * MIB)
    for name in list(lab.stores)[3:]:  # with three left nothing can be stored
        setattr(lab.stores[name], fault, True)
    with pytest.raises(NotEnoughShards):
        await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(data), customer_key=KEY)
    for store in lab.stores.values():
        setattr(store, fault, False)
    assert lab.services.budget.held_bytes == 0
    await lab.collect()
    assert await lab.shards() == set()
    part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(data), customer_key=KEY)
    version = await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
    pieces = await engine.open_read(version, lab.tenant, 0, version.size, customer_key=KEY)
    assert b"".join([bytes(piece) async for piece in pieces]) == data


@alone
async def test_the_last_segment_leaves_only_when_the_body_has_passed_every_check(lab: Laboratory) -> None:
    with pytest.raises(ValueError, match="the"):
        await _put(lab, BadClaim(os.urandom(MIB)))
    assert sum(store.calls["put"] for store in lab.stores.values()) == 0


@sized(alone=[100_000], packed=[4096])
async def test_a_commit_that_fails_leaves_nothing_and_breaks_its_late_puts_off(
    lab: Laboratory, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, go_on = lab.stores["elm"], asyncio.Event()
    put_now = late.put

    async def put_late(name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        await go_on.wait()
        await put_now(name, body)

    async def fail(*arguments: object, **options: object) -> Version:
        raise ManifestUnavailable("fails on purpose")

    monkeypatch.setattr(late, "put", put_late)
    with monkeypatch.context() as broken:
        for step in ("commit_version", "commit_pack"):
            broken.setattr(lab.services.manifest, step, fail)
        puts = (lab.put_promptly(key, data) for key, data in some_objects(lab, size).items())
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ManifestUnavailable}
    assert [task for task in asyncio.all_tasks() if "Store.put" in repr(task.get_coro())] == []
    go_on.set()
    await _assert_nothing_is_left(lab)
