"""A decoder written from docs/FORMAT.md alone: no line of the codec, other arithmetic. What it cannot read, the page does not say."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache
from itertools import count

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB


def hkdf(key: bytes, info: bytes) -> bytes:
    extracted = hmac.digest(bytes(32), key, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def open_salted(key: bytes, use: bytes, stored: bytes, tenant_id: str) -> bytes:
    return AESGCM(hkdf(key, use + stored[:24])).decrypt(bytes(12), stored[24:], tenant_id.encode())


def multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = a << 1, b >> 1
        if a & 0x100:
            a ^= 0x11D
    return product


INVERSE = [0] + [next(b for b in count(1) if multiply(a, b) == 1) for a in range(1, 256)]


def scale(factor: int, block: bytes) -> bytes:
    return block.translate(bytes(multiply(factor, value) for value in range(256)))


def add(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


def solve(rows: list[list[int]], values: list[bytes]) -> list[bytes]:
    """Solve a square system by elimination, with blocks of bytes on the right side."""
    whole = [(bytes(row), value) for row, value in zip(rows, values, strict=True)]
    for column in range(len(whole)):
        pivot = next(row for row in range(column, len(whole)) if whole[row][0][column])
        whole[column], whole[pivot] = whole[pivot], whole[column]
        factor = INVERSE[whole[column][0][column]]
        whole[column] = row, value = scale(factor, whole[column][0]), scale(factor, whole[column][1])
        for other, (left, right) in enumerate(whole):
            if other != column and left[column]:
                whole[other] = add(left, scale(left[column], row)), add(right, scale(left[column], value))
    return [value for _, value in whole]


def decode(shards: Mapping[str, bytes], tenant_key: bytes) -> tuple[bytes, dict[str, object]]:
    """Return plaintext and label of the segment that `shards`, k of them, belong to."""
    columns, shares, fixed, sealed_label = {}, {}, b"", b""
    for name, shard in shards.items():
        label_size = int.from_bytes(shard[-4:], "big")
        at = len(shard) - 144 - label_size
        sealed_label, wrapped, fixed = shard[at : at + label_size], shard[at + label_size :][:48], shard[at + label_size + 48 :][:88]
        assert fixed[:6] == b"SHGT\x01\x01"
        assert name == f"{fixed[8:9].hex()}/{fixed[8:24].hex()}-{fixed[24]:02x}"
        share_key = hkdf(tenant_key, b"shardgate v1 shares " + fixed[8:24])
        shares[fixed[24]] = AESGCM(share_key).decrypt(bytes(11) + fixed[24:25], wrapped, fixed)
        columns[fixed[24]] = (shard[:at], fixed)
    k, segment_id, size = fixed[6], fixed[8:24], int.from_bytes(fixed[32:40], "big")
    indexes = sorted(shares)
    data_key = solve([[INVERSE[(128 + i) ^ j] for j in range(k)] for i in indexes], [shares[i] for i in indexes])[0]
    assert hkdf(data_key, b"shardgate v1 commitment " + segment_id) == fixed[56:88]
    first = fixed[:24] + b"\0" + fixed[25:]
    padded = AESGCM(hkdf(data_key, b"shardgate v1 label " + segment_id)).decrypt(bytes(12), sealed_label, first)
    label = msgspec.msgpack.decode(padded[4 : 4 + int.from_bytes(padded[:4], "big")])
    return _plaintext(columns, data_key, k, segment_id, size), label


def _plaintext(columns: Mapping[int, tuple[bytes, bytes]], data_key: bytes, k: int, segment_id: bytes, size: int) -> bytes:
    stripes = -(-size // (k * 65_536))
    last_cell = -(-(size - (stripes - 1) * k * 65_536) // k)
    indexes, plaintext = sorted(columns), b""
    rows = [[int(i == j) for j in range(k)] if i < k else [INVERSE[i ^ j] for j in range(k)] for i in indexes]
    for stripe in range(stripes):
        cell = last_cell if stripe == stripes - 1 else 65_536
        nonce = stripe.to_bytes(11, "big") + bytes([stripe == stripes - 1])
        cells = []
        for index in indexes:
            sealed, fixed = columns[index]
            key = hkdf(data_key, b"shardgate v1 cells " + segment_id + bytes([index]))
            cells.append(AESGCM(key).decrypt(nonce, sealed[stripe * 65_552 :][: cell + 16], fixed))
        plaintext += b"".join(solve(rows, cells))
    return plaintext[:size]


def slot_alone(shard: bytes, data_key: bytes, offset: int, size: int) -> bytes:
    """Return the object of `size` bytes in the slot at `offset` of a pack from the one shard that holds it."""
    fixed = shard[-96:-8]
    return _open_slot(fixed, data_key, offset, _run(shard, fixed, data_key, offset, size))


def slot_of_others(shards: list[bytes], data_key: bytes, offset: int, size: int) -> bytes:
    """Return the object in a slot from k shards that do not hold it."""
    fixed = [shard[-96:-8] for shard in shards]
    k, column = fixed[0][6], offset // (int.from_bytes(fixed[0][32:40], "big") // fixed[0][6])
    rows = [[int(one[24] == j) for j in range(k)] if one[24] < k else [INVERSE[one[24] ^ j] for j in range(k)] for one in fixed]
    runs = [_run(shard, one, data_key, offset, size) for shard, one in zip(shards, fixed, strict=True)]
    return _open_slot(fixed[0], data_key, offset, solve(rows, runs)[column])


def slot_in(plaintext: bytes, fixed: bytes, data_key: bytes, offset: int, size: int) -> bytes:
    """Return the object in a slot from the plaintext of the whole segment."""
    k, whole = fixed[6], len(plaintext)
    column, position = divmod(offset, whole // k)
    stripes = -(-whole // (k * 65_536))
    last = (whole - (stripes - 1) * k * 65_536) // k
    cells = [65_536] * (stripes - 1) + [last]
    column_bytes = b"".join(plaintext[stripe * k * 65_536 + column * cell :][:cell] for stripe, cell in enumerate(cells))
    return _open_slot(fixed, data_key, offset, column_bytes[position : position + size + 16])


def _run(shard: bytes, fixed: bytes, data_key: bytes, offset: int, size: int) -> bytes:
    """Undo the cipher of a run of a shard's cells, without their tags."""
    k, whole = fixed[6], int.from_bytes(fixed[32:40], "big")
    stripes, start = -(-whole // (k * 65_536)), offset % (whole // k)
    key = hkdf(data_key, b"shardgate v1 cells " + fixed[8:25])
    found = b""
    for position in range(start, start + size + 16):
        stripe, byte = divmod(position, 65_536)
        counter = stripe.to_bytes(11, "big") + bytes([stripe == stripes - 1]) + (2 + byte // 16).to_bytes(4, "big")
        sealed = shard[position + 16 * (position // 65_536)]
        found += bytes([sealed ^ _block(key, counter)[byte % 16]])
    return found


@lru_cache(maxsize=8)
def _block(key: bytes, counter: bytes) -> bytes:
    return Cipher(AES(key), ECB()).encryptor().update(counter)


def _open_slot(fixed: bytes, data_key: bytes, offset: int, sealed: bytes) -> bytes:
    key = hkdf(data_key, b"shardgate v1 slots " + fixed[8:24])
    return AESGCM(key).decrypt(offset.to_bytes(12, "big"), sealed, fixed[:24] + b"\0" + fixed[25:])
