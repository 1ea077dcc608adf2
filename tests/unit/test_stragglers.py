"""Late puts: each is recorded if it arrives, gives its memory back when it ends, and together they cannot hold much of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

import pytest

from proxy.clock import ManualClock
from proxy.engine.memory.budget import Budget
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import Placed
from proxy.engine.writing.spare import SPARE_BYTES, SparePuts
from proxy.engine.writing.stragglers import LatePuts, Stragglers
from proxy.errors import ManifestUnavailable, ProxyError, StoreRejected, StoreUnavailable
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, SegmentId
from tests.patience import PATIENCE_SECONDS

ID = SegmentId(bytes(16))
MIB = 1024 * 1024


class _Records:
    """What of a manifest stragglers use."""

    def __init__(self, *, fails_for: int | None = None) -> None:
        self.arrived: list[int] = []
        self._fails_for = fails_for

    async def record_shard(self, extent_id: ExtentId, segment_id: SegmentId, shard_index: int, *, store: str, now_ms: int) -> None:
        if shard_index == self._fails_for:
            raise ManifestUnavailable("fails on purpose")
        assert store == f"s{shard_index}"
        self.arrived.append(shard_index)


async def _ends(error: Exception | None = None) -> None:
    if error is not None:
        raise error


def _placed(*puts: Coroutine[object, object, None]) -> Placed:
    tail = {index: asyncio.ensure_future(put) for index, put in enumerate(puts)}
    return Placed(ID, {index: f"s{index}" for index in tail}, set(tail), tail)  # type: ignore[arg-type]  # tasks, as they are coroutines


async def _followed(records: _Records, placed: Placed) -> None:
    manifest: Manifest = records  # type: ignore[assignment]
    tasks = BackgroundTasks()
    Stragglers(manifest, tasks, ManualClock()).adopt(ExtentId(1), [placed])
    await tasks.drain(PATIENCE_SECONDS)


@pytest.mark.parametrize("failure", [StoreUnavailable("s0", "down"), StoreRejected("s0", "refused")])
async def test_a_late_put_that_fails_keeps_no_other_from_being_recorded(failure: ProxyError) -> None:
    records = _Records()
    await _followed(records, _placed(_ends(failure), _ends(), _ends(failure), _ends()))
    assert records.arrived == [1, 3]


async def test_an_arrival_that_cannot_be_recorded_keeps_no_other_from_it() -> None:
    records = _Records(fails_for=0)
    await _followed(records, _placed(_ends(), _ends()))
    assert records.arrived == [1]


async def test_a_late_put_that_was_given_up_is_not_recorded() -> None:
    records, placed = _Records(), _placed(asyncio.Event().wait(), _ends())  # type: ignore[arg-type]
    placed.tail[0].cancel()
    await _followed(records, placed)
    assert records.arrived == [1]


async def test_that_late_shards_do_not_arrive_is_told_once_a_store_and_a_minute_and_told_again_once_they_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    manifest: Manifest = _Records()  # type: ignore[assignment]
    tasks = BackgroundTasks()
    clock = ManualClock()
    stragglers = Stragglers(manifest, tasks, clock)
    down = StoreUnavailable("s0", "down")
    for failure in [*[down] * 20, None, None, *[down, None] * 5, *[down] * 5]:
        clock.advance(5)
        stragglers.adopt(ExtentId(1), [_placed(_ends(failure), _ends())])
        await tasks.drain(PATIENCE_SECONDS)
    assert [record.getMessage() for record in caplog.records if record.name == "proxy.engine.writing.stragglers"] == [
        "late shards do not arrive at store s0, and wait for repair: store s0: down",
        "late shards arrive again at store s0; 20 did not, and wait for repair",
        "late shards do not arrive at store s0, and wait for repair: store s0: down",
        "late shards arrive again at store s0; 1 did not, and wait for repair",
        "late shards do not arrive at store s0, and wait for repair: store s0: down"
        "; it came and went 4 times more since this was last said",
    ]


async def test_the_late_puts_of_a_write_that_failed_have_ended_once_they_are_disowned() -> None:
    placed = _placed(asyncio.Event().wait(), _ends(StoreUnavailable("s1", "down")))  # type: ignore[arg-type]
    placed.spare = [asyncio.create_task(asyncio.Event().wait())]  # type: ignore[list-item]
    await Stragglers(_Records(), BackgroundTasks(), ManualClock()).disown([placed])  # type: ignore[arg-type]
    assert all(put.done() for put in (*placed.tail.values(), *placed.spare))


@pytest.mark.parametrize("failure", [None, StoreUnavailable("s0", "down")])
async def test_a_late_put_gives_its_memory_back_when_it_ends(failure: ProxyError | None) -> None:
    budget = Budget(64 * MIB, wait_seconds=1)
    held = await budget.acquire(4 * MIB, owner="t")
    go_on = asyncio.Event()

    async def late() -> None:
        await go_on.wait()
        await _ends(failure)

    puts = [asyncio.create_task(late()) for _ in range(4)]
    LatePuts(budget).keep(puts, held, MIB)
    puts[0].cancel()
    await asyncio.wait(puts[:1])
    await asyncio.sleep(0)
    assert budget.held_bytes == 3 * MIB
    go_on.set()
    await asyncio.wait(puts)
    await asyncio.sleep(0)
    assert budget.held_bytes == 0


async def test_late_puts_together_hold_a_quarter_of_the_memory_and_the_oldest_are_given_up() -> None:
    budget = Budget(64 * MIB, wait_seconds=1)
    late = LatePuts(budget)
    puts: list[asyncio.Task[None]] = []
    for _ in range(6):
        put: asyncio.Task[None] = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
        puts.append(put)
        late.keep([put], await budget.acquire(4 * MIB, owner="t"), 4 * MIB)
    await asyncio.wait(puts[:2])
    await asyncio.sleep(0)
    assert [put.cancelled() for put in puts] == [True, True, False, False, False, False]
    assert budget.held_bytes == 16 * MIB
    for put in puts:
        put.cancel()


async def test_spare_puts_together_hold_little_memory_and_the_oldest_are_broken_off() -> None:
    tasks, budget = BackgroundTasks(), Budget(64 * MIB, wait_seconds=0)
    spares = SparePuts(tasks, budget)
    puts: list[asyncio.Task[None]] = []
    for _ in range(3):
        puts.append(asyncio.create_task(asyncio.Event().wait()))  # type: ignore[arg-type]
        spares.keep(puts[-1], SPARE_BYTES // 2)
    await asyncio.wait(puts[:1])
    assert [put.cancelled() for put in puts] == [True, False, False]
    assert budget.held_bytes == SPARE_BYTES
    await tasks.drain(0)
    assert all(put.cancelled() for put in puts)
    assert budget.held_bytes == 0


async def test_a_spare_put_is_broken_off_where_its_memory_is_not_free() -> None:
    tasks, budget = BackgroundTasks(), Budget(64 * MIB, wait_seconds=0)
    await budget.acquire(budget.largest_bytes, owner="t")
    held = budget.held_bytes
    put = asyncio.create_task(asyncio.Event().wait())
    SparePuts(tasks, budget).keep(put, SPARE_BYTES // 2)  # type: ignore[arg-type]
    await asyncio.wait([put])
    assert put.cancelled()
    assert budget.held_bytes == held


async def test_what_must_run_to_its_end_is_not_cancelled_with_its_caller() -> None:
    tasks, go_on, ended = BackgroundTasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        ended.set()

    caller = asyncio.create_task(tasks.run(work()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    go_on.set()
    await tasks.drain(PATIENCE_SECONDS)
    assert ended.is_set()


async def test_a_drain_gives_up_what_does_not_end() -> None:
    tasks, cancelled = BackgroundTasks(), asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    tasks.start(hang())
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await tasks.drain(0)
    assert cancelled.is_set()
