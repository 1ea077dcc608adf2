#!/usr/bin/env python3
"""shardgate-decode: objects from shard files and the root key, without Shardgate.

You need this file, Python 3.11, the package `cryptography`, the root key file, and copies of what the stores hold: of so many stores that
each segment has k shards among them.

    python3 shardgate-decode.py --root-key root.key --list alder/ birch/ cedar/ dogwood/
    python3 shardgate-decode.py --root-key root.key --output objects alder/ birch/ cedar/ dogwood/

An object under a customer's key (SSE-C) also needs that: --customer-key FILE, as often as there are keys. The file has the 32 bytes, or
their base64.

An argument is a directory, all of whose files are looked at, or a shard file. Names do not matter: a shard says in its footer what it is,
and what is no shard is passed over. So it does not matter how a bucket was copied, or how many of them lie in one directory.

What it finds. Tenants and their keys, buckets, and which segments an object has are in the manifest's copy: the newest checkpoint that is
whole, and the journal behind it. What was written after the end of the journal says in its labels what it is, and a pack of small objects
in its table. Every byte that is written was authenticated under keys that come from the root key.

What it writes. The latest version of each object, or with --all-versions every version, as OUTPUT/BUCKET/KEY. A key that cannot be a file
there becomes OUTPUT/_other/NUMBER: one with "..", an empty part or a control character in it, one that is too long, or one that stands in
the way of another. OUTPUT/index.tsv has a line for each object: state, file, bucket, key, version, size, and what is wrong with it. Nothing
is ever written outside of OUTPUT, and no file that is there is replaced.

Exit code: 0 if everything that was found is whole, 1 if something is not, 2 if nothing can be done.

It is written from docs/FORMAT.md, which describes all of this, and shares no code with Shardgate.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import os
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

CELL, TAG, MAX_SEGMENT = 65_536, 16, 16 * 1024 * 1024
FIXED = struct.Struct(">4sBBBB16sB3sIQ16s32s")
JOURNAL_KEY_ID = "00000000-0000-4000-8000-6a6f75726e61"
ROOT_KEY_PREFIX = "shardgate-root-key-v1:"
INDEX = "index.tsv"
OTHER = "_other"  # no bucket has this name: it has an underscore
MAX_NAME = 255  # bytes of one part of a path, on the usual file systems
MOST_NOTES = 20  # that are printed: without a store too many, each segment has one
KEPT_OPEN = 64  # segments whose footers need not be read again
MAX_TRIES = 2_000  # ways to choose k shares of a segment


class Damaged(Exception):
    """Something cannot be read; the message says what."""


# Keys


def hkdf(key: bytes, info: bytes) -> bytes:
    return hmac.digest(hmac.digest(bytes(32), key, hashlib.sha256), info + b"\x01", hashlib.sha256)


def open_sealed(key: bytes, nonce: bytes, sealed: bytes, associated: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        raise Damaged(f"{what} does not open") from None


def read_root_key(path: Path) -> bytes:
    try:
        text = path.read_text("ascii").strip()
        key = base64.b64decode(text.removeprefix(ROOT_KEY_PREFIX), validate=True) if text.startswith(ROOT_KEY_PREFIX) else b""
    except OSError as error:
        raise SystemExit(f"cannot read the root key {path}: {error.strerror}") from None
    except ValueError:  # not text, or not Base64
        key = b""
    if len(key) != 32:
        raise SystemExit(f"{path} is not a root key file")
    return key


def read_customer_key(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        key = data if len(data) == 32 else base64.b64decode(data.strip(), validate=True)
    except OSError as error:
        raise SystemExit(f"cannot read the customer's key {path}: {error.strerror}") from None
    except ValueError:
        key = b""
    if len(key) != 32:
        raise SystemExit(f"{path} has neither 32 bytes nor the base64 of 32 bytes")
    return key


def fitting_key(customer_keys: Iterable[bytes], check: bytes) -> bytes:
    """Return the customer's key that a check value was made with. Raises `Damaged`."""
    for key in customer_keys:
        if hmac.compare_digest(hkdf(key, b"shardgate v1 customer check " + check[:24]), check[24:]):
            return key
    raise Damaged("it is under a customer's key, and none was given that fits: see --customer-key")


def decipher(customer_key: bytes, salt: bytes, offset: int, data: bytes) -> bytes:
    """Return the plaintext of what lies at an offset of an extent."""
    key = hkdf(customer_key, b"shardgate v1 customer stream " + salt)
    stream = Cipher(AES(key), CTR((offset // 16).to_bytes(16, "big"))).decryptor()
    stream.update(bytes(offset % 16))
    return stream.update(data)


def tenant_key(root_key: bytes, tenant_id: str, wrapped: bytes) -> bytes:
    key = hkdf(root_key, b"shardgate v1 tenant key " + wrapped[:24])
    return open_sealed(key, bytes(12), wrapped[24:], tenant_id.encode(), f"the key of tenant {tenant_id}")


# GF(2^8) with the polynomial 0x11d


def multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = (a << 1) ^ (0x11D if a & 0x80 else 0), b >> 1
    return product


PRODUCTS = [bytes(multiply(factor, value) for value in range(256)) for factor in range(256)]
INVERSE = [0, *(PRODUCTS[factor].index(1) for factor in range(1, 256))]


def add(blocks: Sequence[bytes]) -> bytes:
    total = 0
    for block in blocks:
        total ^= int.from_bytes(block, "big")
    return total.to_bytes(len(blocks[0]), "big")


def combine(factors: Sequence[int], blocks: Sequence[bytes]) -> bytes:
    """Return the sum of blocks, each multiplied by its factor."""
    return add([block.translate(PRODUCTS[factor]) for factor, block in zip(factors, blocks, strict=True)])


@lru_cache(maxsize=256)
def inverted(rows: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Return the inverse of a regular square matrix, by elimination."""
    size = len(rows)
    work = [[*row, *(int(column == place) for column in range(size))] for place, row in enumerate(rows)]
    for column in range(size):
        pivot = next(place for place in range(column, size) if work[place][column])
        work[column], work[pivot] = work[pivot], work[column]
        factor = INVERSE[work[column][column]]
        work[column] = [PRODUCTS[factor][value] for value in work[column]]
        for place in range(size):
            if place != column and (factor := work[place][column]):
                work[place] = [value ^ PRODUCTS[factor][other] for value, other in zip(work[place], work[column], strict=True)]
    return tuple(tuple(row[size:]) for row in work)


def join_shares(k: int, shares: Mapping[int, bytes]) -> bytes:
    """Return the data key from k shares by index."""
    rows = tuple(tuple(INVERSE[(128 + index) ^ block] for block in range(k)) for index in shares)
    return combine(inverted(rows)[0], list(shares.values()))


# MessagePack: https://github.com/msgpack/msgpack/blob/master/spec.md


class Unpacker:
    """Reads one value. All that is here was authenticated before, so what does not fit is an error of this program or of its age."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) < size:
            raise Damaged("a record ends too early")
        self.at += size
        return piece

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "big", signed=signed)

    def value(self) -> Any:  # noqa: PLR0912 - one line a kind, as the specification has them
        tag = self.number(1)
        if tag < 0x80:
            return tag
        if tag < 0x90:
            return self.map(tag & 15)
        if tag < 0xA0:
            return self.array(tag & 15)
        if tag < 0xC0:
            return self.take(tag & 31).decode()
        if tag >= 0xE0:
            return tag - 256
        if tag in {0xC0, 0xC2, 0xC3}:
            return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
        if 0xC4 <= tag <= 0xC6:
            return self.take(self.number(1 << (tag - 0xC4)))
        if tag in {0xCA, 0xCB}:
            return struct.unpack(">f" if tag == 0xCA else ">d", self.take(4 if tag == 0xCA else 8))[0]
        if 0xCC <= tag <= 0xCF:
            return self.number(1 << (tag - 0xCC))
        if 0xD0 <= tag <= 0xD3:
            return self.number(1 << (tag - 0xD0), signed=True)
        if 0xD9 <= tag <= 0xDB:
            return self.take(self.number(1 << (tag - 0xD9))).decode()
        if tag in {0xDC, 0xDD}:
            return self.array(self.number(2 if tag == 0xDC else 4))
        if tag in {0xDE, 0xDF}:
            return self.map(self.number(2 if tag == 0xDE else 4))
        raise Damaged(f"a record has a value of a kind that is not known: {tag:#x}")

    def array(self, count: int) -> list[Any]:
        return [self.value() for _ in range(count)]

    def map(self, count: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(count)}


def unpack(data: bytes) -> Any:
    return Unpacker(data).value()


# Shards


@dataclass(frozen=True, slots=True)
class Shard:
    """A file that ends with a footer. What the footer says is believed once the commitment has been compared."""

    path: Path
    sealed_label: bytes
    wrapped_share: bytes
    fixed: bytes

    @property
    def k(self) -> int:
        return self.fixed[6]

    @property
    def segment_id(self) -> bytes:
        return self.fixed[8:24]

    @property
    def index(self) -> int:
        return self.fixed[24]

    @property
    def size(self) -> int:
        return int.from_bytes(self.fixed[32:40], "big")

    @property
    def key_id(self) -> str:
        return str(UUID(bytes=self.fixed[40:56]))

    @property
    def claim(self) -> bytes:
        return self.fixed[:24] + b"\0" + self.fixed[25:]


def geometry(k: int, size: int) -> tuple[int, int]:
    """Return how many stripes a segment has, and how large the cells of the last one are."""
    stripes = -(-size // (k * CELL))
    return stripes, -(-(size - (stripes - 1) * k * CELL) // k)


def read_shard(path: Path) -> Shard | None:
    """Return the shard that a file holds, or None if it holds none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file_size = file.seek(0, os.SEEK_END)
        end = _end(file, file_size, 1024)
        if len(end) < 144:
            return None
        label_size = int.from_bytes(end[-4:], "big")
        length = label_size + 144
        if length > file_size or label_size < 272 or (label_size - TAG) % 256:
            return None
        if length > len(end):
            end = _end(file, file_size, length)
    footer = end[-length:]
    fixed = footer[label_size + 48 : label_size + 136]
    magic, version, code, k, m, _, index, reserved, cell, size, _, _ = FIXED.unpack(fixed)
    if (magic, version, code, reserved, cell) != (b"SHGT", 1, 1, bytes(3), CELL):
        return None
    if not (k >= 1 and k + m <= 32 and index < k + m and 0 < size <= MAX_SEGMENT):
        return None
    stripes, last = geometry(k, size)
    if (stripes - 1) * (CELL + TAG) + last + TAG + length != file_size:
        return None
    return Shard(path, footer[:label_size], footer[label_size : label_size + 48], fixed)


def _end(file: BinaryIO, file_size: int, length: int) -> bytes:
    file.seek(max(file_size - length, 0))
    return file.read(length)


class Shelf:
    """All shards beneath some directories: where they are, by segment. Their footers are read when they are needed."""

    def __init__(self, arguments: Iterable[Path]) -> None:
        self.paths: dict[bytes, list[str]] = defaultdict(list)
        self.copies: set[bytes] = set()  # segments of the manifest's copy
        self._opened: dict[bytes, tuple[Opened, list[Shard]]] = {}  # the last ones: many objects lie in one pack
        for path in _files(arguments):
            shard = read_shard(path)
            if shard is not None:
                self.paths[shard.segment_id].append(str(path))
                if shard.key_id == JOURNAL_KEY_ID:
                    self.copies.add(shard.segment_id)

    def opened(self, segment_id: bytes, keys: Mapping[str, bytes]) -> tuple[Opened, list[Shard]]:
        """Return a segment whose data key is known, and all its shards. Raises `Damaged`."""
        known = self._opened.get(segment_id)
        if known is None:
            shards = self.shards(segment_id)
            known = open_segment(shards, keys), shards
            if len(self._opened) >= KEPT_OPEN:
                del self._opened[next(iter(self._opened))]
            self._opened[segment_id] = known
        return known

    def shards(self, segment_id: bytes) -> list[Shard]:
        """Return the shards of a segment. Raises `Damaged` if there is none."""
        shards = [shard for path in self.paths.get(segment_id, ()) if (shard := read_shard(Path(path))) is not None]
        if not shards:
            raise Damaged(f"segment {segment_id.hex() or '(unknown)'} has no shards")
        return shards


def _files(arguments: Iterable[Path]) -> Iterator[Path]:
    for argument in arguments:
        if not argument.exists():
            raise SystemExit(f"{argument} does not exist")
        if argument.is_dir():
            yield from (Path(folder) / name for folder, _, names in os.walk(argument) for name in names)
        else:
            yield argument


# Segments


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment whose data key is known, and its label."""

    data_key: bytes
    shards: list[Shard]
    label: dict[str, Any]

    @property
    def fixed(self) -> bytes:
        return self.shards[0].claim

    @property
    def segment_id(self) -> bytes:
        return self.shards[0].segment_id

    @property
    def size(self) -> int:
        return self.shards[0].size


def open_segment(shards: Sequence[Shard], keys: Mapping[str, bytes]) -> Opened:
    """Join the data key of a segment and open its label. `keys` are those of tenants, by id. Raises `Damaged`."""
    claims: dict[bytes, dict[int, tuple[Shard, bytes]]] = defaultdict(dict)
    reasons: list[str] = []
    for shard in shards:
        try:
            claims[shard.claim].setdefault(shard.index, (shard, open_share(shard, keys)))
        except Damaged as error:
            reasons.append(f"{shard.path}: {error}")
    for claim, members in sorted(claims.items(), key=lambda one: -len(one[1])):
        data_key = join(claim, {index: share for index, (_, share) in members.items()})
        if data_key is not None:
            mine = [shard for shard, _ in members.values()]
            return Opened(data_key, mine, open_label(claim, data_key, shards))
    most = max((len(members) for members in claims.values()), default=0)
    needed = f" of {next(iter(claims))[6]} needed" if claims else ""
    raise Damaged("; ".join([f"{most} shards{needed} give no key", *dict.fromkeys(reasons)]))


def open_share(shard: Shard, keys: Mapping[str, bytes]) -> bytes:
    if shard.key_id not in keys:
        raise Damaged(f"the key of tenant {shard.key_id} is not known")
    key = hkdf(keys[shard.key_id], b"shardgate v1 shares " + shard.segment_id)
    return open_sealed(key, bytes(11) + bytes([shard.index]), shard.wrapped_share, shard.fixed, "its share")


def join(claim: bytes, shares: Mapping[int, bytes]) -> bytes | None:
    """Return the data key that the claim commits to, or None."""
    k, indexes = claim[6], list(shares)
    in_a_row = ([*indexes, *indexes][start : start + k] for start in range(len(indexes)))
    for chosen in islice(chain(in_a_row, combinations(indexes, k)), MAX_TRIES):
        if len(set(chosen)) == k:
            data_key = join_shares(k, {index: shares[index] for index in chosen})
            if hmac.compare_digest(hkdf(data_key, b"shardgate v1 commitment " + claim[8:24]), claim[56:88]):
                return data_key
    return None


def open_label(claim: bytes, data_key: bytes, shards: Sequence[Shard]) -> dict[str, Any]:
    key = hkdf(data_key, b"shardgate v1 label " + claim[8:24])
    for sealed in dict.fromkeys(shard.sealed_label for shard in shards):
        try:
            padded = open_sealed(key, bytes(12), sealed, claim, "the label")
        except Damaged:
            continue
        size = int.from_bytes(padded[:4], "big")
        if any(padded[4 + size :]) or len(padded) != -(-(4 + size) // 256) * 256:
            raise Damaged("the label is padded in a way that is not known")
        label: dict[str, Any] = unpack(padded[4 : 4 + size])
        return label
    raise Damaged("no label opens")


def read_segment(opened: Opened, shards: Sequence[Shard]) -> bytes:
    """Return the plaintext of a segment. Raises `Damaged`."""
    claim = opened.fixed
    k, segment_id, size = claim[6], claim[8:24], int.from_bytes(claim[32:40], "big")
    columns: dict[int, list[bytes]] = {}
    reasons: list[str] = []
    for shard in sorted(shards, key=lambda shard: shard.index):
        if len(columns) == k:
            break
        if shard.index not in columns:
            try:
                columns[shard.index] = read_cells(shard, opened.data_key, claim)
            except Damaged as error:
                reasons.append(f"{shard.path}: {error}")
    if len(columns) < k:
        raise Damaged("; ".join([f"segment {segment_id.hex()}: {len(columns)} good shards of {k} needed", *reasons]))
    chosen = sorted(columns)
    rows = tuple(tuple(int(i == j) if i < k else INVERSE[i ^ j] for j in range(k)) for i in chosen)
    matrix = inverted(rows)
    stripes, _ = geometry(k, size)
    pieces = []
    for stripe in range(stripes):
        cells = [columns[index][stripe] for index in chosen]
        pieces += [columns[column][stripe] if column in columns else combine(matrix[column], cells) for column in range(k)]
    # All stripes but the last are full, so the padding is at the end.
    return b"".join(pieces)[:size]


def read_cells(shard: Shard, data_key: bytes, claim: bytes) -> list[bytes]:
    """Return the opened cells of a shard, whatever its footer claims: they open under the true fixed part alone."""
    k, segment_id, size = claim[6], claim[8:24], int.from_bytes(claim[32:40], "big")
    fixed = claim[:24] + bytes([shard.index]) + claim[25:]
    cipher = AESGCM(hkdf(data_key, b"shardgate v1 cells " + segment_id + bytes([shard.index])))
    stripes, last = geometry(k, size)
    cells = []
    with shard.path.open("rb") as file:
        for stripe in range(stripes):
            is_last = stripe == stripes - 1
            sealed = file.read((last if is_last else CELL) + TAG)
            try:
                cells.append(cipher.decrypt(stripe.to_bytes(11, "big") + bytes([is_last]), sealed, fixed))
            except InvalidTag:
                raise Damaged(f"the cell of stripe {stripe} does not open") from None
    return cells


# Packs


def read_slot(opened: Opened, shards: Sequence[Shard], offset: int, size: int) -> bytes:
    """Return the object of `size` bytes in the slot at an offset of a pack. Raises `Damaged`.

    It lies in one shard. Without that, or if it does not open there, the same bytes of k others give it; and if one of these is wrong, too,
    the whole segment is read, each cell of which is authenticated.
    """
    k, column_size, rest = opened.fixed[6], *divmod(opened.size, opened.fixed[6])
    column, start = divmod(offset, column_size)
    if rest or column >= k or start + size + TAG > column_size:
        raise Damaged(f"segment {opened.segment_id.hex()} has no slot of {size} bytes at {offset}")
    runs: dict[int, bytes] = {}
    for shard in sorted(shards, key=lambda shard: (shard.index != column, shard.index)):
        run = read_run(shard, opened, start, size + TAG)
        if run is None or shard.index in runs:
            continue
        if shard.index != column:
            runs[shard.index] = run
        elif (data := open_slot(opened, offset, run)) is not None:
            return data
        if len(runs) == k and (data := open_slot(opened, offset, combine_column(k, column, runs))) is not None:
            return data
    data = open_slot(opened, offset, column_of(opened, read_segment(opened, shards), column)[start : start + size + TAG])
    if data is None:
        raise Damaged(f"the slot at {offset} of segment {opened.segment_id.hex()} does not open")
    return data


def read_run(shard: Shard, opened: Opened, start: int, length: int) -> bytes | None:
    """Return bytes of a shard's column as they are unsealed. Nothing of them is authentic yet. None if the shard ends before."""
    key = hkdf(opened.data_key, b"shardgate v1 cells " + opened.segment_id + bytes([shard.index]))
    stripes, _ = geometry(opened.fixed[6], opened.size)
    pieces = []
    with shard.path.open("rb") as file:
        while length:
            stripe, at = divmod(start, CELL)
            taken = min(length, CELL - at)
            file.seek(stripe * (CELL + TAG) + at)
            sealed = file.read(taken)
            if len(sealed) < taken:
                return None
            nonce = stripe.to_bytes(11, "big") + bytes([stripe == stripes - 1])
            stream = Cipher(AES(key), CTR(nonce + (2 + at // 16).to_bytes(4, "big"))).decryptor()
            stream.update(bytes(at % 16))
            pieces.append(stream.update(sealed))
            start, length = start + taken, length - taken
    return b"".join(pieces)


def combine_column(k: int, column: int, runs: Mapping[int, bytes]) -> bytes:
    """Return what a column has where k others have these bytes."""
    rows = tuple(tuple(int(i == j) if i < k else INVERSE[i ^ j] for j in range(k)) for i in runs)
    return combine(inverted(rows)[column], list(runs.values()))


def column_of(opened: Opened, plaintext: bytes, column: int) -> bytes:
    """Return a column of a segment's plaintext, its cells end to end."""
    k = opened.fixed[6]
    stripes, last = geometry(k, opened.size)
    cells = [(stripe * k * CELL, CELL if stripe < stripes - 1 else last) for stripe in range(stripes)]
    return b"".join(plaintext[start + column * size : start + (column + 1) * size] for start, size in cells)


def open_slot(opened: Opened, offset: int, sealed: bytes) -> bytes | None:
    """Return what a slot holds, or None if it does not open."""
    try:
        key = hkdf(opened.data_key, b"shardgate v1 slots " + opened.segment_id)
        return AESGCM(key).decrypt(offset.to_bytes(12, "big"), sealed, opened.fixed)
    except InvalidTag:
        return None


# The manifest's copy

Rows = dict[str, dict[tuple[Any, ...], list[Any]]]


@dataclass
class Copy:
    """What is left of the manifest's copy: its plaintexts, by kind."""

    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    journal: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)  # with the digest
    unread: list[str] = field(default_factory=list)


class Manifest:
    """The rows that the newest whole checkpoint and the journal behind it come to."""

    def __init__(self, rows: Rows, told: Sequence[str]) -> None:
        self.rows, self.told = rows, told
        self.journal_number = 0  # of the last segment of the journal that was found

    def table(self, name: str) -> dict[tuple[Any, ...], list[Any]]:
        return self.rows.get(name, {})

    def records(self, name: str, column: int) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        for key, value in self.table(name).items():
            yield key, unpack(value[column])


def read_copy(shelf: Shelf, keys: Mapping[str, bytes], identity: str) -> Copy:
    """Read all checkpoints and journal segments. Runs are read where a checkpoint names them."""
    copy = Copy()
    for segment_id in sorted(shelf.copies):
        try:
            shards = shelf.shards(segment_id)
            opened = open_segment(shards, keys)
            kind = opened.label["key"][:2]
            if kind == "r/":
                continue
            plaintext = read_segment(opened, shards)
        except Damaged as error:
            copy.unread.append(f"segment {segment_id.hex()} of the manifest's copy: {error}")
            continue
        document = unpack(plaintext)
        if kind == "c/":
            copy.checkpoints.append(document)
        else:
            copy.journal.append((document, hashlib.sha256(plaintext).digest()))
    identities = sorted({document["identity"] for document in copy.checkpoints} | {document["identity"] for document, _ in copy.journal})
    if not identities:
        none = "this root key opens no copy of a manifest here, and the keys of tenants are nowhere else"
        raise SystemExit("\n".join([none, *copy.unread]))
    if len(identities) > 1 and not identity:
        raise SystemExit(f"these are copies of {len(identities)} manifests; say which one with --identity: {', '.join(identities)}")
    identity = identity or identities[0]
    copy.checkpoints = [document for document in copy.checkpoints if document["identity"] == identity]
    copy.journal = [one for one in copy.journal if one[0]["identity"] == identity]
    return copy


def restore(copy: Copy, shelf: Shelf, keys: Mapping[str, bytes]) -> Manifest:
    """Replay the newest whole checkpoint and the journal behind it."""
    told = list(copy.unread)
    for checkpoint in sorted(copy.checkpoints, key=lambda one: -one["number"]):
        try:
            rows = read_runs(checkpoint.get("runs", []), shelf, keys)
        except Damaged as error:
            told.append(f"checkpoint {checkpoint['number']} is not whole: {error}")
            continue
        path = follow(copy.journal, checkpoint["number"], checkpoint["digest"], told)
        end = path[-1]["number"] if path else checkpoint["number"]
        if end >= checkpoint["until"]:
            manifest = replay(rows, path, told)
            manifest.journal_number = end
            return manifest
        told.append(f"checkpoint {checkpoint['number']} needs the journal up to {checkpoint['until']}, which ends at {end}")
    path = follow(copy.journal, 0, bytes(32), told)
    manifest = replay([], path, told)
    manifest.journal_number = path[-1]["number"] if path else 0
    return manifest


def read_runs(runs: Iterable[Mapping[str, Any]], shelf: Shelf, keys: Mapping[str, bytes]) -> list[Any]:
    rows: list[Any] = []
    for run in runs:
        for segment in run["layout"]["segments"]:
            shards = shelf.shards(segment["id"])
            values = unpack(read_segment(open_segment(shards, keys), shards))
            rows += values if run["table"] else read_runs(values, shelf, keys)
    return rows


def follow(journal: Sequence[tuple[dict[str, Any], bytes]], number: int, digest: bytes, told: list[str]) -> list[dict[str, Any]]:
    """Return the journal behind a number, up to its last whole segment. A gap or a fork ends it, and is told."""
    levels: list[list[tuple[dict[str, Any], bytes]]] = []
    digests = {digest}
    while level := [one for one in journal if one[0]["number"] == number + len(levels) + 1 and one[0]["previous"] in digests]:
        levels.append(level)
        digests = {one[1] for one in level}
    last = number + len(levels)
    if any(document["number"] > last for document, _ in journal):
        told.append(f"the journal has a gap behind segment {last}: what comes after it is left out")
    path: list[dict[str, Any]] = []
    named: set[bytes] = set()
    for level in reversed(levels):
        counting = [one for one in level if one[1] in named] if named else level
        if len({one[1] for one in counting}) > 1 and named:
            told.append(f"the journal has a fork at segment {counting[0][0]['number']}: what comes after it is left out")
            path = []
        path.append(max(counting, key=lambda one: (one[0].get("whole", True), one[0]["epoch"], one[0]["sequence"]))[0])
        named = {one[0]["previous"] for one in level}
    path.reverse()
    while path and not path[-1].get("whole", True):
        path.pop()
    return path


def replay(rows: Iterable[Any], path: Iterable[Mapping[str, Any]], told: Sequence[str]) -> Manifest:
    tables: Rows = defaultdict(dict)
    for one in (rows, *(segment["rows"] for segment in path)):
        for table, key, value in one:
            if value is None:
                tables[table].pop(tuple(key), None)
            else:
                tables[table][tuple(key)] = value
    return Manifest(tables, told)


# Objects


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment of a version, or its slot in a pack. With a `salt`, it is enciphered, and begins at `offset` of its keystream."""

    segment_id: bytes
    salt: bytes = b""
    offset: int = 0
    slot: tuple[int, int] | None = None  # where it begins in the pack, and how many bytes it holds


@dataclass(slots=True)
class Found:
    """A version of an object, and the segments that it is made of. `check` is of its customer's key, if it is under one."""

    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    written: int
    check: bytes
    pieces: list[Piece]
    is_latest: bool = False
    is_marker: bool = False
    origin: str = "journal"


def versions_of(manifest: Manifest) -> list[Found]:
    """Return all versions that the manifest knows, newest first in each key."""
    buckets = {key[0]: value[0] for key, value in manifest.table("bucket").items()}
    layouts = {key[0]: unpack(value[1]) for key, value in manifest.table("extent").items()}
    found = []
    for (bucket, *_), (version_id, latest, marker, record, *_) in sorted(manifest.table("version").items()):
        version = unpack(record)
        pieces: list[Piece] = []
        for reference in version.get("extents", ()):
            layout = layouts.get(reference["id"])
            pieces += pieces_of(layout, reference) if layout else [Piece(b"")]
        found.append(
            Found(
                bucket=buckets.get(bucket, f"_bucket-{bucket}"),
                key=version["key"],
                version_id=version_id,
                size=version.get("size", 0),
                etag=version.get("etag", ""),
                written=version.get("written") or version["modified_ms"] << 20,
                check=check_of(version),
                pieces=pieces,
                is_latest=bool(latest),
                is_marker=bool(marker),
            )
        )
    return found


def pieces_of(layout: Mapping[str, Any], reference: Mapping[str, Any]) -> Iterator[Piece]:
    if reference.get("offset") is not None:
        yield Piece(layout["segments"][0]["id"], slot=(reference["offset"], reference["size"]))
        return
    offset = 0
    for segment in layout["segments"]:
        yield Piece(segment["id"], layout.get("customer_salt", b""), offset)
        offset += segment["size"]


def check_of(record: Mapping[str, Any]) -> bytes:
    """Return the check value of a version's or draft's customer's key; empty if it is under none."""
    return bytes((record.get("attributes", {}).get("encryption") or {}).get("customer_check", b""))


def named_segments(manifest: Manifest) -> set[bytes]:
    """Return the segments that the manifest knows: what is stored, and what is to be deleted."""
    named = {segment["id"] for _, layout in manifest.records("extent", 1) for segment in layout["segments"]}
    for _, _, name in manifest.table("garbage"):
        folder, _, rest = name.partition("/")
        if len(folder) == 2 and len(rest) > 32:
            named.add(bytes.fromhex(rest[:32]))
    return named


def labelled_versions(manifest: Manifest, shelf: Shelf, keys: Mapping[str, bytes], told: list[str]) -> list[Found]:
    """Return the versions that only labels tell of: written after the journal's end, or never acknowledged."""
    buckets = {(value[0], value[1]): key[0] for key, value in manifest.table("bucket").items()}
    owners = {key[0]: value[0] for key, value in manifest.table("kms_key").items()}
    named = named_segments(manifest)
    attempts: dict[tuple[str, str, str, bytes], dict[int, tuple[bytes, dict[str, Any], str]]] = defaultdict(dict)
    found = []
    for segment_id in sorted(shelf.paths.keys() - named - shelf.copies):
        try:
            opened, shards = shelf.opened(segment_id, keys)
            label, owner = opened.label, owners.get(opened.shards[0].key_id, opened.shards[0].key_id)
            if 0 < label.get("stored_anew", 0) <= manifest.journal_number + 1:
                continue  # it lies in its old place, too, unless it was deleted
            if label.get("table_size"):
                found += versions_in_pack(opened, shards, owner, buckets, told)
                continue
        except Damaged as error:
            told.append(f"segment {segment_id.hex()}, which only its label tells of: {error}")
            continue
        if not label.get("upload_id"):
            attempt = label["bucket"], label["key"], label.get("version_id", ""), opened.data_key
            attempts[attempt][label["segment"]] = segment_id, label, owner
    for (bucket, key, version_id, _), parts in sorted(attempts.items()):
        made = _version(bucket, key, version_id, [parts[number] for number in sorted(parts)], buckets)
        if isinstance(made, str):
            told.append(f"{bucket}/{key}: {made}")
        else:
            found.append(made)
    return found


def versions_in_pack(
    opened: Opened, shards: Sequence[Shard], tenant_id: str, buckets: Mapping[tuple[str, str], int], told: list[str]
) -> list[Found]:
    """Return the versions that the table of a pack tells of. Raises `Damaged` if that cannot be read."""
    table = unpack(read_slot(opened, shards, opened.label["table_offset"], opened.label["table_size"]))
    found = []
    for entry in table:
        bucket, key = entry["bucket"], entry["key"]
        label = {"version_id": entry["version_id"], "segment": 0, "offset": 0, "record": entry["record"]}
        made = _version(bucket, key, entry["version_id"], [(opened.segment_id, label, tenant_id)], buckets)
        if isinstance(made, str):
            told.append(f"{bucket}/{key}: {made}")
        else:
            made.pieces = [Piece(opened.segment_id, slot=(entry["offset"], entry["size"]))]
            found.append(made)
    return found


def _version(
    bucket: str, key: str, version_id: str, parts: Sequence[tuple[bytes, dict[str, Any], str]], buckets: Mapping[tuple[str, str], int]
) -> Found | str:
    """Return a version made of the segments of one attempt, or why there is none."""
    _, last, tenant_id = parts[-1]
    if not last.get("record") or [label["segment"] for _, label, _ in parts] != list(range(len(parts))):
        return "not all segments of a version that only labels tell of are there"
    draft = unpack(last["record"])
    if buckets.get((bucket, tenant_id)) != draft["bucket_id"]:
        return "the bucket of a version that only labels tell of is not there any more"
    if draft.get("conditional"):
        return "a version was written on a condition, and nobody knows whether that held; its label alone does not count"
    return Found(
        bucket=bucket,
        key=key,
        version_id=version_id,
        size=draft.get("size", 0),
        etag=draft.get("etag", ""),
        written=draft.get("written") or draft["modified_ms"] << 20,
        check=check_of(draft),
        pieces=[Piece(segment_id, draft.get("customer_salt", b""), label["offset"]) for segment_id, label, _ in parts],
        origin="label",
    )


def merge(known: list[Found], labelled: Sequence[Found]) -> list[Found]:
    """Put the versions that labels tell of among the others; the newest of a key is its latest. The same write counts once."""
    latest = {(one.bucket, one.key): one for one in known if one.is_latest}
    writes = {(one.bucket, one.key, one.written) for one in known}
    merged = list(known)
    for one in sorted(labelled, key=lambda one: one.written):
        if (one.bucket, one.key, one.written) in writes:
            continue
        writes.add((one.bucket, one.key, one.written))
        merged.append(one)
        before = latest.get((one.bucket, one.key))
        if before is None or one.written >= before.written:
            if before is not None:
                before.is_latest = False
            one.is_latest = True
            latest[one.bucket, one.key] = one
    return sorted(merged, key=lambda one: (one.bucket, one.key.encode(), -one.written))


def contents(found: Found, shelf: Shelf, keys: Mapping[str, bytes], customer_keys: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the plaintext of a version, segment by segment. Raises `Damaged`."""
    customer_key = fitting_key(customer_keys, found.check) if found.check else b""
    for piece in found.pieces:
        opened, shards = shelf.opened(piece.segment_id, keys)
        data = read_segment(opened, shards) if piece.slot is None else read_slot(opened, shards, *piece.slot)
        yield decipher(customer_key, piece.salt, piece.offset, data) if piece.salt else data


# Files


class Output:
    """A directory that objects are written into, and its index."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise SystemExit(f"{root} is not empty: name a directory that is empty, or does not exist")
        self.root = root
        self._count = 0
        self._index = (root / INDEX).open("x", encoding="utf-8")
        self._index.write("state\tfile\tbucket\tkey\tversion\tsize\twhat is wrong\n")

    def write(self, found: Found, pieces: Iterable[bytes], *, versioned: bool) -> str:
        """Write a version; return what is wrong with it, or ""."""
        name, file = self._create(found, versioned=versioned)
        wrong = ""
        try:
            with file:
                fill(file, found, pieces)
        except Damaged as error:
            (self.root / name).unlink()
            name, wrong = "", str(error)
        cells = ("damaged" if wrong else "whole", name, found.bucket, found.key, found.version_id, str(found.size), wrong)
        self._index.write("\t".join(escaped(cell) for cell in cells) + "\n")
        return wrong

    def close(self) -> None:
        self._index.close()

    def _create(self, found: Found, *, versioned: bool) -> tuple[str, BinaryIO]:
        """Return a new file and its name: that of the key, or a number if that cannot be."""
        parts = [found.bucket, *found.key.split("/")]
        if versioned:
            parts[-1] += f"@{found.version_id}"
        if all(map(is_plain, parts)) and parts[0] not in {OTHER, INDEX}:
            target = self.root.joinpath(*parts)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                return "/".join(parts), target.open("xb")
            except OSError:  # the name is taken, is a folder, has a file in its way, or is too long in all
                pass
        self._count += 1
        other = self.root / OTHER / str(self._count)
        other.parent.mkdir(exist_ok=True)
        return f"{OTHER}/{self._count}", other.open("xb")


def fill(file: BinaryIO, found: Found, pieces: Iterable[bytes]) -> None:
    """Write the contents of a version, and hold them against its record. Raises `Damaged`."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    for piece in pieces:
        file.write(piece)
        digest.update(piece)
        size += len(piece)
    has_md5 = len(found.etag) == 32 and not found.check
    if size != found.size or (has_md5 and digest.hexdigest() != found.etag):
        raise Damaged(f"its {size} bytes are not the {found.size} of its record, or not those of its ETag")


def is_plain(part: str) -> bool:
    """Tell whether a part of a key can be the name of a file or folder."""
    return part not in {"", ".", ".."} and part.isprintable() and "\\" not in part and len(part.encode(errors="replace")) <= MAX_NAME


def escaped(cell: str) -> str:
    """Return a text that stands in one cell of one line, and harms no terminal."""
    return "".join(char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode() for char in cell)


# The command


def main() -> int:
    parser = argparse.ArgumentParser(prog="shardgate-decode", description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("copies", nargs="+", type=Path, help="directories with what stores hold, or shard files")
    parser.add_argument("--root-key", required=True, type=Path, help="the root key file")
    parser.add_argument("--customer-key", action="append", default=[], type=Path, metavar="FILE", help="of objects under a customer's key")
    parser.add_argument("--identity", default="", help="of the manifest, if there are copies of several")
    parser.add_argument("--all-versions", action="store_true", help="every version, not only the latest of each object")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="list the objects, and write nothing")
    what.add_argument("--output", type=Path, help="write the objects into this directory, which is empty or made")
    arguments = parser.parse_args()

    root_key = read_root_key(arguments.root_key)
    customer_keys = [read_customer_key(path) for path in arguments.customer_key]
    shelf = Shelf(arguments.copies)
    keys = {JOURNAL_KEY_ID: hkdf(root_key, b"shardgate v1 journal")}
    manifest = restore(read_copy(shelf, keys, arguments.identity), shelf, keys)
    told = list(manifest.told)
    for (key_id,), holder in chain(manifest.records("tenant", 3), manifest.records("kms_key", 2)):
        try:
            keys[key_id] = tenant_key(root_key, key_id, holder["wrapped_key"])
        except Damaged as error:
            told.append(str(error))
    found = merge(versions_of(manifest), labelled_versions(manifest, shelf, keys, told))
    chosen = [one for one in found if not one.is_marker and (one.is_latest or arguments.all_versions)]
    if arguments.list:
        damaged = print_list(chosen, shelf, keys)
    else:
        damaged = write_all(chosen, shelf, keys, customer_keys, arguments.output, versioned=arguments.all_versions)
    for text in told[:MOST_NOTES]:
        print(f"note: {escaped(text)}", file=sys.stderr)
    if len(told) > MOST_NOTES:
        print(f"note: and {len(told) - MOST_NOTES:,} more like these; are shards of enough stores here?", file=sys.stderr)
    print(f"{len(chosen) - damaged} objects are whole, {damaged} are not", file=sys.stderr)
    return 1 if damaged or told else 0


def print_list(chosen: Sequence[Found], shelf: Shelf, keys: Mapping[str, bytes]) -> int:
    damaged = 0
    print("state\tbucket\tkey\tversion\tsize\tfrom")
    for one in chosen:
        is_whole = all(_opens(piece.segment_id, shelf, keys) for piece in one.pieces)
        damaged += not is_whole
        state = "whole" if is_whole else "damaged"
        print("\t".join(escaped(cell) for cell in (state, one.bucket, one.key, one.version_id, str(one.size), one.origin)))
    return damaged


def _opens(segment_id: bytes, shelf: Shelf, keys: Mapping[str, bytes]) -> bool:
    """Tell whether a segment has enough shards, as far as their footers go."""
    try:
        shelf.opened(segment_id, keys)
    except Damaged:
        return False
    return True


def write_all(
    chosen: Sequence[Found], shelf: Shelf, keys: Mapping[str, bytes], customer_keys: Sequence[bytes], root: Path, *, versioned: bool
) -> int:
    output = Output(root)
    try:
        wrong = [output.write(one, contents(one, shelf, keys, customer_keys), versioned=versioned) for one in chosen]
    finally:
        output.close()
    return sum(map(bool, wrong))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SystemExit as error:
        if isinstance(error.code, str):
            print(f"shardgate-decode: {error.code}", file=sys.stderr)
            sys.exit(2)
        raise
