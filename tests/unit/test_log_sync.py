"""The log is synced behind the commits: what is acknowledged, or acted on, survives a power cut. A sync that failed is never believed."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import ManifestUnavailable
from proxy.manifest.records import ExtentId
from proxy.manifest.sqlite import log_sync, open_sqlite
from proxy.manifest.sqlite.adapter import SqliteManifest
from proxy.manifest.sqlite.backup import back_up
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.log_sync import LogSync
from tests.deadlines import Deadlines
from tests.patience import PATIENCE_SECONDS
from tests.power_cut import Disk

pytestmark = pytest.mark.skipif(not log_sync.IS_TOLD, reason="elsewhere SQLite syncs within the commits")
EARLY_LISTS = {"list_objects", "list_uploads", "list_versions", "load_parts"}
GLANCES = {"find_caller", "find_kms_key", "find_role", "find_tenant", "find_readable", "find_upload", "find_version", "load_extents"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.sqlite"


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    return Deadlines(monkeypatch)


@pytest.fixture
def disk(path: Path, deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    assert deadlines, "a disk that hangs is waited for as long as a test says"
    made = Disk(path, monkeypatch)
    yield made
    made.let_go()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteManifest]:
    async with open_sqlite(path, ManualClock()) as manifest:
        assert isinstance(manifest, SqliteManifest)
        yield manifest


def log_of(manifest: SqliteManifest) -> int:
    assert manifest._log._log is not None
    return manifest._log._log


def stores_in(connection: sqlite3.Connection) -> set[str]:
    with closing(connection):
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT name FROM store")}


async def test_what_is_acknowledged_survives_a_power_cut(path: Path, disk: Disk, tmp_path: Path) -> None:
    chance, acknowledged = random.Random(7), set[str]()
    async with opened(path) as one, opened(path) as two:
        for number in range(12):
            await (one, two)[number % 2].know_stores([f"s{number}"])
            acknowledged.add(f"s{number}")
            assert stores_in(disk.after_power_cut(tmp_path / f"cut{number}", chance)) == acknowledged


async def test_what_others_see_early_may_be_gone_and_nothing_before_it(path: Path, disk: Disk, tmp_path: Path) -> None:
    async with opened(path) as one:
        await one.know_stores(["a"])
        disk.hanging.add(log_of(one))
        change = asyncio.create_task(one.know_stores(["b"]))
        await asyncio.to_thread(disk.hung.wait, PATIENCE_SECONDS)
        with closing(connect(path, busy_seconds=1)) as other:
            assert {row[0] for row in other.execute("SELECT name FROM store")} == {"a", "b"}, "it holds up no reader"
            other.execute("BEGIN IMMEDIATE")  # nor a writer
            other.execute("ROLLBACK")
        assert not change.done()
        assert stores_in(disk.after_power_cut(tmp_path / "cut", random.Random(1))) == {"a"}
        disk.let_go()
        await change


async def test_a_question_is_answered_when_what_it_found_is_on_the_disk(path: Path, disk: Disk, tmp_path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        await one.know_stores(["a"])
        assert await two.known_stores() == {"a"}
        disk.hanging.add(log_of(one))
        change = asyncio.create_task(one.know_stores(["b"]))
        await asyncio.to_thread(disk.hung.wait, PATIENCE_SECONDS)
        assert await two.known_stores() == {"a", "b"}
        assert stores_in(disk.after_power_cut(tmp_path / "cut", random.Random(2))) == {"a", "b"}
        disk.let_go()
        await change


async def test_a_question_waits_for_no_sync_if_nothing_was_committed_since_the_last(path: Path, disk: Disk) -> None:
    async with opened(path) as one, opened(path) as two:
        await one.know_stores(["a"])
        await one.known_stores()
        await two.known_stores()
        before = disk.syncs
        for _ in range(3):
            await one.known_stores()
            await two.walk_extents(after=ExtentId(0), limit=1)
        assert disk.syncs == before
        await one.know_stores(["b"])
        await one.known_stores()
        assert disk.syncs == before + 1, "its own commit has been synced"
        await two.known_stores()
        assert disk.syncs == before + 2


async def test_what_is_committed_while_a_sync_is_under_way_is_not_covered_by_it(path: Path, disk: Disk, tmp_path: Path) -> None:
    async with opened(path) as one:
        await one.know_stores(["a"])
        await one.known_stores()
        with closing(connect(path, busy_seconds=1)) as other:
            other.execute("PRAGMA synchronous = NORMAL")
            disk.meanwhile = lambda: other.execute("INSERT INTO store VALUES ('c')")
            await one.know_stores(["b"])
            assert await one.known_stores() == {"a", "b", "c"}
            assert stores_in(disk.after_power_cut(tmp_path / "cut", random.Random(4))) == {"a", "b", "c"}


async def test_a_change_that_found_nothing_to_do_is_answered_when_what_it_found_is_on_the_disk(
    path: Path, disk: Disk, tmp_path: Path
) -> None:
    async with opened(path) as one, opened(path) as two:
        await two.know_stores(["a"])
        await one.know_stores(["b"])
        disk.hanging.add(log_of(one))
        change = asyncio.create_task(one.know_stores(["c"]))
        await asyncio.to_thread(disk.hung.wait, PATIENCE_SECONDS)
        await two.know_stores(["c"])
        assert stores_in(disk.after_power_cut(tmp_path / "cut", random.Random(3))) == {"a", "b", "c"}
        disk.let_go()
        await change


async def test_a_sync_that_a_question_waits_for_too_long_is_told_as_trouble(path: Path, disk: Disk, deadlines: Deadlines) -> None:
    async with opened(path) as one, opened(path) as two:
        await one.known_stores()
        await two.know_stores(["a"])
        disk.hanging.add(log_of(one))
        question = asyncio.create_task(one.known_stores())
        await asyncio.to_thread(disk.hung.wait, PATIENCE_SECONDS)
        assert not one.trouble
        deadlines.pass_for(one._syncs)
        assert one.trouble == "the manifest does not answer"
        with pytest.raises(ManifestUnavailable):
            await question
        deadlines.begin_anew()
        disk.let_go()


async def test_a_log_that_begins_anew_is_synced_as_well(path: Path, disk: Disk, tmp_path: Path) -> None:
    async with opened(path) as one:
        for number in range(9):
            await one.know_stores([f"s{number}"])
            if number % 3 == 2:
                with closing(connect(path, busy_seconds=1)) as other:
                    assert other.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
                disk.log = os.pread(log_of(one), 1 << 20, 0)  # SQLite has synced it, and the database
            assert stores_in(disk.after_power_cut(tmp_path / f"cut{number}", random.Random(number))) == {
                f"s{known}" for known in range(number + 1)
            }


async def test_a_log_that_was_removed_with_its_last_connection_is_not_taken_for_the_new_one(path: Path, disk: Disk) -> None:
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE fact (value)")
    log = LogSync(path)
    for _ in range(2):
        with closing(connect(path, busy_seconds=1)) as connection:
            log.open(connection)
            connection.execute("INSERT INTO fact VALUES (1)")
            log.settle()
            assert disk.log == path.with_name("m.sqlite-wal").read_bytes()
    log.close()


async def refused(*changes: Callable[[], object]) -> None:
    for change in changes:
        with pytest.raises(ManifestUnavailable, match=r"could not be synced.*start the machine again"):
            await change()  # type: ignore[misc]  # each returns what is awaited


async def test_after_a_sync_that_failed_nobody_acknowledges_anything_though_the_next_would_succeed(path: Path, disk: Disk) -> None:
    async with opened(path) as one, opened(path) as two:
        await one.know_stores(["a"])
        await two.know_stores(["b"])
        disk.fails = True
        await refused(lambda: one.know_stores(["c"]))
        disk.fails = False
        assert "start the machine again" in one.trouble
        await refused(lambda: one.know_stores(["d"]), lambda: two.know_stores(["e"]), one.known_stores, two.known_stores)
        with pytest.raises(ManifestUnavailable, match="start the machine again"):
            async with opened(path):
                pass
        with pytest.raises(ManifestUnavailable, match="start the machine again"):
            back_up(path, path.with_name("backup"))
        assert not path.with_name("backup").exists()


async def test_a_process_that_cannot_mark_a_failure_stops_nevertheless(path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sync, "_mark_file", lambda database: database.with_name("nowhere") / "mark")
    async with opened(path) as one:
        await one.know_stores(["a"])
        disk.fails = True
        await refused(lambda: one.know_stores(["b"]))
        disk.fails = False
        await refused(lambda: one.know_stores(["c"]), one.known_stores)


async def test_a_failure_that_a_reader_was_told_of_is_not_lost_to_the_writer(path: Path, disk: Disk) -> None:
    async with opened(path) as one, opened(path) as two:
        await one.know_stores(["a"])
        await two.know_stores(["b"])
        disk.fails = True
        await refused(one.known_stores)
        disk.fails = False
        await refused(lambda: one.know_stores(["c"]))


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda mark: mark.symlink_to(mark)])
async def test_a_mark_that_cannot_be_read_is_not_taken_for_none(path: Path, disk: Disk, spoil: Callable[[Path], None]) -> None:
    async with opened(path) as one:
        await one.know_stores(["a"])
        spoil(path.with_name("m.sqlite-unsynced"))
        for asked in (lambda: one.know_stores(["b"]), one.known_stores):
            with pytest.raises(ManifestUnavailable, match="-unsynced cannot be read"):
                await asked()
        with pytest.raises(ManifestUnavailable, match="-unsynced cannot be read"):
            async with opened(path):
                pass


async def test_once_the_machine_has_been_started_again_a_failure_is_over(
    path: Path, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as one:
        await one.know_stores(["a"])
        disk.fails = True
        await refused(lambda: one.know_stores(["b"]))
    disk.fails = False
    (tmp_path / "boot").write_text("another start\n")
    monkeypatch.setattr(log_sync, "_BOOT_ID", tmp_path / "boot")
    async with opened(path) as one:
        await one.know_stores(["c"])
        assert {"a", "c"} <= await one.known_stores()


async def test_a_backup_holds_only_what_is_on_the_disk(path: Path, disk: Disk) -> None:
    async with opened(path) as one:
        await one.know_stores(["a"])
        disk.hanging.add(log_of(one))
        change = asyncio.create_task(one.know_stores(["b"]))
        await asyncio.to_thread(disk.hung.wait, PATIENCE_SECONDS)
        before = disk.syncs
        await asyncio.to_thread(back_up, path, path.with_name("backup"))
        assert disk.syncs > before
        disk.let_go()
        await change
    with closing(sqlite3.connect(path.with_name("backup"))) as copy:
        assert copy.execute("SELECT count(*) FROM store").fetchone() == (2,)


def test_only_what_serves_clients_is_read_before_it_is_on_the_disk() -> None:
    """Whoever adds a name here has looked at all who ask for it: they act by a change of the manifest, or not at all."""
    verbs = {name: verb for name in dir(SqliteManifest) if callable(verb := getattr(SqliteManifest, name)) and hasattr(verb, "__code__")}
    assert {name for name, verb in verbs.items() if "_glance" in verb.__code__.co_names} - {"__init__"} == GLANCES
    assert {name for name, verb in verbs.items() if "_list_early" in verb.__code__.co_names} == EARLY_LISTS
    asking = {name for name, verb in verbs.items() if {"_points", "_listings", "_glances", "_syncs"} & set(verb.__code__.co_names)}
    assert asking == {"__init__", "close", "find_caller", "recall_caller", "_is_in_doubt", "_read", "_list", "_list_early", "_settle"}
