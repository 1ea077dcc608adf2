"""Probes with much data: the largest shards, very many of them, and several puts of one name at once."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

from proxy.errors import StoreError
from proxy.stores.conformance.contents import compare
from proxy.stores.conformance.findings import Defect, Peculiarity, timing
from proxy.stores.conformance.trial import Trial, random_bytes
from proxy.stores.protocol import ShardName

MIB = 1024 * 1024
LARGEST_SHARD_SIZE = 17 * MIB  # a whole segment in one shard, its tags and its footer
LARGE_SIZE = 64 * MIB
MANY = 2500  # S3 lists 1,000 a page, Azure 5,000: at least two pages, or three
ROUNDS = 30
SMALL_SIZE = 4096
WRITERS = 8


async def largest_shard(trial: Trial) -> str:
    """Put the largest object that a shard may be, and read it by ranges."""
    return await _large(trial, "largest", LARGEST_SHARD_SIZE)


async def large(trial: Trial) -> str:
    """Put a larger object than any shard. A store that takes it has room for what is to come."""
    try:
        return await _large(trial, "large", LARGE_SIZE)
    except StoreError as error:
        raise Peculiarity(f"an object of {LARGE_SIZE // MIB} MiB failed: {error}") from error


async def _large(trial: Trial, label: str, size: int) -> str:
    name = trial.name(label)
    pieces = [random_bytes(MIB) for _ in range(size // MIB)]
    putting = await trial.timed(trial.put(name, pieces))
    reading: list[float] = []
    for number, piece in enumerate(pieces):
        started = trial.clock.monotonic()
        data = await trial.get_range(name, number * MIB, MIB)
        reading.append(trial.clock.monotonic() - started)
        compare(piece, data)
    if (listed := await trial.listed(name)) not in {None, size}:  # a listing may be late
        raise Defect(f"an object of {size:,} bytes is listed with {listed:,}")
    await trial.delete(name)
    put, got = timing(f"put of {size // MIB} MiB", [putting], size_bytes=size), timing("range of 1 MiB", reading, size_bytes=size)
    trial.timings += [put, got]
    return f"{size // MIB} MiB in one put ({put.mib_per_second} MiB/s), read in ranges of 1 MiB ({got.mib_per_second} MiB/s)"


async def many(trial: Trial, *, count: int = MANY) -> str:
    """Put many small objects and list them: each must come once, whatever the store's pages are."""
    names = {trial.name(f"many/{number:06d}"): 16 + number % 7 for number in range(count)}
    await trial.each(names.items(), lambda item: trial.put(item[0], random_bytes(item[1])))
    found: list[tuple[ShardName, int]] = []

    async def complete() -> bool:
        found[:] = await trial.entries(trial.name("many/"), at_most=2 * count)
        return len(dict(found)) >= count

    waited = await trial.until(complete)
    if waited is None:
        raise Defect(f"of {count:,} objects, {len(dict(found)):,} are listed")
    if twice := [name for name, times in Counter(name for name, _ in found).items() if times > 1]:
        raise Defect(f"of {count:,} objects, {len(twice):,} are listed more than once")
    if dict(found) != names:
        raise Defect(f"of {count:,} objects, some are listed with other names or sizes than theirs")
    await _from_the_middle(trial, count)
    if waited:
        raise Peculiarity(f"{count:,} objects were all listed only after {waited:.1f} s")
    return f"{count:,} objects are listed, each once, with their sizes"


async def _from_the_middle(trial: Trial, count: int) -> None:
    prefix = trial.name(f"many/{count // 2 // 100:04d}")
    wanted = {trial.name(f"many/{number:06d}") for number in range(count) if number // 100 == count // 2 // 100}
    if {name for name, _ in await trial.entries(prefix, at_most=2 * count)} != wanted:
        raise Defect(f"a listing by a prefix in the middle of {count:,} objects had others than those that begin so")


async def one_name(trial: Trial) -> str:
    """Put several bodies under one name at once: one of them must be there, whole."""
    name = trial.name("contended")
    bodies = [random_bytes(256 * 1024) for _ in range(WRITERS)]
    outcomes = await asyncio.gather(*(trial.put(name, body) for body in bodies), return_exceptions=True)
    refused = [error for error in outcomes if isinstance(error, BaseException)]
    for error in refused:
        if not isinstance(error, StoreError):
            raise error
    if len(refused) == WRITERS:
        raise Defect(f"of {WRITERS} puts of one name at once, all failed: {refused[0]}")
    data = await trial.get(name)
    if data not in bodies:
        raise Defect(f"after {WRITERS} puts of one name at once, what is there is none of them", meaning=_TORN)
    if refused:
        found = f"of {WRITERS} puts of one name at once, {len(refused)} failed ({refused[0]}); one of the others is there, whole"
        raise Peculiarity(found)
    return f"after {WRITERS} puts of one name at once, one of them is there, whole"


_TORN = "A put is not all or nothing: a crash, or a put made twice, would leave a shard that is forged."


async def latency(trial: Trial, *, rounds: int = ROUNDS) -> str:
    """Time small calls, one after another."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        name, body = trial.name(f"timed-{number}"), random_bytes(SMALL_SIZE)
        seconds["put of 4 KiB"].append(await trial.timed(trial.put(name, body)))
        seconds["get of 4 KiB"].append(await trial.timed(trial.get(name)))
        seconds["range of 1 KiB"].append(await trial.timed(trial.get_range(name, 1024, 1024)))
        seconds["list"].append(await trial.timed(trial.listed(name)))
        seconds["delete"].append(await trial.timed(trial.delete(name)))
    timings = [timing(call, taken) for call, taken in seconds.items()]
    trial.timings += timings
    return ", ".join(f"{item.call} {item.p50_ms:g} ms (p95 {item.p95_ms:g})" for item in timings)
