"""Room in the manifest's log: made once, by a writer that is busy, and of no consequence for what is in the manifest."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import ManifestUnavailable, NoRoom
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite import log_room, open_sqlite
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.group_commit import BUSY_GROUPS
from proxy.manifest.sqlite.log_room import LOG_BYTES, STEP, make_room


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "m.sqlite"


@pytest.fixture(autouse=True)
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_room, "LOG_BYTES", LOG_BYTES // 8)


STEPS = LOG_BYTES // 8 // len(STEP)


def log_bytes(database: Path) -> int:
    return database.with_name(f"{database.name}-wal").stat().st_size


async def change(manifest: Manifest, times: int) -> None:
    for number in range(times):
        await manifest.know_stores([f"s{number}"])


async def test_a_busy_writer_makes_room_step_by_step_and_once(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_sqlite(database, ManualClock()) as manifest:
        await change(manifest, BUSY_GROUPS)
        await change(manifest, 1)  # behind the first step
        assert log_bytes(database) < log_room.LOG_BYTES
        await change(manifest, STEPS)
        assert log_bytes(database) >= log_room.LOG_BYTES
        monkeypatch.setattr(log_room, "LOG_BYTES", 2 * log_room.LOG_BYTES)
        await change(manifest, 2 * BUSY_GROUPS)
        assert log_bytes(database) < log_room.LOG_BYTES
        assert len(await manifest.known_stores()) == 2 * BUSY_GROUPS


async def test_a_busy_writer_makes_room_where_the_path_is_a_link(database: Path, tmp_path: Path) -> None:
    async with open_sqlite(database, ManualClock()):
        link = tmp_path / "folder/link.sqlite"
        link.parent.mkdir()
        link.symlink_to(database)
    async with open_sqlite(link, ManualClock()) as manifest:
        await change(manifest, BUSY_GROUPS + STEPS)
        assert log_bytes(database) >= log_room.LOG_BYTES


async def test_the_log_of_a_database_that_has_taken_the_place_is_left_alone(database: Path) -> None:
    async with open_sqlite(database, ManualClock()) as manifest:
        await change(manifest, 1)
        for ending in ("", "-wal", "-shm"):
            database.with_name(f"m.sqlite{ending}").rename(database.with_name(f"moved.sqlite{ending}"))
        with closing(opened(database)) as another:
            another.execute("INSERT INTO fact VALUES (1)")
            length = log_bytes(database)
            writer = manifest._committer
            with pytest.raises(ManifestUnavailable, match="another file"):
                writer._make_room(writer._opened())
            assert log_bytes(database) == length


async def test_one_that_writes_little_makes_none(database: Path) -> None:
    async with open_sqlite(database, ManualClock()) as manifest:
        await change(manifest, 3)
        assert log_bytes(database) < log_room.LOG_BYTES // 2


async def test_without_room_on_the_disk_the_log_grows_as_it_is_written(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise NoRoom(f"{folder} is nearly full")

    monkeypatch.setattr(log_room, "require_room", full)
    async with open_sqlite(database, ManualClock()) as manifest:
        await change(manifest, 2 * BUSY_GROUPS)
        assert log_bytes(database) < log_room.LOG_BYTES
        assert len(await manifest.known_stores()) == 2 * BUSY_GROUPS


def opened(database: Path) -> sqlite3.Connection:
    database.touch()
    connection = connect(database, busy_seconds=1)
    connection.execute("CREATE TABLE IF NOT EXISTS fact (value INTEGER)")
    return connection


def test_a_log_that_is_long_enough_is_left_alone(database: Path) -> None:
    with closing(opened(database)) as connection:
        while not make_room(connection, database):
            pass
        length = log_bytes(database)
        assert make_room(connection, database)
        assert log_bytes(database) == length


def test_what_a_crash_leaves_of_it_is_no_change(database: Path, tmp_path: Path) -> None:
    with closing(opened(database)) as connection:
        connection.execute("INSERT INTO fact VALUES (1)")
        while not make_room(connection, database):
            connection.execute("INSERT INTO fact VALUES (2)")
        left = tmp_path / "left.sqlite"  # what a process that is killed leaves: the index is made anew
        for ending in ("", "-wal"):
            left.with_name(f"left.sqlite{ending}").write_bytes(database.with_name(f"m.sqlite{ending}").read_bytes())
    with closing(opened(left)) as connection:
        assert connection.execute("SELECT DISTINCT value FROM fact").fetchall() == [(1,), (2,)]
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("fact",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_step_that_fails_leaves_no_transaction_behind(database: Path) -> None:
    with closing(opened(database)) as connection, closing(opened(database)) as other:
        connection.execute("INSERT INTO fact VALUES (1)")
        log = database.with_name(f"{database.name}-wal")
        log.rename(log.with_suffix(".away"))
        with pytest.raises(FileNotFoundError):
            make_room(connection, database)
        log.with_suffix(".away").rename(log)
        assert not connection.in_transaction
        other.execute("INSERT INTO fact VALUES (1)")


def test_nobody_writes_to_the_log_while_it_grows(database: Path) -> None:
    with closing(opened(database)) as connection, closing(opened(database)) as other:
        other.execute("PRAGMA busy_timeout = 0")
        connection.execute("INSERT INTO fact VALUES (1)")
        other.execute("BEGIN IMMEDIATE")
        length = log_bytes(database)
        connection.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            make_room(connection, database)
        assert log_bytes(database) == length
        other.execute("ROLLBACK")
