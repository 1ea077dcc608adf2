"""Convoy: one thread makes the short calls of many, and nobody waits for one who hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from proxy.errors import StoreUnavailable
from proxy.lanes import Cancelled, Lanes
from proxy.stores.convoy import MAX_REST_SECONDS, REST_SECONDS, SLOW_SECONDS, Convoy
from proxy.stores.direct import UNSYNCED_DIRECT_SIZE
from proxy.stores.directory import DirectoryStore
from proxy.stores.protocol import ShardName, StoreName
from tests.patience import PATIENCE_SECONDS
from tests.unit.stores.conftest import INFO, NAME

CONVOY, OWN = "store-convoy-0", "own-0"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class HungCall:
    """A call that hangs in the convoy until it is let go. Who comes after it has no patience."""

    def __init__(self, convoy: Convoy, own: Lanes) -> None:
        self._convoy, self._begun, self._go_on = convoy, threading.Event(), threading.Event()
        self._task = asyncio.create_task(convoy.run(lambda _: self._hang(), otherwise=own))

    def _hang(self) -> str:
        self._begun.set()
        self._go_on.wait(PATIENCE_SECONDS)
        return threading.current_thread().name

    async def has_begun(self) -> HungCall:
        await asyncio.to_thread(self._begun.wait, PATIENCE_SECONDS)
        self._convoy._patience_seconds = 0.0
        return self

    async def ends(self) -> str:
        self._go_on.set()
        return await self._task


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def convoy(clock: Clock) -> AsyncIterator[Convoy]:
    """One that nothing holds up, however busy the machine is, until a call hangs."""
    made = Convoy(patience_seconds=PATIENCE_SECONDS, now=clock)
    made.join("member")
    yield made
    made.leave("member")


@pytest.fixture
async def own() -> AsyncIterator[Lanes]:
    lanes = Lanes(1, name="own")
    yield lanes
    lanes.close()


async def thread_of_a_call(convoy: Convoy, own: Lanes) -> str:
    return await convoy.run(lambda _: threading.current_thread().name, otherwise=own)


async def test_the_calls_of_many_are_made_by_one_thread(convoy: Convoy) -> None:
    members = [Lanes(1, name=f"m{number}") for number in range(6)]
    assert set(await asyncio.gather(*(thread_of_a_call(convoy, own) for own in members))) == {CONVOY}


async def test_the_calls_of_one_turn_of_the_loop_wake_it_once(convoy: Convoy, monkeypatch: pytest.MonkeyPatch) -> None:
    members, woken = [Lanes(1, name=f"m{number}") for number in range(6)], list[str]()
    wake = convoy._lanes._wake
    monkeypatch.setattr(convoy._lanes, "_wake", lambda: (woken.append("once"), wake())[1])
    await asyncio.gather(*(thread_of_a_call(convoy, own) for own in members))
    assert woken == ["once"]


async def test_of_calls_made_together_one_that_hangs_holds_up_neither_those_before_nor_those_behind_it(convoy: Convoy, own: Lanes) -> None:
    convoy._patience_seconds = 0.01
    begun, go_on, hanging = threading.Event(), threading.Event(), Lanes(1, name="hanging")
    before = asyncio.create_task(thread_of_a_call(convoy, own))
    hung = asyncio.create_task(convoy.run(lambda _: (begun.set(), go_on.wait(PATIENCE_SECONDS))[1], otherwise=hanging))
    behind = asyncio.create_task(thread_of_a_call(convoy, own))
    await asyncio.sleep(0)  # all three are handed over in this turn
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        assert (await before, await behind) in {(CONVOY, OWN), (OWN, OWN)}  # a busy machine may have begun none of them in time
    assert not hung.done()
    go_on.set()
    assert await hung
    hanging.close()


async def test_behind_a_call_that_hangs_the_others_go_by_their_own_threads(convoy: Convoy, own: Lanes) -> None:
    hung = await HungCall(convoy, own).has_begun()
    assert await thread_of_a_call(convoy, own) == OWN
    assert await hung.ends() == CONVOY


async def test_a_call_that_is_taken_back_is_made_once(convoy: Convoy, own: Lanes) -> None:
    hung, made = await HungCall(convoy, own).has_begun(), list[str]()
    await convoy.run(lambda _: made.append(threading.current_thread().name), otherwise=own)
    await hung.ends()
    await own.run(lambda _: None)
    assert made == [OWN]


async def test_what_was_held_up_rests_for_twice_as_long_each_time_and_then_goes_on(clock: Clock, convoy: Convoy, own: Lanes) -> None:
    hanging, rest = Lanes(1, name="hanging"), REST_SECONDS
    hung = await HungCall(convoy, hanging).has_begun()
    for _ in range(10):
        assert await thread_of_a_call(convoy, own) == OWN
        assert convoy._rest._until == clock.now + rest
        clock.now += rest
        rest = min(2 * rest, MAX_REST_SECONDS)
    convoy._patience_seconds = PATIENCE_SECONDS
    await hung.ends()
    assert await thread_of_a_call(convoy, own) == CONVOY
    assert convoy._rest._seconds == REST_SECONDS
    hanging.close()


async def test_while_it_rests_nobody_waits_for_it(clock: Clock, convoy: Convoy, own: Lanes) -> None:
    hung = await HungCall(convoy, own).has_begun()
    await thread_of_a_call(convoy, own)
    convoy._patience_seconds = PATIENCE_SECONDS
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        assert await thread_of_a_call(convoy, own) == OWN
    await hung.ends()


async def take(clock: Clock, seconds: float, convoy: Convoy, own: Lanes) -> str:
    """Run a call that takes so long."""

    def call(_: Cancelled) -> str:
        clock.now += seconds
        return threading.current_thread().name

    return await convoy.run(call, otherwise=own)


async def test_who_takes_long_goes_by_its_own_threads_for_a_while_and_nobody_else_does(clock: Clock, convoy: Convoy, own: Lanes) -> None:
    other = Lanes(1, name="other")
    assert await take(clock, 2 * SLOW_SECONDS, convoy, own) == CONVOY
    assert await thread_of_a_call(convoy, own) == OWN
    assert await thread_of_a_call(convoy, other) == CONVOY
    clock.now += REST_SECONDS
    assert await thread_of_a_call(convoy, own) == CONVOY
    other.close()


async def test_who_takes_long_again_rests_for_twice_as_long(clock: Clock, convoy: Convoy, own: Lanes) -> None:
    for rest in (REST_SECONDS, 2 * REST_SECONDS, 4 * REST_SECONDS):
        assert await take(clock, 2 * SLOW_SECONDS, convoy, own) == CONVOY
        clock.now += 0.9 * rest
        assert await thread_of_a_call(convoy, own) == OWN
        clock.now += 0.1 * rest
    assert await take(clock, SLOW_SECONDS / 2, convoy, own) == CONVOY
    await take(clock, 2 * SLOW_SECONDS, convoy, own)
    clock.now += REST_SECONDS
    assert await thread_of_a_call(convoy, own) == CONVOY


async def test_who_fails_slowly_takes_long_too(clock: Clock, convoy: Convoy, own: Lanes) -> None:
    def fail(_: Cancelled) -> None:
        clock.now += 2 * SLOW_SECONDS
        raise OSError

    with pytest.raises(OSError):
        await convoy.run(fail, otherwise=own)
    assert await thread_of_a_call(convoy, own) == OWN


async def test_its_thread_ends_when_the_last_member_leaves(own: Lanes) -> None:
    convoy = Convoy(patience_seconds=PATIENCE_SECONDS)
    convoy.join(1)
    convoy.join(2)
    thread = await convoy.run(lambda _: threading.current_thread(), otherwise=own)
    convoy.leave(1)
    assert await thread_of_a_call(convoy, own) == CONVOY
    convoy.leave(2)
    await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("size", "fsync", "expected"),
    [(10, False, CONVOY), (UNSYNCED_DIRECT_SIZE - 1, False, CONVOY), (UNSYNCED_DIRECT_SIZE, False, "store-s-0"), (10, True, "store-s-0")],
)
async def test_all_but_large_shards_that_need_not_be_durable_go_in_the_convoy(
    convoy: Convoy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, fsync: bool, expected: str
) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, fsync=fsync, convoy=convoy)
    threads = threads_of_puts(store, monkeypatch)
    await store.put(NAME, [bytes(size)])
    assert threads == [expected]
    assert await store.get(NAME) == bytes(size)
    await store.close()


def threads_of_puts(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the threads that write, as they do."""
    put, threads = store._put, list[str]()
    monkeypatch.setattr(store, "_put", lambda *args: (threads.append(threading.current_thread().name), put(*args))[1])
    return threads


async def test_a_store_that_is_closed_writes_nothing_though_the_convoy_goes_on(convoy: Convoy, tmp_path: Path) -> None:
    stores = [
        DirectoryStore(msgspec.structs.replace(INFO, name=StoreName(name)), tmp_path / name, create=True, fsync=False, convoy=convoy)
        for name in ("one", "two")
    ]
    await stores[0].close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await stores[0].put(NAME, [b"x"])
    await stores[1].put(ShardName("aa/x"), [b"y"])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")] == ["x"]
    await stores[1].close()
