"""What the stores hold: with the root key, enough to bring an object back without the manifest; in fewer hands than k, nothing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from proxy.codec.decode import decode_segment
from proxy.codec.footer import Footer, parse_footer
from proxy.codec.format import is_shard_name
from proxy.codec.sharing import key_sharing
from proxy.errors import NotEnoughShards
from proxy.keyring import TenantCipher
from proxy.manifest.drafts import VersionDraft
from tests.laboratory import Laboratory, laboratory

SEGMENT = 16 * 1024 * 1024


async def test_any_k_shards_and_the_tenants_key_give_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(300_001)
    async with laboratory(tmp_path) as lab:
        await lab.put("key", data)
        shards = await _shards(lab)
        assert len(shards) == 6
        for chosen in itertools.combinations(shards, 4):
            assert decode_segment({name: shards[name] for name in chosen}, _cipher(lab).open_share).plaintext == data


async def test_a_label_names_the_object_and_carries_its_record(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        version = await lab.put("key", b"x" * 5000)
        label = decode_segment(await _shards(lab), _cipher(lab).open_share).label
    assert (label.bucket, label.key, label.segment, label.offset) == ("bucket", "key", 0, 0)
    record = msgspec.msgpack.decode(label.record, type=VersionDraft)
    assert (record.key, record.id, record.size, record.etag) == ("key", label.version_id, 5000, version.etag)


async def test_fewer_than_k_shards_and_every_key_say_nothing_of_the_data_key(tmp_path: Path) -> None:
    """Of each byte of the data key all values are left, each given by exactly one k-th share that nobody has."""
    async with laboratory(tmp_path) as lab:
        await lab.put("key", b"x" * 5000)
        shards = await _shards(lab)
        with pytest.raises(NotEnoughShards):
            decode_segment(dict(list(shards.items())[:3]), _cipher(lab).open_share)
        opened = {footer.fixed.shard_index: _cipher(lab).open_share(footer) for footer in _footers(shards)}
    sharing = key_sharing(4, 6)
    for chosen in itertools.combinations(opened, 3):
        held = {index: opened[index] for index in chosen}
        absent = next(index for index in opened if index not in held)
        keys = [sharing.join(held | {absent: bytes([value]) * 32}) for value in range(256)]
        assert all(len({key[position] for key in keys}) == 256 for position in range(32))


async def test_segments_of_one_version_share_nothing_that_a_store_can_compare(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("key", os.urandom(SEGMENT + 5000))
        footers = _footers(await _shards(lab))
    assert len(footers) == 12
    assert len({footer.fixed.segment_id for footer in footers}) == 2
    assert len({footer.fixed.commitment for footer in footers}) == len({footer.sealed_label for footer in footers}) == 2
    assert len({footer.wrapped_share for footer in footers}) == 12


async def test_shares_of_two_segments_are_of_two_sharings(tmp_path: Path) -> None:
    """Placement turns: a provider may hold shard 0 of one segment and shard 1 of the next. Together they are not two shares of anything."""
    async with laboratory(tmp_path) as lab:
        await lab.put("key", os.urandom(SEGMENT + 5000))
        shares: dict[bytes, dict[int, bytes]] = {}
        for footer in _footers(await _shards(lab)):
            shares.setdefault(footer.fixed.segment_id, {})[footer.fixed.shard_index] = _cipher(lab).open_share(footer)
    first, second = shares.values()
    sharing = key_sharing(4, 6)
    data_key = sharing.join({index: first[index] for index in range(4)})
    assert data_key == sharing.join({index: second[index] for index in range(4)})
    assert data_key != sharing.join({0: first[0], 1: first[1], 2: second[2], 3: second[3]})


async def _shards(lab: Laboratory) -> dict[str, bytes | memoryview]:
    return {name: await store.get(name) for store in lab.stores.values() async for name, _ in store.list() if is_shard_name(name)}


def _footers(shards: Mapping[str, bytes | memoryview]) -> list[Footer]:
    return [parse_footer(shard, name=name, size_bytes=len(shard)) for name, shard in shards.items()]


def _cipher(lab: Laboratory) -> TenantCipher:
    return lab.services.keyring.tenant_cipher(lab.tenant)
