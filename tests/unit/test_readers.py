"""Questions to the SQLite manifest are answered off the event loop, and nobody waits for a disk that hangs."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from proxy.errors import ManifestUnavailable
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.readers import Readers
from tests.deadlines import Deadlines
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "m.sqlite") as connection:
        connection.execute("CREATE TABLE fact AS SELECT 7 AS value")
    return tmp_path / "m.sqlite"


@pytest.fixture
async def readers(path: Path) -> AsyncIterator[Readers]:
    running = Readers(partial(connect, path, busy_seconds=1), count=1, name="read", timeout_seconds=60)
    yield running
    await running.close()


def fact(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT value FROM fact").fetchone()[0])


async def test_questions_are_answered_in_another_thread(readers: Readers) -> None:
    assert await asyncio.gather(*(readers.ask(fact) for _ in range(100))) == [7] * 100
    assert await readers.ask(lambda _: threading.current_thread()) is not threading.current_thread()


async def test_a_question_past_its_deadline_fails_and_so_do_others_until_it_is_answered(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines, taken_up, thawed = Deadlines(monkeypatch), threading.Event(), threading.Event()
    assert await readers.ask(fact) == 7
    question = asyncio.create_task(readers.ask(lambda _: taken_up.set() or thawed.wait()))
    await asyncio.to_thread(taken_up.wait)
    assert readers.trouble == ""
    deadlines.pass_for(readers)
    with pytest.raises(ManifestUnavailable, match="not answered within"):
        await question
    assert readers.trouble == "the manifest does not answer"
    with pytest.raises(ManifestUnavailable, match="does not answer"):
        await readers.ask(fact)
    thawed.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while readers.trouble:
            await asyncio.sleep(0.001)
    deadlines.begin_anew()
    assert await readers.ask(fact) == 7


async def test_a_database_that_fails_questions_is_in_trouble_until_it_answers_one(readers: Readers, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(b"\xa5" * len(whole))
    with pytest.raises(ManifestUnavailable):
        await readers.ask(fact)
    assert readers.trouble.startswith("the manifest cannot be read: file is not a database")
    path.write_bytes(whole)
    assert await readers.ask(fact) == 7
    assert not readers.trouble


async def test_a_question_the_database_fails_is_told_and_the_next_has_another_connection(readers: Readers) -> None:
    first = await readers.ask(lambda connection: connection)
    with pytest.raises(ManifestUnavailable, match="cannot be read: no such table"):
        await readers.ask(lambda connection: connection.execute("SELECT * FROM absent").fetchall())
    assert await readers.ask(lambda connection: connection) is not first
    assert await readers.ask(fact) == 7


async def test_questions_after_the_end_fail(path: Path) -> None:
    readers = Readers(partial(connect, path, busy_seconds=1), count=2, name="read", timeout_seconds=60)
    assert await readers.ask(fact) == 7
    connection = await readers.ask(lambda connection: connection)
    await readers.close()
    with pytest.raises(ManifestUnavailable, match="closed"):
        await readers.ask(fact)
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


async def test_a_question_for_which_there_is_no_thread_fails(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(ManifestUnavailable, match="thread"):
            await readers.ask(fact)
    assert await readers.ask(fact) == 7
