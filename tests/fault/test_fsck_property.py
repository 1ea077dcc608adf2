"""Whatever the stores hold and the manifest says, the report of fsck is exactly the difference."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.codec.format import shard_name
from proxy.engine.scrub import passes
from proxy.engine.scrub.comparison import Comparison
from proxy.engine.scrub.inspector import Shard
from proxy.engine.scrub.once import Named, compare_once
from proxy.engine.scrub.passes import PassPosition
from proxy.manifest.records import GarbageSegment, SegmentId, Settlement
from proxy.stores.protocol import ShardName
from proxy.upkeep import comparing
from tests.laboratory import Laboratory, laboratory
from tests.scrubbing import read, shards_of, spoil

OBJECTS = 5
SHARDS = OBJECTS * 6
STORES = ("alder", "birch", "cedar", "dogwood", "elm", "fir")


@dataclass(frozen=True)
class World:
    """What is wrong, and what only looks so: numbers of shards, and segment ids that no object has."""

    deleted: frozenset[int]
    cut: dict[int, int]  # shard → bytes that are left
    copied: dict[int, str]  # shard → another store that holds it, too
    strangers: dict[tuple[int, int, str], str]  # (segment, index, store) of shards of no object → what explains them
    foreign: frozenset[tuple[str, str]]


shard_numbers = st.integers(0, SHARDS - 1)
worlds = st.builds(
    World,
    deleted=st.frozensets(shard_numbers, max_size=6),
    cut=st.dictionaries(shard_numbers, st.integers(1, 400), max_size=4),
    copied=st.dictionaries(shard_numbers, st.sampled_from(STORES), max_size=4),
    strangers=st.dictionaries(
        st.tuples(st.integers(0, 255), st.integers(0, 5), st.sampled_from(STORES)),
        st.sampled_from(["nothing", "lease", "garbage", "garbage elsewhere", "search"]),
        max_size=6,
    ),
    foreign=st.frozensets(st.tuples(st.sampled_from(STORES), st.sampled_from(["a", "00/x", "j/1", "epoch/1", "ff/ff-00"])), max_size=3),
)


@dataclass
class Expected:
    """What a report must say."""

    found: set[tuple[str, str, str]] = field(default_factory=set)
    orphans: set[tuple[str, str]] = field(default_factory=set)
    foreign: set[tuple[str, str]] = field(default_factory=set)


def stranger_id(number: int, reason: str) -> SegmentId:
    """Return an id that depends on the reason: a lease explains all shards of a segment."""
    return SegmentId(bytes((number,)) + reason.encode()[:15].ljust(15, b"\0"))


@asynccontextmanager
async def made(lab: Laboratory, world: World, shards: list[Shard]) -> AsyncIterator[Expected]:
    """Make the world, and afterwards unmake it."""
    expected, manifest, put = Expected(), lab.services.manifest, []
    whole = {number: await read(lab, shards[number]) for number in {*world.deleted, *world.cut, *world.copied}}

    async def add(store: str, name: str, content: bytes) -> None:
        await lab.stores[store].put(ShardName(name), [content])
        put.append((store, name))

    for number, store in world.copied.items():
        if store != shards[number].store:
            await add(store, shards[number].name, whole[number])
            expected.orphans.add((store, shards[number].name))
    for number, size in world.cut.items():
        await spoil(lab, shards[number], whole[number][:-size])
        expected.found.add(("truncated", shards[number].store, shards[number].name))
    for number in world.deleted:
        await lab.stores[shards[number].store].delete(shards[number].name)
        expected.found.discard(("truncated", shards[number].store, shards[number].name))
        expected.found.add(("missing", shards[number].store, shards[number].name))
    for (segment, index, store), reason in world.strangers.items():
        segment_id = stranger_id(segment, reason)
        name = shard_name(segment_id, index)
        await add(store, name, b"x")
        if reason in {"nothing", "garbage elsewhere"}:
            expected.orphans.add((store, name))
    leased = await explain(lab, world)
    for store, name in world.foreign:
        await add(store, name, b"x")
        expected.foreign.add((store, name))
    try:
        yield expected
    finally:
        for store, name in put:
            await lab.stores[store].delete(ShardName(name))
        for number, content in whole.items():
            await spoil(lab, shards[number], content)
        await manifest.release_unused(leased)
        await manifest.split_garbage(before_ms=2**60, limit=1000)
        for store in ("", *STORES, "gone"):
            await manifest.finish_garbage(await manifest.due_garbage(store, before_ms=2**60, limit=1000))


async def explain(lab: Laboratory, world: World) -> list[Settlement]:
    manifest, settlements = lab.services.manifest, []
    for (segment, index, store), reason in world.strangers.items():
        segment_id = stranger_id(segment, reason)
        intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id], expires_ms=2**60)
        settlement = Settlement(intent_id=intent.id, mask=1)
        if reason == "lease":
            settlements.append(settlement)
        elif reason == "nothing":
            await manifest.release_unused([settlement])
        else:
            places = tuple(store if number == index else "gone" for number in range(6))
            if reason == "garbage elsewhere":
                places = ("gone",) * 6
            doomed = GarbageSegment(id=segment_id, stores=() if reason == "search" else places)
            await manifest.settle([settlement], [doomed], now_ms=1)
    return settlements


@pytest.fixture(params=[1, 16], ids=["one slice", "sixteen slices"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Laboratory]:
    monkeypatch.setattr(passes, "slice_count", lambda _: request.param)
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as running:
        for number in range(OBJECTS):
            await running.put(f"k{number}", os.urandom(3000 + number))
        yield running


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds)
async def test_the_report_is_exactly_the_difference(lab: Laboratory, world: World) -> None:
    shards = await shards_of(lab)
    async with made(lab, world, shards) as expected:
        named, orphans = Named(), set[tuple[str, str]]()

        async def after_slice(comparison: Comparison, _: PassPosition) -> None:
            async for page in comparison.orphans():
                orphans.update((listed.store, listed.name) for listed in page)

        position = await compare_once(comparing(lab.services.parts, named), lambda _: None, everything=True, after_slice=after_slice)
        compared = position.compared
        assert {(item.kind, item.shard.store, item.shard.name) for item in named.findings} == expected.found
        assert orphans == expected.orphans
        assert sum(compared.orphans.values()) == len(expected.orphans)
        assert {(store, name) for store, names in compared.foreign_examples.items() for name in names} == expected.foreign
        assert compared.shards == SHARDS
