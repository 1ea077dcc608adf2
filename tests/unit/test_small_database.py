"""A small database is read through by those who ask, and is in memory from then on for a while."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.manifest.sqlite import small_database
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.small_database import WARM_SECONDS, SmallDatabase


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small(tmp_path: Path, clock: Clock) -> Iterator[SmallDatabase]:
    with closing(sqlite3.connect(tmp_path / "m.sqlite")) as made, made:
        made.execute("CREATE TABLE fact AS SELECT zeroblob(1000000) AS value")
    with closing(connect(tmp_path / "m.sqlite", busy_seconds=1)) as connection:
        connection.execute("SELECT value FROM fact").fetchone()
        yield SmallDatabase(tmp_path / "m.sqlite", now=clock)


def test_it_is_in_memory_once_it_was_read_and_for_so_long(small: SmallDatabase, clock: Clock) -> None:
    assert not small.is_in_memory(clock.now)
    small.read_on()
    assert small.is_in_memory(clock.now + WARM_SECONDS - 1)
    clock.now += WARM_SECONDS
    assert not small.is_in_memory(clock.now)
    small.read_on()
    assert small.is_in_memory(clock.now)


def test_each_who_asks_reads_a_piece(small: SmallDatabase, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_database, "READ_ON_SIZE", 300_000)
    monkeypatch.setattr(small_database, "_PIECE_SIZE", 100_000)
    seen = []
    for _ in range(4):
        small.read_on()
        seen.append(small.is_in_memory(clock.now))
        clock.now += 1
    assert seen == [False, False, False, True]
    assert small.is_in_memory(1000.0 + WARM_SECONDS - 1)
    assert not small.is_in_memory(1000.0 + WARM_SECONDS), "the first piece was read then"


def test_a_large_one_is_not_read(small: SmallDatabase, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_database, "SMALL_SIZE", 500_000)
    for _ in range(3):
        small.read_on()
    assert not small.is_in_memory(clock.now)


def test_nobody_looks_through_all_open_files_for_a_large_one(small: SmallDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each question that is asked in a thread, and thousands of clients connected, that would be most of the time."""
    monkeypatch.setattr(small_database, "SMALL_SIZE", 500_000)
    looked = []
    monkeypatch.setattr(small_database, "find_descriptor", looked.append)
    small.read_on()
    assert looked == []


def test_it_is_opened_by_nobody_else_than_sqlite(small: SmallDatabase) -> None:
    """To close it again would drop all locks."""
    before = sorted(os.listdir("/proc/self/fd"))
    small.read_on()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_one_that_nobody_has_open_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    with closing(sqlite3.connect(tmp_path / "m.sqlite")) as made, made:
        made.execute("CREATE TABLE fact AS SELECT 7 AS value")
    small = SmallDatabase(tmp_path / "m.sqlite", now=clock)
    small.read_on()
    assert not small.is_in_memory(clock.now)
    gone = SmallDatabase(tmp_path / "gone", now=clock)
    gone.read_on()
    assert not gone.is_in_memory(clock.now)
