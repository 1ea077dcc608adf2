"""What the stores hold: with the root key, enough to bring an object back without the manifest."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from proxy.codec.format import parse_header
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.label import decode_label
from proxy.codec.segment import SegmentKeys, open_segment
from proxy.manifest.protocol import VersionDraft
from tests.laboratory import Laboratory, laboratory


async def test_any_k_shards_and_the_tenants_key_give_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(300_001)
    async with laboratory(tmp_path) as lab:
        await lab.put("key", data)
        shards = await _shards(lab)
        headers = [parse_header(shard) for shard in shards]
        fixed = headers[0].fixed
        scheme = Scheme(fixed.k, fixed.m)
        keys = SegmentKeys(
            SegmentGeometry(scheme, fixed.segment_size),
            segment_id=fixed.segment_id,
            data_key=lab.services.keyring.tenant_cipher(lab.tenant).unwrap(headers[0].wrapped_key),
            tenant_key_id=fixed.tenant_key_id,
        )
        columns = {header.fixed.shard_index: shard[header.size :] for header, shard in zip(headers, shards, strict=True)}
        assert open_segment(scheme, fixed.segment_size, keys, dict(list(columns.items())[-scheme.k :])) == data


async def test_a_label_names_the_object_and_carries_its_record(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        version = await lab.put("key", b"x" * 5000)
        cipher = lab.services.keyring.tenant_cipher(lab.tenant)
        labels = [decode_label(cipher.open_label(parse_header(shard).sealed_label)) for shard in await _shards(lab)]
    (label,) = set(labels)
    assert (label.bucket, label.key, label.segment, label.offset) == ("bucket", "key", 0, 0)
    record = msgspec.msgpack.decode(label.record, type=VersionDraft)
    assert (record.key, record.id, record.size, record.etag) == ("key", label.version_id, 5000, version.etag)


async def _shards(lab: Laboratory) -> list[memoryview | bytes]:
    return [await store.get(name) for store in lab.stores.values() async for name, _ in store.list()]
