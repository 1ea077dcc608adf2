"""Opening the SQLite manifest: what is wrong with the file is told with its path and the remedy."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import ConfigError, ManifestUnavailable
from proxy.manifest.records import Bucket, BucketName, Tenant, TenantId
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.adapter import SqliteManifest
from proxy.manifest.sqlite.backup import back_up
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.schema import probe_writing
from tests.deadlines import Deadlines
from tests.servers import ROOT

IMPATIENT = 1.0  # seconds, of which SQLite waits four fifths for a lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder ?#%" / "m.sqlite"


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any answer may be late: who is refused is told why, and never that it takes too long."""
    Deadlines(monkeypatch)


async def make(path: Path) -> None:
    async with open_sqlite(path, ManualClock(0), timeout_seconds=IMPATIENT) as manifest:
        await manifest.add_tenant(
            Tenant(id="t", name="t", canonical_id="c", account_id="1", display_name="t", root_key_id="r", wrapped_key=b"w", created_ms=0)
        )
        await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=0))


def a_folder(path: Path) -> None:
    path.mkdir(parents=True)


def in_a_file(path: Path) -> None:
    path.parent.write_text("x")


def other_content(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("no database " * 1000)


@pytest.mark.parametrize("spoil", [a_folder, in_a_file, other_content])
async def test_a_file_that_cannot_be_used_is_told_with_its_path(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    with pytest.raises(ConfigError, match=r"manifest\.path: .*m\.sqlite"):
        await make(path)


async def test_one_written_by_a_newer_version_is_refused(path: Path) -> None:
    await make(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="schema 99"):
        await make(path)


async def test_one_written_in_an_older_layout_is_refused(path: Path) -> None:
    await make(path)
    async with open_sqlite(path, ManualClock(0)) as manifest:
        assert len(await manifest.list_tenants()) == 1
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA application_id = 0")
    with pytest.raises(ConfigError, match="before the first release, in a layout that is no longer used"):
        await make(path)


async def test_a_connection_makes_no_file(path: Path) -> None:
    path.parent.mkdir()
    with pytest.raises((sqlite3.OperationalError, OSError)):
        connect(path, busy_seconds=1)
    assert not path.exists()


async def test_a_commit_is_on_disk_before_it_is_acknowledged(path: Path) -> None:
    """In WAL mode only FULL syncs the log at each commit: https://www.sqlite.org/pragma.html#pragma_synchronous"""
    await make(path)
    with closing(connect(path, busy_seconds=1)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
async def test_changes_and_questions_for_little_map_nothing_of_the_file(path: Path) -> None:
    """SQLite would map it anew after each commit of another connection."""
    async with open_sqlite(path, ManualClock(0), timeout_seconds=IMPATIENT) as manifest:
        await make(path)
        for name in ("x", "y", "z"):  # the first question is asked in a thread, and those behind it on the event loop
            assert (await manifest.find_caller(None, BucketName("b"))).bucket is not None
            await manifest.create_bucket(Bucket(name=BucketName(name), tenant_id=TenantId("t"), policy="p", created_ms=0))
        mapped = [line.split(maxsplit=5)[5] for line in Path("/proc/self/maps").read_text().splitlines() if "m.sqlite" in line]
    assert set(mapped) <= {f"{path}-shm"}


async def test_a_locked_manifest_opens_and_is_read_and_only_writes_fail(path: Path) -> None:
    await make(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with open_sqlite(path, ManualClock(0), timeout_seconds=IMPATIENT) as manifest:
            bucket = await manifest.find_bucket("b")
            assert bucket is not None
            with pytest.raises(ManifestUnavailable, match="locked"):
                await manifest.set_versioning(bucket.id, "Enabled")
            other.execute("ROLLBACK")
            await manifest.set_versioning(bucket.id, "Enabled")


async def test_a_locked_manifest_that_is_not_yet_made_is_unavailable(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ManifestUnavailable, match="locked: close whatever"):
            await make(path)


async def test_a_manifest_that_is_gone_does_not_come_back_empty(path: Path) -> None:
    await make(path)
    async with open_sqlite(path, ManualClock(0), timeout_seconds=IMPATIENT) as manifest:
        for file in path.parent.iterdir():
            file.unlink()
        for _ in range(2):
            with pytest.raises(ManifestUnavailable):
                await manifest.list_objects(1, prefix="", delimiter="", after="", limit=1)
            with pytest.raises(ManifestUnavailable):
                await manifest.set_versioning(1, "Enabled")
        assert manifest.trouble
    assert list(path.parent.iterdir()) == []


async def test_a_probe_fails_where_other_writes_would_and_leaves_nothing(path: Path) -> None:
    await make(path)
    with closing(connect(path, busy_seconds=1)) as connection:
        probe_writing(connection)
        assert connection.execute("SELECT count(*) FROM probe").fetchone() == (0,)
        connection.execute("VACUUM")
        connection.execute("PRAGMA max_page_count = 1")  # as small as it is
        with pytest.raises(sqlite3.OperationalError, match="full"):
            probe_writing(connection)


async def test_a_full_disk_makes_the_manifest_unhealthy_until_there_is_room(path: Path) -> None:
    async with open_sqlite(path, ManualClock(0)) as manifest:
        assert isinstance(manifest, SqliteManifest)
        await manifest._write(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(ManifestUnavailable, match="full"):
            await manifest.know_stores("x" * 5000 + str(number) for number in range(100))
        assert "full" in manifest.trouble
        assert await manifest.known_stores() == frozenset(), "reads go on"
        await manifest.know_stores(["a"])  # by a connection opened anew, which has no limit
        assert not manifest.trouble


async def test_a_damaged_file_makes_the_manifest_unhealthy(path: Path) -> None:
    await make(path)
    async with open_sqlite(path, ManualClock(0)) as manifest:
        with path.open("r+b") as file:
            file.write(b"\xa5" * path.stat().st_size)
        with pytest.raises(ManifestUnavailable):
            await manifest.know_stores(["a"])
        assert manifest.trouble


async def test_nothing_is_acknowledged_into_a_file_that_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    async with open_sqlite(path, ManualClock()) as manifest:
        await manifest.know_stores(["a"])
        away = path.rename(tmp_path / "away")
        with pytest.raises(ManifestUnavailable):
            await manifest.know_stores(["b"])
        assert manifest.trouble
        path.touch()
        with pytest.raises(ManifestUnavailable, match="another file"):
            await manifest.know_stores(["b"])
        away.rename(path)
        await manifest.know_stores(["c"])
        assert not manifest.trouble
        assert await manifest.known_stores() == {"a", "c"}


async def test_what_was_put_in_the_place_of_the_manifest_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    await make(path)
    older = path.with_name("older")
    older.write_bytes(path.read_bytes())
    async with open_sqlite(path, ManualClock(), timeout_seconds=IMPATIENT) as manifest:
        bucket = await manifest.create_bucket(Bucket(name="newer", tenant_id="t", policy="p", created_ms=0))
        path.rename(path.with_name("newer"))
        older.rename(path)
        for _ in range(3):  # nobody has asked the threads for listings before, so they connect now
            with pytest.raises(ManifestUnavailable, match="another file"):
                await manifest.list_objects(bucket.id, prefix="", delimiter="", after="", limit=1)
        assert path.with_name("manifest-wal").stat().st_size > 0, "the newer manifest's log is left to it"


async def test_a_backup_beside_the_log_of_what_was_there_before_is_refused_until_that_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    await make(path)
    back_up(path, tmp_path / "backup")
    async with open_sqlite(path, ManualClock(), timeout_seconds=IMPATIENT) as manifest:
        await manifest.create_bucket(Bucket(name="newer", tenant_id="t", policy="p", created_ms=0))
        log = path.with_name("manifest-wal").read_bytes()
    path.with_name("manifest-wal").write_bytes(log)  # as a server that was killed leaves it
    path.write_bytes((tmp_path / "backup").read_bytes())
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"manifest is a backup, and .*manifest-wal beside it belongs to .* remove manifest-wal and"):
            async with open_sqlite(path, ManualClock()):
                pass
    assert path.read_bytes() == (tmp_path / "backup").read_bytes()
    path.with_name("manifest-wal").unlink()
    async with open_sqlite(path, ManualClock()) as manifest:
        assert [bucket.name for bucket in await manifest.list_buckets("t")] == ["b"]
    async with open_sqlite(path, ManualClock()) as manifest:
        await manifest.know_stores(["a"])


OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from proxy.clock import ManualClock
from proxy.manifest.sqlite import open_sqlite

async def main():
    async with open_sqlite(Path(sys.argv[1]), ManualClock()) as manifest:
        await manifest.know_stores(sys.argv[2:])
        print(*sorted(await manifest.known_stores()))

asyncio.run(main())
"""


async def test_what_is_committed_is_there_for_all_after_another_process_came_and_went(tmp_path: Path) -> None:
    path = tmp_path / "manifest"

    def other(*known: str) -> list[str]:
        command = [sys.executable, "-c", OTHER_PROCESS, str(path), *known]
        return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split()

    async with open_sqlite(path, ManualClock()) as manifest:
        await manifest.know_stores(["a"])
        assert await manifest.list_objects(1, prefix="", delimiter="", after="", limit=1)  # by a connection made only now
        assert await asyncio.to_thread(other, "b") == ["a", "b"]
        await manifest.know_stores(["c"])
        assert await manifest.known_stores() == {"a", "b", "c"}
        assert await asyncio.to_thread(other) == ["a", "b", "c"]


async def test_nothing_is_acknowledged_if_the_file_is_moved_away_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    async with open_sqlite(path, ManualClock()) as manifest:
        assert isinstance(manifest, SqliteManifest)
        for put_back in (True, False):

            def move_away(connection: sqlite3.Connection) -> None:
                del connection
                path.rename(tmp_path / "away")

            with pytest.raises(ManifestUnavailable, match="cannot be found"):
                await asyncio.gather(manifest.know_stores(["a"]), manifest._write(move_away))
            if put_back:
                (tmp_path / "away").rename(path)
