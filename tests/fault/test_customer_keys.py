"""Objects under customers' keys: no keystream comes twice, nobody reads without the key, and everything that keeps data alive works."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from proxy.codec.customer import CustomerKey
from proxy.config import Config, PolicyConfig
from proxy.config.sections import MayFailConfig
from proxy.engine.ciphers import cipher_of
from proxy.engine.reading.read import ReadKeys
from proxy.engine.recover.notes import open_notes
from proxy.engine.verbs.base import CustomerKeys
from proxy.errors import CustomerKeyMissing, CustomerKeyNeedless, CustomerKeyRefused, CustomerKeyWrong
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import Encryption, Extent, ObjectAttributes, ObjectKey, Upload, Version
from proxy.manifest.sqlite.notebook import Notebook
from tests.fault.campaigns.operating import applied, carried_out, planner
from tests.fault.test_recover_labels import blank_manifest, recover
from tests.laboratory import BytesBody, Laboratory, laboratory, stored

KEY, OTHER = CustomerKey(bytes(32)), CustomerKey(b"k" * 32)
UNDER_KEY = ObjectAttributes(encryption=Encryption(customer_check=KEY.check_value(bytes(24))))
UNDER_OTHER = ObjectAttributes(encryption=Encryption(customer_check=OTHER.check_value(bytes(24))))
DATA = os.urandom(1_500_001)  # two segments of the narrow policy
NARROW = PolicyConfig(scheme="4+2", may_fail=MayFailConfig(providers=1), segment_mib=1)
WIDE = PolicyConfig(scheme="6+3", may_fail=MayFailConfig(providers=1), segment_mib=1)


def narrow(config: Config) -> Config:
    return msgspec.structs.replace(config, policies={"standard": NARROW, "wide": WIDE})


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, adjust=narrow) as running:
        yield running


async def put(lab: Laboratory, key: str = "k", data: bytes = DATA) -> Version:
    engine = lab.services.engine
    version = await engine.put_object(lab.bucket, lab.tenant, ObjectKey(key), BytesBody(data), UNDER_KEY, customer_key=KEY)
    await lab.settled()
    return version


async def find(lab: Laboratory, key: str = "k") -> Version:
    version = await lab.services.engine.find_version(lab.bucket, ObjectKey(key))
    assert version is not None
    return version


async def get(lab: Laboratory, key: str = "k", *, customer_key: CustomerKey | None = KEY, start: int = 0, length: int = -1) -> bytes:
    version = await find(lab, key)
    wanted = version.size - start if length < 0 else length
    pieces = await lab.services.engine.open_read(version, lab.tenant, start, wanted, customer_key=customer_key)
    return b"".join([bytes(piece) async for piece in pieces])


async def extents(lab: Laboratory, version: Version) -> tuple[Extent, ...]:
    return await lab.services.manifest.load_extents([ref.id for ref in version.extents])


async def coded(lab: Laboratory, extent: Extent) -> bytes:
    """Return what lies under the seal: what someone reads who has every key but the customer's."""
    cipher = await cipher_of(lab.services.manifest, lab.services.keyring, extent.layout)
    pieces = lab.services.parts.reader.open_extent(extent, ReadKeys(cipher, lab.tenant.id, as_stored=True), run_size=1 << 20)
    return b"".join([bytes(piece) async for piece in pieces])


def keystream(enciphered: bytes, plaintext: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(enciphered, plaintext, strict=True))


async def begin(lab: Laboratory, key: str = "parts") -> Upload:
    return await lab.services.engine.begin_upload(lab.bucket, lab.tenant, ObjectKey(key), UNDER_KEY)


async def complete(lab: Laboratory, upload: Upload, bodies: list[bytes]) -> Version:
    engine, parts = lab.services.engine, []
    for number, body in enumerate(bodies, 1):
        part = await engine.upload_part(lab.bucket, lab.tenant, upload, number, BytesBody(body), customer_key=KEY)
        parts.append(CompletedPart(number=number, etag=part.etag))
    version = await engine.complete_upload(lab.bucket, upload, parts)
    await lab.settled()
    return version


async def test_it_comes_back_whole_and_in_ranges(lab: Laboratory) -> None:
    await put(lab)
    assert await get(lab) == DATA
    for start, length in ((0, 1), (17, 4000), ((1 << 20) - 3, 6), (len(DATA) - 5, 5), (333_333, 1_000_000)):
        assert await get(lab, start=start, length=length) == DATA[start : start + length]


async def test_parts_come_back_whole_and_in_ranges(lab: Laboratory) -> None:
    bodies = [os.urandom(5 << 20), os.urandom(100_001)]
    await complete(lab, await begin(lab), bodies)
    whole = b"".join(bodies)
    assert await get(lab, "parts") == whole
    for start, length in ((0, 3), ((5 << 20) - 7, 20), ((5 << 20) + 9, 1000), (len(whole) - 1, 1)):
        assert await get(lab, "parts", start=start, length=length) == whole[start : start + length]


async def test_an_empty_object_is_under_the_key_too(lab: Laboratory) -> None:
    await put(lab, data=b"")
    assert await get(lab) == b""
    with pytest.raises(CustomerKeyMissing):
        await get(lab, customer_key=None)


async def test_nobody_reads_it_without_its_key(lab: Laboratory) -> None:
    version = await put(lab)
    with pytest.raises(CustomerKeyMissing):
        await get(lab, customer_key=None)
    with pytest.raises(CustomerKeyWrong):
        await get(lab, customer_key=OTHER)
    forgotten = msgspec.structs.replace(version, attributes=ObjectAttributes())  # whoever forgets what the version says of itself
    pieces = await lab.services.engine.open_read(forgotten, lab.tenant, 0, 100)
    with pytest.raises(CustomerKeyMissing):
        await anext(pieces)


async def test_a_key_that_does_not_fit_writes_nothing(lab: Laboratory) -> None:
    engine, upload = lab.services.engine, await begin(lab)
    for key, refusal in ((None, CustomerKeyMissing), (OTHER, CustomerKeyWrong)):
        with pytest.raises(refusal):
            await engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), BytesBody(DATA), UNDER_KEY, customer_key=key)
        with pytest.raises(refusal):
            await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(DATA), customer_key=key)
    with pytest.raises(CustomerKeyNeedless):
        await engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), BytesBody(DATA), ObjectAttributes(), customer_key=KEY)
    assert await engine.find_version(lab.bucket, ObjectKey("k")) is None
    assert not await lab.shards()


async def test_what_is_stored_tells_nothing_of_the_plaintext(lab: Laboratory) -> None:
    version = await put(lab, data=bytes(1_500_001))
    (extent,) = await extents(lab, version)
    enciphered = await coded(lab, extent)
    blocks = [enciphered[start : start + 16] for start in range(0, len(enciphered), 16)]
    assert len(set(blocks)) == len(blocks), "a block of the keystream came twice"
    assert version.etag != hashlib.md5(bytes(1_500_001)).hexdigest()
    assert (await put(lab, data=bytes(1_500_001))).etag != version.etag


async def test_no_keystream_is_ever_used_for_two_bodies(lab: Laboratory) -> None:
    """The same bytes, or others, under the same key: put twice, a part sent again, a copy that moves data."""
    engine, layouts = lab.services.engine, []
    for key in ("a", "a", "b"):
        layouts += await extents(lab, await put(lab, key, DATA[:100_000]))
    upload = await begin(lab)
    for body in (DATA[:100_000], DATA[:100_000], DATA[100_000:200_000]):
        part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(body), customer_key=KEY)
        layouts += await lab.services.manifest.load_extents([ref.id for ref in part.extents])
    source = await find(lab, "b")
    part = await engine.copy_part(
        source, lab.bucket, lab.tenant, 0, 50_000, lab.bucket, lab.tenant, upload, 2, customer_keys=CustomerKeys(KEY, KEY)
    )
    layouts += await lab.services.manifest.load_extents([ref.id for ref in part.extents])
    salts = [extent.layout.customer_salt for extent in layouts]
    assert len(set(salts)) == len(salts)
    assert all(len(salt) == 24 for salt in salts)
    streams = [(await coded(lab, extent))[:64] for extent in layouts[1:3]]  # the first one is gone, and these have one plaintext
    assert streams[0] != streams[1]


async def test_a_copy_under_the_same_key_shares_and_under_another_moves(lab: Laboratory) -> None:
    source, engine = await put(lab), lab.services.engine

    async def copy(to: str, attributes: ObjectAttributes, keys: CustomerKeys) -> Version:
        return await engine.copy_object(
            source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey(to), attributes, customer_keys=keys
        )

    same = await copy("same", UNDER_KEY, CustomerKeys(KEY, KEY))
    assert (same.extents, same.etag) == (source.extents, source.etag)
    other = await copy("other", UNDER_OTHER, CustomerKeys(KEY, OTHER))
    plain = await copy("plain", ObjectAttributes(), CustomerKeys(KEY, None))
    assert not {*other.extents, *plain.extents} & {*source.extents}
    assert plain.etag == hashlib.md5(DATA).hexdigest()
    assert await get(lab, "same") == await get(lab, "other", customer_key=OTHER) == await get(lab, "plain", customer_key=None) == DATA
    for keys in (CustomerKeys(None, None), CustomerKeys(OTHER, None), CustomerKeys(None, OTHER)):
        with pytest.raises(CustomerKeyRefused):
            await copy("never", ObjectAttributes() if keys.target is None else UNDER_OTHER, keys)


async def test_it_is_repaired_without_the_key(lab: Laboratory) -> None:
    await put(lab)
    extent, segment = await stored(lab)
    before = await coded(lab, extent)
    await lab.stores[segment.stores[0]].delete(segment.shard_name(0))
    assert await get(lab) == DATA
    await lab.settled()
    while not (await lab.worker("repair").step()).idle:
        pass
    await lab.settled()
    _, repaired = await stored(lab)
    assert not repaired.missing
    assert repaired.shard_name(0) != segment.shard_name(0)
    for index, other in enumerate(repaired.stores[1:3], 1):
        await lab.stores[other].delete(repaired.shard_name(index))
    extent, _ = await stored(lab)
    assert await coded(lab, extent) == before
    assert await get(lab) == DATA


async def test_it_moves_to_another_policy_without_the_key_and_keeps_its_keystream(lab: Laboratory) -> None:
    bodies = [os.urandom(5 << 20), os.urandom(100_001)]
    whole, parts = await put(lab), await complete(lab, await begin(lab), bodies)
    before = [*await extents(lab, whole), *await extents(lab, parts)]
    enciphered = [await coded(lab, extent) for extent in before]
    await carried_out(lab, await applied(lab, await planner(lab).move_policy("bucket", "wide")))
    after = [*await extents(lab, await find(lab)), *await extents(lab, await find(lab, "parts"))]
    assert {(extent.layout.k, extent.layout.policy) for extent in after} == {(6, "wide")}
    assert [extent.layout.customer_salt for extent in after] == [extent.layout.customer_salt for extent in before]
    assert [await coded(lab, extent) for extent in after] == enciphered
    assert await get(lab) == DATA
    assert await get(lab, "parts") == b"".join(bodies)


@pytest.mark.parametrize("moved", [False, True], ids=["as it was written", "after a move to another policy"])
async def test_it_comes_back_from_labels_alone(lab: Laboratory, tmp_path: Path, moved: bool) -> None:
    whole = await put(lab)
    upload = await begin(lab)
    part = await lab.services.engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(DATA), customer_key=KEY)
    await lab.settled()
    if moved:
        await carried_out(lab, await applied(lab, await planner(lab).move_policy("bucket", "wide")))
        await lab.collect()
    async with blank_manifest(lab, tmp_path / "new.sqlite") as manifest, open_notes(tmp_path / "notes.sqlite") as notes:
        await manifest.begin_upload(upload)
        place = await recover(lab, manifest, notes)
        assert (place.versions, place.parts) == (1, 1), await notes.run(Notebook.findings, 9)
        version = await manifest.find_version(lab.bucket.id, ObjectKey("k"))
        assert version is not None
        assert (version.etag, version.attributes) == (whole.etag, whole.attributes)
        (found,) = await manifest.list_parts(upload.id)
        assert found.etag == part.etag
        for refs in (version.extents, found.extents):
            salts = [extent.layout.customer_salt for extent in await manifest.load_extents([ref.id for ref in refs])]
            assert all(len(salt) == 24 for salt in salts)
        (extent,) = await manifest.load_extents([ref.id for ref in version.extents])
        pieces = await lab.services.engine.open_read(version, lab.tenant, 0, version.size, extents=(extent,), customer_key=KEY)
        assert b"".join([bytes(piece) async for piece in pieces]) == DATA
