"""The runner: a job runs once at a time, whoever holds it, and goes on whatever a step comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.engine.workers import MAX_BACKOFF_SECONDS, POLL_SECONDS, Progress, Runner
from proxy.errors import StoreUnavailable
from proxy.manifest.jobs import state
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite import open_sqlite

LEASE_SECONDS = 60.0
IDLE_SECONDS = 100.0
DONE = Progress(idle=True, done=3, remaining=4, requests=5, size_bytes=6)


class Work:
    """A worker whose steps a test decides."""

    name = "work"
    idle_seconds = IDLE_SECONDS

    def __init__(self, *, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.steps = 0
        self.outcome: Progress | Exception = DONE
        self.before: Callable[[], object] = lambda: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()

    async def step(self) -> Progress:
        self.steps += 1
        self.began.set()
        self.before()
        await self.gate.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class AskedWork(Work):
    """A worker that says whether there is anything to do."""

    wanted: bool | Exception = False

    async def is_wanted(self) -> bool:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def manifest(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Manifest]:
    async with open_sqlite(tmp_path / "m.sqlite", clock) as opened:
        yield opened


@pytest.fixture
def runner_of(manifest: Manifest, clock: ManualClock) -> Callable[..., Runner]:
    def make(holder: str, lease_seconds: float = LEASE_SECONDS) -> Runner:
        return Runner(manifest, clock, (), holder=holder, jitter=lambda: 1.0, lease_seconds=lease_seconds)

    return make


async def test_what_a_step_did_is_on_record_and_nobody_holds_the_job_between_turns(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    work = Work()
    work.before = lambda: clock.advance(2)
    assert state(await manifest.find_job("work"), now_ms=clock.now_ms()) == "new"
    assert await runner_of("a").turn(work) == IDLE_SECONDS
    (job,) = await manifest.list_jobs()
    assert (job.done, job.remaining, job.requests, job.size_bytes, job.rate) == (3, 4, 5, 6, 1.5)
    assert (job.holder, job.last_run_ms, job.last_error) == ("", clock.now_ms(), "")
    assert job.due_ms == clock.now_ms() + IDLE_SECONDS * 1000
    assert state(job, now_ms=clock.now_ms()) == "waiting"


async def test_a_job_is_not_run_before_it_is_due_whichever_process_asks(runner_of: Callable[..., Runner], clock: ManualClock) -> None:
    work = Work()
    await runner_of("a").turn(work)
    assert await runner_of("b").turn(work) == POLL_SECONDS
    assert work.steps == 1
    clock.advance(IDLE_SECONDS)
    await runner_of("b").turn(work)
    assert work.steps == 2


async def test_a_turn_that_nobody_wants_writes_nothing_but_that_it_was_looked_now_and_then(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    work = AskedWork()
    work.idle_seconds = 1
    await runner_of("a").turn(work)
    shown = await manifest.find_job("work")
    for _ in range(int(POLL_SECONDS) + 1):
        clock.advance(1)
        assert await runner_of("a").turn(work) == 1
    assert (work.steps, await manifest.find_job("work")) == (1, shown)
    clock.advance(1)
    await runner_of("b").turn(work)
    assert work.steps == 2
    assert (await manifest.find_job("work")).last_run_ms == clock.now_ms()
    work.wanted = True
    clock.advance(1)
    await runner_of("a").turn(work)
    assert work.steps == 3


async def test_a_question_that_fails_is_answered_by_the_step(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    work = AskedWork()
    work.idle_seconds = 1
    await runner_of("a").turn(work)
    clock.advance(1)
    work.wanted = work.outcome = ArithmeticError("a row that cannot be read")
    await runner_of("a").turn(work)
    assert (work.steps, (await manifest.find_job("work")).last_error) == (2, "a row that cannot be read")


async def test_a_clock_that_is_set_back_stops_no_job(runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock) -> None:
    work = Work()
    await runner_of("a").turn(work)
    clock.advance(IDLE_SECONDS)
    await manifest.take_job("work", "dead", now_ms=clock.now_ms(), lease_ms=int(LEASE_SECONDS * 1000))
    clock.advance(-3600)
    await runner_of("b").turn(work)
    assert work.steps == 2
    assert await runner_of("a").turn(work) == POLL_SECONDS, "and from there on it waits as ever"


async def test_a_step_that_has_more_to_do_is_followed_at_once(runner_of: Callable[..., Runner]) -> None:
    work = Work()
    work.outcome = Progress(idle=False, done=1)
    assert await runner_of("a").turn(work) == 0
    assert await runner_of("b").turn(work) == 0
    assert work.steps == 2


async def test_one_process_works_at_a_time_and_a_lease_that_expired_is_taken_over(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    slow, work = Work(), Work()
    slow.gate.clear()
    turn = asyncio.create_task(runner_of("a").turn(slow))
    await slow.began.wait()
    assert (await manifest.find_job("work")).holder == "a"
    await runner_of("b").turn(work)
    assert work.steps == 0
    clock.advance(LEASE_SECONDS + 1)
    await runner_of("b").turn(work)
    assert work.steps == 1
    slow.gate.set()
    await turn
    assert (await manifest.find_job("work")).done == 3, "the turn of a process that lost its lease does not count"


async def test_a_long_step_keeps_its_lease_and_ends_when_another_has_taken_over(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    work = Work()
    work.gate.clear()
    turn = asyncio.create_task(runner_of("a", lease_seconds=0.03).turn(work))
    await work.began.wait()
    clock.advance(1)
    while (await manifest.find_job("work")).expires_ms < clock.now_ms():  # it is extended every hundredth of a second
        await asyncio.sleep(0)
    clock.advance(1)
    while await manifest.take_job("work", "b", now_ms=clock.now_ms(), lease_ms=10**6) is None:
        clock.advance(1)  # it was extended just before
    await turn
    assert (await manifest.find_job("work")).holder == "b"


async def test_a_failing_step_is_tried_later_and_later_and_its_error_is_told(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work()
    work.outcome = ArithmeticError("by nobody foreseen")
    waits = []
    for number in range(12):
        waits.append(await runner_of("ab"[number % 2]).turn(work))  # how often it failed is known to all
        clock.advance(waits[-1])
    assert waits[:4] == [4, 8, 16, 32]
    assert waits[-1] == MAX_BACKOFF_SECONDS
    job = await manifest.find_job("work")
    assert (job.last_error, job.failures) == ("by nobody foreseen", 12)
    assert state(job, now_ms=clock.now_ms()) == "failing"
    assert "ArithmeticError" in caplog.text
    work.outcome = Progress(idle=True, trouble="store elm is down")
    await runner_of("a").turn(work)
    job = await manifest.find_job("work")
    assert (job.last_error, job.failures) == ("store elm is down", 0)


async def test_jitter_spreads_those_who_failed_together(manifest: Manifest, clock: ManualClock) -> None:
    work = Work(everywhere=True)
    work.outcome = StoreUnavailable("elm", "down")
    waits = [await Runner(manifest, clock, (), holder=str(part), jitter=lambda part=part: part).turn(work) for part in (0.0, 0.5, 1.0)]
    assert waits == [2, 3, 4]


async def test_a_paused_job_does_not_run_until_it_is_resumed_by_whatever_process(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    work = Work()
    await manifest.pause_job("work", True)
    assert await runner_of("a").turn(work) == POLL_SECONDS
    assert state(await manifest.find_job("work"), now_ms=clock.now_ms()) == "paused"
    await manifest.pause_job("work", False)
    await runner_of("b").turn(work)
    assert work.steps == 1


async def test_a_job_that_is_paused_during_a_step_stays_paused_after_it(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    work = Work()
    work.outcome = Progress(idle=False, done=1)
    work.gate.clear()
    turn = asyncio.create_task(runner_of("a").turn(work))
    await work.began.wait()
    await manifest.pause_job("work", True)
    assert state(await manifest.find_job("work"), now_ms=clock.now_ms()) == "pausing"
    work.gate.set()
    await turn
    await runner_of("a").turn(work)
    assert work.steps == 1


async def test_what_every_process_must_run_is_run_by_each(runner_of: Callable[..., Runner], manifest: Manifest) -> None:
    work = Work(everywhere=True)
    for holder in "ab":
        assert await runner_of(holder).turn(work) == IDLE_SECONDS
    assert work.steps == 2
    assert (await manifest.find_job("work")).done == 6


async def test_on_leaving_a_step_is_broken_off_and_its_lease_given_back(manifest: Manifest, clock: ManualClock) -> None:
    work = Work()
    work.idle_seconds = 0
    work.gate.clear()
    async with Runner(manifest, clock, (work,), holder="a").running():
        await work.began.wait()
        assert (await manifest.find_job("work")).holder == "a"
    assert (await manifest.find_job("work")).holder == ""


async def test_a_worker_goes_on_after_an_unexpected_failure(manifest: Manifest, clock: ManualClock) -> None:
    work = Work(everywhere=True)
    work.idle_seconds = 0
    work.outcome = ArithmeticError()
    enough = asyncio.Event()
    work.before = lambda: enough.set() if work.steps == 3 else None
    async with Runner(manifest, clock, (work,), holder="a").running():
        await enough.wait()


async def test_a_fenced_manifest_runs_no_step(runner_of: Callable[..., Runner], manifest: Manifest) -> None:
    work = Work()
    await manifest.fence("an old copy")
    assert await runner_of("a").turn(work) == POLL_SECONDS
    assert work.steps == 0


async def test_a_turn_that_took_no_time_says_nothing_of_a_rate(
    runner_of: Callable[..., Runner], manifest: Manifest, clock: ManualClock
) -> None:
    work = Work()
    work.before = lambda: clock.advance(0.002)
    await runner_of("a").turn(work)
    (job,) = await manifest.list_jobs()
    assert (job.done, job.rate) == (3, 3.0), "not 1,500 a second"
