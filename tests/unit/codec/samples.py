"""Segments sealed from fixed keys, so that every test of the format sees the same bytes."""

from __future__ import annotations

from hashlib import sha256

from proxy.codec.cells import CellCipher
from proxy.codec.footer import Footer
from proxy.codec.format import KEY_SIZE, TAG_SIZE, shard_name
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.keys import Derivation, ShareCipher
from proxy.codec.label import Label, encode_label
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.codec.sharing import key_sharing

SEGMENT_ID = bytes(range(16))
DATA_KEY = bytes(range(32))
TENANT_KEY = bytes(range(32, 64))
TENANT_KEY_ID = "00112233-4455-6677-8899-aabbccddeeff"
LABEL = Label(bucket="b", key="k/é", version_id="null", segment=0, offset=0)


def pattern(size: int) -> bytes:
    block = b"".join(sha256(bytes([i])).digest() for i in range(251))
    return (block * (size // len(block) + 1))[:size]


def keys_for(scheme: Scheme, size: int, *, data_key: bytes = DATA_KEY, segment_id: bytes = SEGMENT_ID) -> SegmentKeys:
    return SegmentKeys(SegmentGeometry(scheme, size), segment_id=segment_id, data_key=data_key, tenant_key_id=TENANT_KEY_ID)


def opened(cipher: CellCipher, sealed: bytes, stripe: int = 0) -> bytes:
    """Open a cell. Raises `CellForged`."""
    cell = bytearray(len(sealed) - TAG_SIZE)
    cipher.open_into(stripe, sealed, memoryview(cell))
    return bytes(cell)


def share(keys: SegmentKeys, data_key: bytes = DATA_KEY) -> list[bytes]:
    """Share and wrap a data key, with randomness that is no randomness."""
    scheme = keys.geometry.scheme
    cipher = ShareCipher(Derivation(TENANT_KEY), keys.segment_id)
    shares = key_sharing(scheme.k, scheme.n).share(data_key, pattern(KEY_SIZE * (scheme.k - 1)))
    return [cipher.wrap(index, one, keys.fixed_part(index)) for index, one in enumerate(shares)]


def open_share(footer: Footer) -> bytes:
    """Unwrap a share as the holder of the tenant key does."""
    fixed = footer.fixed
    return ShareCipher(Derivation(TENANT_KEY), fixed.segment_id).unwrap(fixed.shard_index, footer.wrapped_share, fixed.pack())


def seal(
    scheme: Scheme, data: bytes, *, label: Label = LABEL, data_key: bytes = DATA_KEY, segment_id: bytes = SEGMENT_ID
) -> dict[str, bytes]:
    """Return the shards of a segment, by upstream name in the order of their indexes."""
    sealer = SegmentSealer(keys_for(scheme, len(data), data_key=data_key, segment_id=segment_id))
    step = scheme.stripe_size
    for offset in range(0, len(data), step):
        sealer.add([data[offset : offset + step]])
    shards = sealer.shards(label=encode_label(label), wrapped_shares=share(sealer.keys, data_key))
    return {shard_name(segment_id, index): b"".join(shard) for index, shard in enumerate(shards)}
