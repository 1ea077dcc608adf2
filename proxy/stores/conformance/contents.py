"""Probes of the bytes that come back: whole, and by ranges."""

from __future__ import annotations

from proxy.errors import ShardMissing, StoreError
from proxy.stores.conformance.findings import Defect
from proxy.stores.conformance.trial import Trial, random_bytes
from proxy.stores.protocol import ShardName

SIZES = (1, 4095, 4096, 65_537, 1_000_003)
RANGED_SIZE = 100_000
# (what it is called, first byte, length)
RANGES = (
    ("the first byte", 0, 1),
    ("the last byte", RANGED_SIZE - 1, 1),
    ("the first 1,000 bytes", 0, 1000),
    ("1,000 bytes in the middle", 49_999, 1000),
    ("the last 1,000 bytes", RANGED_SIZE - 1000, 1000),
    ("all bytes", 0, RANGED_SIZE),
)
BEYOND = (
    ("a range that ends one byte beyond the end", RANGED_SIZE - 10, 11),
    ("a range that begins at the end", RANGED_SIZE, 1),
    ("a range far beyond the end", 10 * RANGED_SIZE, 1000),
)


async def whole(trial: Trial) -> str:
    """Put objects of several sizes, and compare what comes back."""
    for size in SIZES:
        name, body = trial.name(f"whole-{size}"), random_bytes(size)
        await trial.put(name, body)
        compare(body, await trial.get(name))
    return f"objects of {', '.join(f'{size:,}' for size in SIZES)} bytes came back as they were put"


def compare(put: bytes, got: bytes) -> None:
    """Raise `Defect` with what differs."""
    if len(got) != len(put):
        raise Defect(f"{len(put):,} bytes were put, and {len(got):,} came back")
    if got != put:
        at = next(number for number, (one, other) in enumerate(zip(put, got, strict=True)) if one != other)
        raise Defect(f"{len(put):,} bytes were put, and others came back: they differ from byte {at:,} on")


async def ranges(trial: Trial) -> str:
    """Read ranges of one object: each is to have exactly the bytes asked for."""
    name, body = await _ranged(trial, "ranged")
    for what, start, length in RANGES:
        try:
            data = await trial.get_range(name, start, length)
        except StoreError as error:
            raise Defect(f"{what} cannot be read, though the whole object can: {error}") from error
        _compare_range(body, data, what, start, length)
    return f"{len(RANGES)} ranges had exactly the bytes asked for"


async def _ranged(trial: Trial, label: str) -> tuple[ShardName, bytes]:
    name, body = trial.name(label), random_bytes(RANGED_SIZE)
    await trial.put(name, body)
    compare(body, await trial.get(name))
    return name, body


def _compare_range(body: bytes, data: bytes, what: str, start: int, length: int) -> None:
    if data == body[start : start + length]:
        return
    if data == body:
        raise Defect(f"asked for {what}, the store answered with the whole object: {len(data):,} bytes for {length:,}")
    if len(data) != length:
        raise Defect(f"asked for {what}, the store answered with {len(data):,} bytes for {length:,}")
    at = body.find(data)
    raise Defect(f"asked for {what}, the store answered with other bytes" + (f": those from byte {at:,} on" if at >= 0 else ""))


async def ranges_beyond(trial: Trial) -> str:
    """Read ranges that are not, or not wholly, there: what is not there must be told, never left out."""
    name, _ = await _ranged(trial, "ranged-beyond")
    for what, start, length in BEYOND:
        try:
            data = await trial.get_range(name, start, length)
        except ShardMissing:
            continue
        except StoreError as error:
            raise Defect(f"{what} failed otherwise than by being told not to be there: {error}") from error
        raise Defect(f"{what} was answered with {len(data):,} bytes, as if there were no end")
    return "what lies beyond the end is told not to be there"


async def empty(trial: Trial) -> str:
    """Put nothing, and read it: the shortest object there can be."""
    name = trial.name("empty")
    await trial.put(name, b"")
    compare(b"", await trial.get(name))
    if size := await trial.listed(name):
        raise Defect(f"an empty object is listed with {size:,} bytes")
    try:
        data = await trial.get_range(name, 0, 1)
    except ShardMissing:
        return "an empty object is kept, and has no first byte"
    raise Defect(f"the first byte of an empty object was answered with {len(data):,} bytes")
