"""The shards of one segment put by one call: what succeeds counts, and whatever does not is put as it is always put."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from proxy.clock import SystemClock
from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme
from proxy.engine.memory.budget import Budget
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import MayFail, Policy
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing import quorum
from proxy.engine.writing.quorum import Placed, ShardPutter
from proxy.errors import StoreUnavailable
from proxy.lanes import Cancelled
from proxy.manifest.records import SegmentId
from proxy.stores.breaker import FAILURES_TO_OPEN
from proxy.stores.convoy import Convoy, Progress
from proxy.stores.directory import DirectoryStore
from proxy.stores.late import LateStore
from proxy.stores.limit import LimitedStore
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName, Store, StoreName
from proxy.stores.together import put_together
from tests.patience import PATIENCE_SECONDS
from tests.unit.stores.conftest import INFO

SCHEME = Scheme(2, 2)
ID = SegmentId(bytes(16))  # its shards lie in the order of the stores
NAMES = [ShardName(shard_name(ID, index)) for index in range(SCHEME.n)]
CONVOY = "store-convoy-0"


class Stores:
    """Directories in one convoy, as the engine has them, and what was recorded of their calls."""

    def __init__(self, path: Path, *, fsync: Sequence[bool] = (False,) * 4, concurrency: int = 8) -> None:
        """There are four, or one for each that `fsync` tells of."""
        self.convoy = Convoy(patience_seconds=PATIENCE_SECONDS)
        infos = [
            msgspec.structs.replace(INFO, name=StoreName(f"s{number}"), provider=f"p{number}", jurisdiction=f"j{number}")
            for number in range(len(fsync))
        ]
        self.bare = [
            DirectoryStore(info, path / info.name, create=True, fsync=waits, convoy=self.convoy)
            for info, waits in zip(infos, fsync, strict=True)
        ]
        self.recorded: list[tuple[str, str]] = []
        limited = [LimitedStore(store, concurrency=concurrency, put_seconds=PATIENCE_SECONDS, get_seconds=1) for store in self.bare]
        self.all = [ObservedStore(store, SystemClock(), record=self._record) for store in limited]
        self.fleet = Fleet({str(store.info.name): store for store in self.all})
        self.policy = Policy(name="p", scheme=SCHEME, stores=tuple(infos), may_fail=MayFail(stores=1))
        self.threads: list[str] = []

    def _record(self, store: str, verb: str, outcome: str, _seconds: float) -> None:
        assert verb == "put"
        self.recorded.append((store, outcome))

    def watch(self, number: int, monkeypatch: pytest.MonkeyPatch, before: Callable[[Cancelled], object] = lambda _: None) -> None:
        """Note which thread writes to a store, and do something before it does."""
        put = self.bare[number]._put

        def watched(name: str, body: Sequence[bytes], root: object, cancelled: Cancelled) -> None:
            self.threads.append(threading.current_thread().name)
            before(cancelled)
            put(name, body, root, cancelled)  # type: ignore[arg-type]  # whatever is handed on

        monkeypatch.setattr(self.bare[number], "_put", watched)

    async def together(self) -> set[int]:
        """Return which shards are stored then."""
        sent = await put_together(self.all[:4], NAMES, [[b"shard", b"%d" % index] for index in range(4)])
        return {index for index, seconds in sent.items() if seconds is not None}

    async def put_to_the_end(self) -> set[int]:
        """Put, wait for the tail, and return what is missing then: on a busy machine anything may be late."""
        placed = await self.put()
        await asyncio.gather(*placed.tail.values(), return_exceptions=True)
        placed.settle()
        return placed.missing

    async def put(self) -> Placed:
        shards: list[list[bytes | memoryview]] = [[b"shard", b"%d" % index] for index in range(4)]
        budget = Budget(2**20, wait_seconds=0)
        putter = ShardPutter(self.fleet, max_grace_seconds=PATIENCE_SECONDS, tasks=BackgroundTasks(), budget=budget)
        placed = await putter.put(self.policy, SCHEME, ID, shards)
        assert not shards
        return placed

    async def has(self) -> list[int]:
        """Return of which shards there is what was put, each in its own store."""
        return [index for index, name in enumerate(NAMES) if await _content(self.bare[index], name) == b"shard%d" % index]

    def assert_nothing_is_under_way(self) -> None:
        assert [store.puts for store in self.all] == [0] * 4
        assert [store._inner._inner._gate._free for store in self.all] == [8] * 4  # type: ignore[attr-defined]  # of the limit


async def _content(store: DirectoryStore, name: ShardName) -> bytes:
    try:
        return await store.get(name)
    except StoreUnavailable:
        raise
    except Exception:  # it is not there
        return b""


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    made = Stores(tmp_path)
    yield made
    for store in made.all:
        await store.close()


async def test_all_shards_are_written_by_one_call_of_one_thread(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        stores.watch(number, monkeypatch)
    calls, run = list[object](), stores.convoy._lanes.run
    monkeypatch.setattr(stores.convoy._lanes, "run", lambda call, **kwargs: (calls.append(call), run(call, **kwargs))[1])
    placed = await stores.put()
    assert (placed.stores, placed.missing, placed.strays) == ({index: f"s{index}" for index in range(4)}, set(), False)
    assert stores.threads == [CONVOY] * 4
    assert len(calls) == 1
    assert await stores.has() == [0, 1, 2, 3]
    assert sorted(stores.recorded) == [(f"s{index}", "ok") for index in range(4)]
    stores.assert_nothing_is_under_way()


async def test_what_fails_is_put_again_the_usual_way_and_told_of_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Cancelled) -> None:
        raise OSError(5, "Input/output error")

    stores.watch(1, monkeypatch, fail)
    assert await stores.together() == {0, 2, 3}
    assert stores.recorded == [("s0", "ok"), ("s2", "ok"), ("s3", "ok")]
    stores.assert_nothing_is_under_way()
    stores.recorded.clear()
    assert await stores.put_to_the_end() == {1}
    assert [outcome for store, outcome in stores.recorded if store == "s1"] == ["StoreUnavailable"]
    assert await stores.has() == [0, 2, 3]
    stores.assert_nothing_is_under_way()


async def test_what_failed_once_is_there_in_the_end(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [OSError(5, "Input/output error")]

    def fail(_: Cancelled) -> None:
        if faults:
            raise faults.pop()

    stores.watch(1, monkeypatch, fail)
    assert await stores.put_to_the_end() == set()
    assert await stores.has() == [0, 1, 2, 3]


async def test_a_store_that_hangs_holds_up_no_other(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, was_cancelled = threading.Event(), list[bool]()

    def hang(cancelled: Cancelled) -> None:
        go_on.wait(PATIENCE_SECONDS)
        was_cancelled.append(cancelled())

    stores.watch(1, monkeypatch, hang)
    stores.convoy._patience_seconds = 0.05
    placed = await stores.put()
    assert await stores.has() in ([0, 2, 3], [0, 1, 2, 3])
    assert placed.missing == {1}
    assert list(placed.tail) == [1]
    go_on.set()
    await placed.tail[1]
    await stores.convoy._lanes.run(lambda _: None)  # behind the call that hung
    assert True in was_cancelled or len(was_cancelled) == 1, "the first call, if it came so far, was given up, and knows it"
    assert await stores.has() == [0, 1, 2, 3]
    stores.assert_nothing_is_under_way()


async def test_what_was_given_up_while_it_was_written_does_not_count(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken away again, and no error tells of that."""
    given_up = iter([False])

    async def give_up(call: Callable[[Cancelled], object], **_: object) -> None:
        await asyncio.to_thread(call, lambda: next(given_up, True))  # it was not when the first shard was begun
        raise TimeoutError

    monkeypatch.setattr(stores.convoy._lanes, "run", give_up)
    assert await stores.together() == set()
    assert await stores.has() == []
    stores.assert_nothing_is_under_way()


async def test_a_store_that_may_have_a_shard_from_the_first_try_is_searched_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it is not even asked, and another store takes the shard."""
    monkeypatch.setattr(quorum, "MIN_PATIENCE_SECONDS", PATIENCE_SECONDS)  # on a busy machine the second try would be late
    stores = Stores(tmp_path, fsync=(False,) * 5)
    tried: list[str] = []

    def lose(number: int) -> None:
        put = stores.bare[number]._put

        def losing(name: str, body: Sequence[bytes], root: object, cancelled: Cancelled) -> None:
            if name == NAMES[1]:
                tried.append(f"s{number}")
            if name == NAMES[1] and len(tried) == 2:
                raise OSError(errno.EMFILE, "Too many open files")
            put(name, body, root, cancelled)  # type: ignore[arg-type]  # whatever is handed on
            if name == NAMES[1] and len(tried) == 1:
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(stores.bare[number], "_put", losing)

    for number in range(5):
        lose(number)
    placed = await stores.put()
    first, again, elsewhere = tried
    assert first == again != elsewhere
    assert placed.stores[1] == elsewhere
    assert placed.strays
    for store in stores.all:
        await store.close()


async def test_while_the_convoy_goes_on_nobody_loses_patience(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Semaphore(0)
    monkeypatch.setattr(Progress, "goes_on", lambda _: (looked.release(), True)[1])
    stores.convoy._patience_seconds = 0.001
    for number in range(4):
        stores.watch(number, monkeypatch, lambda _: looked.acquire(timeout=PATIENCE_SECONDS))
    assert await stores.together() == {0, 1, 2, 3}
    assert stores.threads == [CONVOY] * 4


async def test_a_convoy_goes_on_if_anything_has_ended_since_the_last_look(stores: Stores) -> None:
    progress = Progress(stores.convoy)
    assert not progress.goes_on()
    await stores.convoy.run(lambda _: None, otherwise=stores.bare[0]._lanes)
    assert progress.goes_on()
    assert not progress.goes_on()


async def test_who_is_cancelled_leaves_nothing_under_way(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    stores.watch(0, monkeypatch, lambda _: (begun.set(), go_on.wait(PATIENCE_SECONDS)))
    putting = asyncio.create_task(stores.put())
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    stores.assert_nothing_is_under_way()
    go_on.set()
    await stores.convoy._lanes.run(lambda _: None)
    assert await stores.has() == []
    assert stores.recorded == []


async def test_a_store_that_does_not_keep_pace_is_left_to_the_usual_way(stores: Stores) -> None:
    for _ in range(FAILURES_TO_OPEN):
        stores.all[2].overtaken("put")
    assert await stores.together() == set()
    stores.assert_nothing_is_under_way()


async def test_a_store_that_has_no_place_left_is_waited_for_in_the_usual_way(tmp_path: Path) -> None:
    stores = Stores(tmp_path, concurrency=1)
    gate = stores.all[3]._inner._inner._gate  # type: ignore[attr-defined]  # of the limit
    assert gate.enter_at_once()
    assert await stores.together() == set()
    gate.leave()
    assert [store._inner._inner._gate._free for store in stores.all] == [1] * 4  # type: ignore[attr-defined]  # as above
    assert await stores.together() == {0, 1, 2, 3}
    for store in stores.all:
        await store.close()


async def test_where_one_waits_for_its_disk_none_is_put_together(tmp_path: Path) -> None:
    stores = Stores(tmp_path, fsync=(False, False, True, False))
    assert await stores.together() == set()
    stores.assert_nothing_is_under_way()
    assert await stores.put_to_the_end() == set()
    assert await stores.has() == [0, 1, 2, 3]
    for store in stores.all:
        await store.close()


async def test_a_store_that_took_long_rests(stores: Stores) -> None:
    stores.convoy.rest_of(stores.bare[1]._lanes).begin()
    assert await stores.together() == set()
    assert await stores.put_to_the_end() == set()
    stores.assert_nothing_is_under_way()


async def test_while_the_convoy_rests_nothing_is_sent_and_no_store_may_have_anything(stores: Stores) -> None:
    stores.convoy._rest.begin()
    assert not await put_together(stores.all, NAMES, [[b"shard"]] * 4)
    stores.assert_nothing_is_under_way()
    assert await stores.has() == []


async def test_a_store_that_opened_late_is_put_to_with_the_others(stores: Stores) -> None:
    opening: asyncio.Future[Store] = asyncio.get_running_loop().create_future()
    late = LateStore(stores.bare[2].info, opening)
    limited = LimitedStore(late, concurrency=8, put_seconds=PATIENCE_SECONDS, get_seconds=1)
    stores.all[2] = ObservedStore(limited, SystemClock())
    assert await stores.together() == set()
    opening.set_result(stores.bare[2])
    assert await stores.together() == {0, 1, 2, 3}
