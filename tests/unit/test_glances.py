"""What was asked of the manifest a moment ago is answered on the event loop, unless something would have to be waited for."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from proxy.errors import ManifestUnavailable
from proxy.manifest.sqlite import glances
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.glances import DOUBT_SECONDS, GLANCES_A_TURN, HELD_UP_SECONDS, SLOW_SECONDS, Glances, Waits
from proxy.manifest.sqlite.log_head import LogHead
from proxy.manifest.sqlite.readers import Readers
from proxy.manifest.sqlite.small_database import WARM_SECONDS, SmallDatabase


class Setting:
    """Glances over a small database, with a clock that moves when told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1000.0
        self.in_doubt = False
        self.reads = 0  # from the disk
        self.waits = 0
        self.opened = 0
        self.fault: Exception | None = None
        self.readers = Readers(partial(connect, path, busy_seconds=1), count=1, name="read", timeout_seconds=60)
        self.glances = self._glances()

    def _glances(self, small: SmallDatabase | None = None) -> Glances:
        return Glances(self.readers, self._open, is_in_doubt=lambda: self.in_doubt, small=small, now=lambda: self.now, waits=self._waits)

    def _waits(self) -> Waits:
        return Waits(self.reads, self.waits)

    def keep_in_memory(self) -> None:
        """Begin anew, with a database that is read through by those who ask."""
        self.glances.close()
        self.glances = self._glances(SmallDatabase(self.path, now=lambda: self.now))

    def _open(self) -> sqlite3.Connection:
        self.opened += 1
        if self.fault is not None:
            raise self.fault
        return connect(self.path, busy_seconds=1)

    async def is_here(self, about: str = "a") -> bool:
        """Ask, and tell whether the answer came from this thread."""
        return await self.glances.ask(asked_in, about) is threading.current_thread()


def asked_in(connection: sqlite3.Connection, about: str) -> threading.Thread:
    assert connection.execute("SELECT value FROM fact").fetchone() == (7,)
    return threading.current_thread()


def forget_pages(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA shrink_memory")


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    with sqlite3.connect(tmp_path / "m.sqlite") as connection:
        connection.execute("CREATE TABLE fact AS SELECT 7 AS value")
    made = Setting(tmp_path / "m.sqlite")
    yield made
    made.glances.close()
    await made.readers.close()


async def test_a_question_is_asked_in_a_thread_first_and_here_when_it_comes_again(setting: Setting) -> None:
    assert [await setting.is_here() for _ in range(3)] == [False, True, True]
    assert [await setting.is_here("b") for _ in range(2)] == [False, True]


async def test_once_a_small_database_was_read_all_of_it_is_answered_here(setting: Setting) -> None:
    setting.keep_in_memory()
    assert [await setting.is_here(about) for about in "abc"] == [False, True, True]
    setting.in_doubt = True
    assert not await setting.is_here("d")
    setting.in_doubt = False
    setting.now += WARM_SECONDS
    assert [await setting.is_here(about) for about in "efg"] == [False, True, True]


async def test_what_has_not_been_asked_for_long_may_be_in_memory_no_more(setting: Setting) -> None:
    await setting.is_here()
    setting.now += WARM_SECONDS
    assert await setting.is_here()
    setting.now += WARM_SECONDS
    assert await setting.is_here(), "it was asked meanwhile"
    setting.now += 2 * WARM_SECONDS
    await setting.is_here("b")
    setting.now += WARM_SECONDS
    assert not await setting.is_here()


async def test_only_so_many_questions_are_remembered(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glances, "MAX_WARM", 4)
    for number in range(20):
        await setting.is_here(str(number))
    assert not await setting.is_here("0")
    assert await setting.is_here("19")


async def test_while_the_disk_may_not_answer_threads_are_asked(setting: Setting) -> None:
    await setting.is_here()
    setting.in_doubt = True
    assert not await setting.is_here()
    setting.in_doubt = False
    assert await setting.is_here()


@pytest.mark.parametrize(("seconds", "reads"), [(2 * SLOW_SECONDS, 1), (2 * HELD_UP_SECONDS, 0)])
async def test_after_a_glance_that_has_waited_threads_are_asked_for_a_while(setting: Setting, seconds: float, reads: int) -> None:
    def slow(connection: sqlite3.Connection) -> threading.Thread:
        setting.now += seconds
        setting.reads += reads
        setting.waits += 1
        return threading.current_thread()

    await setting.is_here()
    await setting.glances.ask(slow)
    assert await setting.glances.ask(slow) is threading.current_thread()
    assert not await setting.is_here()
    setting.now += DOUBT_SECONDS
    assert await setting.is_here()


async def test_a_glance_that_was_only_taken_off_the_processor_raises_no_doubt(setting: Setting) -> None:
    def slow(connection: sqlite3.Connection) -> threading.Thread:
        setting.now += 2 * SLOW_SECONDS
        return threading.current_thread()

    for here in (False, True, True):
        assert (await setting.glances.ask(slow) is threading.current_thread()) == here


async def test_a_glance_that_has_waited_for_the_interpreter_raises_no_doubt(setting: Setting) -> None:
    """Another thread that has it may be off the processor."""

    def slow(connection: sqlite3.Connection) -> threading.Thread:
        setting.now += 2 * SLOW_SECONDS
        setting.waits += 1
        return threading.current_thread()

    for here in (False, True, True):
        assert (await setting.glances.ask(slow) is threading.current_thread()) == here


async def test_who_waits_is_told_from_who_works() -> None:
    before = glances._waits_of_thread()
    sum(range(1000))
    worked = glances._waits_of_thread().in_all - before.in_all
    threading.Event().wait(0.001)
    assert glances._waits_of_thread().in_all - before.in_all > worked


async def test_who_reads_from_the_disk_is_told_from_who_reads_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        file.read()
        before = glances._waits_of_thread()
        file.seek(0)
        file.read()
        assert glances._waits_of_thread().for_reading == before.for_reading
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with suppress(BlockingIOError):
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            pytest.skip("this file system keeps everything in memory")
        file.seek(0)
        file.read()
        assert glances._waits_of_thread().for_reading > before.for_reading


async def test_a_lock_is_waited_for_in_a_thread(setting: Setting) -> None:
    def change(connection: sqlite3.Connection) -> threading.Thread:
        connection.execute("UPDATE fact SET value = 7")
        return threading.current_thread()

    await setting.glances.ask(change)
    assert await setting.glances.ask(change) is threading.current_thread()
    other = connect(setting.path, busy_seconds=0)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ManifestUnavailable, match="locked"):  # after the second for which a reader waits
        await setting.glances.ask(change)
    other.execute("COMMIT")
    other.close()
    assert await setting.glances.ask(change) is not threading.current_thread()
    assert await setting.glances.ask(change) is threading.current_thread()


async def test_a_database_that_fails_a_glance_is_asked_by_a_thread_which_tells(setting: Setting) -> None:
    await setting.is_here()
    whole = setting.path.read_bytes()
    setting.path.write_bytes(b"\xa5" * len(whole))
    await setting.readers.ask(forget_pages)  # SQLite 3.53 answers from what it has read before
    with pytest.raises(ManifestUnavailable, match="cannot be read"):
        await setting.is_here()
    setting.path.write_bytes(whole)
    assert [await setting.is_here() for _ in range(2)] == [False, True]
    assert setting.opened == 2


@pytest.mark.parametrize("fault", [sqlite3.OperationalError("unable to open database file"), ManifestUnavailable("another file")])
async def test_who_has_an_answer_loses_nothing_by_a_file_that_cannot_be_opened(setting: Setting, fault: Exception) -> None:
    setting.fault = fault
    assert [await setting.is_here() for _ in range(3)] == [False, False, False]
    assert setting.opened == 1, "it is tried once in a while"
    assert not setting.readers.trouble, "and the readers need not open theirs anew"
    setting.fault = None
    setting.now += DOUBT_SECONDS
    assert [await setting.is_here() for _ in range(2)] == [False, True]


async def test_many_first_questions_open_one_connection(setting: Setting) -> None:
    await asyncio.gather(*(setting.is_here(str(number)) for number in range(50)))
    assert setting.opened == 1


async def test_what_a_question_raises_is_raised_wherever_it_was_asked(setting: Setting) -> None:
    def failing(connection: sqlite3.Connection, absent: Callable[[], None]) -> None:
        absent()

    def absent() -> None:
        raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            await setting.glances.ask(failing, absent)


async def test_who_asks_in_a_loop_lets_others_have_a_turn(setting: Setting) -> None:
    await setting.is_here()
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "had")
    for _ in range(GLANCES_A_TURN):
        assert await setting.is_here()
    assert turns == ["had"]


def _is_here_at_once(setting: Setting, about: str = "a") -> bool:
    answered = setting.glances.ask_at_once(asked_in, about)
    assert answered in {None, threading.current_thread()}
    return answered is not None


async def test_who_cannot_wait_is_answered_what_needs_no_waiting(setting: Setting) -> None:
    assert not _is_here_at_once(setting)
    await setting.is_here()
    assert _is_here_at_once(setting)
    assert not _is_here_at_once(setting, "b"), "it may have to be read from the disk"
    setting.in_doubt = True
    assert not _is_here_at_once(setting)


async def test_a_glance_of_who_cannot_wait_raises_doubt_as_well(setting: Setting) -> None:
    await setting.is_here()

    def slow(connection: sqlite3.Connection, about: str) -> threading.Thread:
        setting.now += SLOW_SECONDS + 0.01
        setting.reads += 1
        return asked_in(connection, about)

    setting.glances._warm.add(hash((slow, ("a",))))
    assert setting.glances.ask_at_once(slow, "a") is not None
    assert not _is_here_at_once(setting)
    setting.now += DOUBT_SECONDS
    assert _is_here_at_once(setting)


async def test_who_cannot_wait_has_no_bound_of_questions(setting: Setting) -> None:
    await setting.is_here()
    assert all(_is_here_at_once(setting) for _ in range(2 * GLANCES_A_TURN))


class CountedHead(LogHead):
    """A log's head that is another each time it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> bytes | None:
        self.reads += 1
        return str(self.reads).encode()


async def test_the_head_of_the_log_is_read_once_for_all_that_is_answered_in_a_turn(setting: Setting) -> None:
    head = CountedHead()
    looking = Glances(setting.readers, setting._open, is_in_doubt=lambda: False, find_log=lambda: head)
    assert looking.log_head() is None, "no connection is open yet"
    await looking.ask(asked_in, "a")
    assert [looking.log_head() for _ in range(3)] == [b"1", b"1", b"1"]
    await asyncio.sleep(0)
    assert [looking.log_head() for _ in range(3)] == [b"2", b"2", b"2"]
    looking.close()
    assert looking.log_head() is None


async def test_what_came_for_the_next_turn_is_not_answered_by_the_head_of_this_one(setting: Setting) -> None:
    looking = Glances(setting.readers, setting._open, is_in_doubt=lambda: False, find_log=CountedHead)
    await looking.ask(asked_in, "a")
    seen = [looking.log_head()]
    asyncio.get_running_loop().call_soon(lambda: seen.append(looking.log_head()))
    await asyncio.sleep(0)
    assert seen == [b"1", b"2"]
    looking.close()
