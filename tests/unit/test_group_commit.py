"""The writer of the SQLite manifest outlives whatever its steps and its connection do, and nobody waits for it in vain."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from proxy.errors import ManifestUnavailable
from proxy.manifest.sqlite import group_commit
from proxy.manifest.sqlite.group_commit import GroupCommitter, Joint, Step
from proxy.manifest.sqlite.turn import Turn
from tests.deadlines import Deadlines
from tests.patience import PATIENCE_SECONDS

PROBED = 999  # what a probe adds


class Database:
    """Opens connections to one file, as long as it may."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.openings = 0
        self.fails = False
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE fact (value INTEGER PRIMARY KEY)")

    def open(self) -> sqlite3.Connection:
        self.openings += 1
        if self.fails:
            raise OSError("the disk is gone")
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    def committer(self, *, probe_seconds: float = 60.0) -> GroupCommitter:
        return GroupCommitter(self.open, timeout_seconds=PATIENCE_SECONDS, turn=Turn(self._path), probe=probe, probe_seconds=probe_seconds)

    def facts(self) -> list[int]:
        with sqlite3.connect(self._path) as connection:
            return [row[0] for row in connection.execute("SELECT value FROM fact ORDER BY value")]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "m.sqlite")


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    return Deadlines(monkeypatch)


@pytest.fixture
async def committer(database: Database) -> AsyncIterator[GroupCommitter]:
    running = database.committer()
    yield running
    await running.close()


def add(value: int, then: Callable[[], object] = lambda: None) -> Step[int]:
    def step(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO fact VALUES (?)", (value,))
        then()
        return value

    return step


def probe(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO fact VALUES (?)", (PROBED,))
    connection.execute("DELETE FROM fact WHERE value = ?", (PROBED,))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.001)


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


@pytest.mark.parametrize("error", [IndexError("i"), OverflowError("o"), MemoryError("m"), RecursionError("r")], ids=repr)
async def test_what_a_step_raises_is_its_callers_and_undoes_that_step_alone(
    committer: GroupCommitter, database: Database, error: Exception
) -> None:
    steps = [committer.run(add(1)), committer.run(add(2, raising(error))), committer.run(add(3))]
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    assert outcomes == [1, error, 3]
    assert database.facts() == [1, 3]
    assert await committer.run(add(4)) == 4
    assert database.openings == 1


async def test_what_begins_in_one_turn_of_the_loop_is_one_group(database: Database) -> None:
    looks: list[list[int]] = []
    committer = GroupCommitter(
        database.open, timeout_seconds=60, turn=Turn(database._path), probe=probe, check=lambda: looks.append(database.facts())
    )
    await asyncio.gather(*(committer.run(add(value)) for value in range(50)))
    await committer.close()
    assert looks == [[], list(range(50))]


def add_each(connection: sqlite3.Connection, values: Sequence[int]) -> list[int | Exception]:
    """Refuses what is negative; fails as a whole where a value is there already."""
    for value in values:
        if value >= 0:
            connection.execute("INSERT INTO fact VALUES (?)", (value,))
    return [value if value >= 0 else KeyError(len(values)) for value in values]


async def test_changes_of_one_kind_are_made_together_and_each_hears_its_own_result(committer: GroupCommitter, database: Database) -> None:
    outcomes = await asyncio.gather(*(committer.run(Joint(add_each, value)) for value in (1, -1, 2)), return_exceptions=True)
    assert [*map(str, outcomes)] == ["1", "3", "2"]
    assert database.facts() == [1, 2]


async def test_a_writer_that_waits_keeps_nothing_of_its_last_group(committer: GroupCommitter) -> None:
    class Fact:
        pass

    facts: list[weakref.ref[Fact]] = []

    def step(_: sqlite3.Connection) -> Fact:
        fact = Fact()
        facts.append(weakref.ref(fact))
        return fact

    await committer.run(step)
    await until(lambda: [fact() for fact in facts] == [None])


async def test_a_change_between_others_of_one_kind_keeps_its_place(committer: GroupCommitter, database: Database) -> None:
    found: list[int] = []

    def look(connection: sqlite3.Connection) -> None:
        found.extend(row[0] for row in connection.execute("SELECT value FROM fact ORDER BY value"))

    one, two, three = (committer.run(Joint(add_each, value)) for value in (1, 2, 3))
    await asyncio.gather(one, two, committer.run(look), three)
    assert found == [1, 2]
    assert database.facts() == [1, 2, 3]


async def test_who_was_told_a_moment_ago_is_waited_for_if_there_were_more_together(
    committer: GroupCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    freezing, thawed, told = threading.Event(), threading.Event(), asyncio.Event()

    def steps(_connection: sqlite3.Connection, items: Sequence[int]) -> list[int | Exception]:
        together.append(len(items))
        freezing.set()
        assert thawed.wait(PATIENCE_SECONDS)
        return list(items)

    async def change_twice(number: int) -> None:
        await committer.run(Joint(steps, number))
        if number == 2:
            told.set()
            await until(lambda: committer._jobs.empty())  # the writer has taken what the others want
        await committer.run(Joint(steps, number))

    monkeypatch.setattr(group_commit, "GATHER_SECONDS", PATIENCE_SECONDS)
    first = [asyncio.create_task(change_twice(number)) for number in range(3)]
    await asyncio.to_thread(freezing.wait)
    others = [asyncio.create_task(committer.run(Joint(steps, number))) for number in range(3, 5)]
    await asyncio.sleep(0.0)
    thawed.set()
    await told.wait()
    await asyncio.gather(*first, *others)
    assert together == [3, 5]


async def test_a_group_that_is_full_waits_for_nobody(committer: GroupCommitter, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []

    def steps(_connection: sqlite3.Connection, items: Sequence[int]) -> list[int | Exception]:
        together.append(len(items))
        return list(items)

    monkeypatch.setattr(group_commit, "MAX_GROUP", 4)
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 0.0)
    await asyncio.gather(*(committer.run(Joint(steps, number)) for number in range(12)))
    assert together == [4, 4, 4]


async def test_who_does_not_come_again_is_waited_for_no_longer_than_a_moment(
    committer: GroupCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 0.0)
    await asyncio.gather(*(committer.run(Joint(add_each, value)) for value in range(3)))
    assert await committer.run(Joint(add_each, 3)) == 3


async def test_who_came_while_the_thread_waited_for_the_interpreter_is_taken_along(committer: GroupCommitter) -> None:
    one, late = (group_commit._Job(Joint(add_each, value), committer._loop.create_future()) for value in (1, 2))

    class Slow(SimpleQueue[Sequence[group_commit._Job] | None]):
        """The time is over, and something has come by then: so it is when the reader does not get the interpreter back at once."""

        def get(self, block: bool = True, timeout: float | None = None) -> Sequence[group_commit._Job] | None:
            self.put([late])
            raise Empty

    await committer.close()
    committer._jobs, committer._alike_lately = Slow(), 8
    group = [one]
    committer._gather(group)
    assert group == [one, late]


async def test_what_is_of_another_kind_waits_for_nobody(committer: GroupCommitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 100 * PATIENCE_SECONDS)
    await asyncio.gather(*(committer.run(Joint(add_each, value)) for value in range(3)))
    assert await committer.run(add(3)) == 3
    assert await asyncio.gather(committer.run(Joint(add_each, 4)), committer.run(add(5))) == [4, 5]


async def test_nobody_waits_for_a_client_alone(committer: GroupCommitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 100 * PATIENCE_SECONDS)
    for value in range(5):
        await committer.run(Joint(add_each, value))
        await committer.run(add(100 + value))


async def test_who_closes_does_not_wait_for_those_who_do_not_come_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 100 * PATIENCE_SECONDS)
    committer = database.committer()
    await asyncio.gather(*(committer.run(Joint(add_each, value)) for value in range(3)))
    alone = asyncio.create_task(committer.run(Joint(add_each, 3)))
    await asyncio.sleep(0)
    await committer.close()
    assert await alone == 3


async def test_when_changes_fail_together_each_is_made_alone(committer: GroupCommitter, database: Database) -> None:
    outcomes = await asyncio.gather(*(committer.run(Joint(add_each, value)) for value in (1, 2, 2, -1, 3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, int, ManifestUnavailable, KeyError, int]
    assert str(outcomes[3]) == "1"
    assert database.facts() == [1, 2, 3]


async def test_of_changes_of_one_kind_those_whose_callers_went_away_never_happen(committer: GroupCommitter, database: Database) -> None:
    thawed, freezing = threading.Event(), threading.Event()
    first = asyncio.create_task(committer.run(add(1, lambda: freezing.set() or thawed.wait())))
    await asyncio.to_thread(freezing.wait)
    others = [asyncio.create_task(committer.run(Joint(add_each, value))) for value in (2, 3, 4)]
    await asyncio.sleep(0)
    others[1].cancel()
    thawed.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert [outcomes[1], outcomes[3]] == [2, 4]
    assert database.facts() == [1, 2, 4]


async def test_who_is_called_back_hears_what_became_of_his_change(committer: GroupCommitter, database: Database) -> None:
    made, refused, alone = (committer.begin(step) for step in (Joint(add_each, 1), Joint(add_each, -1), add(2)))
    await asyncio.wait([made.ended, refused.ended, alone.ended])
    assert (made.result(), alone.result()) == (1, 2)
    with pytest.raises(KeyError):
        refused.result()
    assert database.facts() == [1, 2]
    assert committer._alike == 0


async def test_what_has_just_begun_is_finished_by_whoever_closes(database: Database) -> None:
    committer = database.committer()
    begun = asyncio.create_task(committer.run(add(1)))
    await asyncio.sleep(0)
    await committer.close()
    assert await begun == 1
    assert database.facts() == [1]


async def test_an_exception_no_future_takes_reaches_its_caller(committer: GroupCommitter) -> None:
    with pytest.raises(RuntimeError):
        await committer.run(add(1, raising(StopIteration())))
    assert await committer.run(add(2)) == 2


async def test_a_statement_that_fails_undoes_its_step_alone(committer: GroupCommitter, database: Database) -> None:
    outcomes = await asyncio.gather(*(committer.run(add(value)) for value in (1, 1, 2)), return_exceptions=True)
    assert isinstance(outcomes[1], ManifestUnavailable)
    assert database.facts() == [1, 2]


async def test_a_transaction_that_ends_under_a_step_fails_its_group_and_no_other(committer: GroupCommitter, database: Database) -> None:
    def ending(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")  # as SQLite does by itself on a full disk
        raise sqlite3.OperationalError("database or disk is full")

    outcomes = await asyncio.gather(committer.run(add(1)), committer.run(ending), committer.run(add(2)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the manifest cannot be written: database or disk is full"] * 3
    assert await committer.run(add(3)) == 3
    assert database.facts() == [3]


async def test_a_step_that_would_end_the_thread_fails_its_group_and_no_other(committer: GroupCommitter, database: Database) -> None:
    with pytest.raises(ManifestUnavailable):
        await committer.run(add(1, raising(SystemExit())))
    assert await committer.run(add(2)) == 2
    assert database.facts() == [2]


async def test_a_connection_that_cannot_be_opened_fails_changes_until_it_can(committer: GroupCommitter, database: Database) -> None:
    database.fails = True
    for value in (1, 2):
        with pytest.raises(ManifestUnavailable, match="the disk is gone"):
            await committer.run(add(value))
        assert committer.trouble
    database.fails = False
    assert await committer.run(add(3)) == 3
    assert not committer.trouble


async def test_a_committer_nobody_asks_finds_out_by_itself_that_it_can_write_again(database: Database) -> None:
    database.fails = True
    committer = database.committer(probe_seconds=0.001)
    await until(lambda: bool(committer.trouble))
    database.fails = False
    await until(lambda: not committer.trouble)
    assert database.facts() == []
    await committer.close()


async def test_a_full_database_is_unhealthy_until_something_can_be_written(committer: GroupCommitter, database: Database) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 3")
        connection.execute("CREATE TABLE filler AS SELECT zeroblob(100000)")

    with pytest.raises(ManifestUnavailable, match="full"):
        await committer.run(fill)
    assert committer.trouble == "the manifest cannot be written: database or disk is full"
    await committer.run(lambda connection: None)
    assert committer.trouble, "what writes nothing proves nothing"
    assert await committer.run(add(1)) == 1
    assert not committer.trouble


async def test_a_step_that_violates_a_constraint_is_no_failure_of_the_database(committer: GroupCommitter) -> None:
    for _ in range(2):
        await asyncio.gather(committer.run(add(1)), return_exceptions=True)
    assert not committer.trouble


async def test_a_change_past_its_deadline_fails_and_one_behind_it_never_happens(database: Database, deadlines: Deadlines) -> None:
    committer, thawed, freezing = database.committer(), threading.Event(), threading.Event()
    under_way = asyncio.create_task(committer.run(add(1, lambda: freezing.set() or thawed.wait())))
    await asyncio.to_thread(freezing.wait)
    behind = asyncio.create_task(committer.run(add(2)))
    await asyncio.sleep(0)
    deadlines.pass_for(committer)
    for change in (under_way, behind):
        with pytest.raises(ManifestUnavailable, match="not answered within"):
            await change
    assert committer.trouble == "the manifest does not answer"
    with pytest.raises(ManifestUnavailable, match="does not answer"):
        await committer.run(add(3))
    thawed.set()
    await until(lambda: not committer.trouble)
    deadlines.begin_anew()
    assert await committer.run(add(4)) == 4
    assert database.facts() == [1, 4]
    await committer.close()


async def test_who_is_called_back_past_the_deadline_is_told_so_and_what_had_not_begun_never_happens(
    committer: GroupCommitter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[Callable[[], object]] = []
    loop, thawed, freezing = asyncio.get_running_loop(), threading.Event(), threading.Event()
    monkeypatch.setattr(loop, "call_later", lambda _, timer: timers.append(timer) or loop.call_at(loop.time() + 3600, timer))
    changes = [committer.begin(add(1, lambda: freezing.set() or thawed.wait()))]
    await asyncio.to_thread(freezing.wait)
    changes.append(committer.begin(add(2)))
    await asyncio.sleep(0)
    for timer in timers:
        timer()
    for change in changes:
        assert change.ended.done()
        with pytest.raises(ManifestUnavailable, match="not answered within"):
            change.result()
    thawed.set()
    assert await committer.run(add(3)) == 3
    assert database.facts() == [1, 3]


async def test_a_change_whose_caller_went_away_before_it_began_never_happens(committer: GroupCommitter, database: Database) -> None:
    thawed, freezing = threading.Event(), threading.Event()
    first = asyncio.create_task(committer.run(add(1, lambda: freezing.set() or thawed.wait())))
    await asyncio.to_thread(freezing.wait)
    second = asyncio.create_task(committer.run(add(2)))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    thawed.set()
    assert await committer.run(add(3)) == 3
    assert database.facts() == [1, 3]


async def test_a_process_that_stops_in_its_turn_makes_writers_fail_and_not_wait_for_ever(
    database: Database, tmp_path: Path, deadlines: Deadlines
) -> None:
    committer, other = database.committer(), Turn(tmp_path / "m.sqlite")
    with other.taken():
        change = asyncio.create_task(committer.run(add(1)))
        await until(lambda: committer.takes_longer_than(0))
        deadlines.pass_for(committer)
        with pytest.raises(ManifestUnavailable, match="not answered within"):
            await change
        assert committer.trouble
    await until(lambda: not committer.trouble)
    deadlines.begin_anew()
    assert await committer.run(add(2)) == 2
    assert database.facts() == [2]
    other.close()
    await committer.close()


def test_a_disk_that_answers_after_the_loop_has_ended_ends_the_writer_quietly(
    database: Database, monkeypatch: pytest.MonkeyPatch, deadlines: Deadlines
) -> None:
    monkeypatch.setattr(group_commit, "CLOSE_SECONDS", 0.01)
    freezing, thawed, failures, threads = threading.Event(), threading.Event(), [], []
    monkeypatch.setattr(threading, "excepthook", failures.append)

    async def hang() -> None:
        committer = database.committer()
        threads.append(committer._thread)
        change = asyncio.create_task(committer.run(add(1, lambda: freezing.set() or thawed.wait())))
        await asyncio.to_thread(freezing.wait)
        deadlines.pass_for(committer)
        with pytest.raises(ManifestUnavailable):
            await change
        await committer.close()

    asyncio.run(hang())
    thawed.set()
    threads[0].join(PATIENCE_SECONDS)
    assert not threads[0].is_alive()
    assert failures == []
    assert database.facts() == [1]


async def test_changes_behind_the_end_fail_at_once(database: Database) -> None:
    """The writer was told to end while it was busy, and others came behind that."""
    committer, begun, go_on = database.committer(), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(PATIENCE_SECONDS)

    last = asyncio.create_task(committer.run(add(1, wait)))
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    closing = asyncio.create_task(committer.close())
    await asyncio.sleep(0)
    behind = asyncio.create_task(committer.run(add(2)))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await last == 1
        await closing
        with pytest.raises(ManifestUnavailable, match="closed"):
            await behind
    assert database.facts() == [1]


async def test_changes_after_the_end_fail_at_once(database: Database) -> None:
    committer = database.committer()
    last = asyncio.create_task(committer.run(add(1)))
    await asyncio.sleep(0)
    await committer.close()
    assert await last == 1
    assert committer.trouble
    with pytest.raises(ManifestUnavailable, match="closed"):
        await committer.run(add(2))
    await committer.close()


async def test_a_disk_that_hangs_does_not_hold_up_the_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "CLOSE_SECONDS", 0.01)
    committer, thawed = database.committer(), threading.Event()
    change = asyncio.create_task(committer.run(add(1, thawed.wait)))
    await asyncio.sleep(0)
    await committer.close()
    assert not change.done()
    thawed.set()
    assert await change == 1
