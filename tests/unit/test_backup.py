"""A backup of the manifest holds all that was committed, is one private file, and is verified."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import ConfigError, ManifestUnavailable
from proxy.manifest.records import Tenant
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.backup import back_up


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "m.sqlite"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backup").mkdir()
    return tmp_path / "backup" / "copy.sqlite"


def tenant(name: str) -> Tenant:
    return Tenant(
        id=name, name=name, canonical_id=name, account_id=name, display_name=name, root_key_id="r", wrapped_key=b"w", created_ms=0
    )


async def names(path: Path) -> list[str]:
    async with open_sqlite(path, ManualClock()) as manifest:
        return [found.name for found in await manifest.list_tenants()]


async def fill(path: Path, *tenants: str) -> None:
    async with open_sqlite(path, ManualClock()) as manifest:
        for name in tenants:
            await manifest.add_tenant(tenant(name))


async def test_a_backup_beside_a_running_server_holds_what_is_still_in_the_log(path: Path, target: Path) -> None:
    async with open_sqlite(path, ManualClock()) as manifest:
        await manifest.add_tenant(tenant("a"))
        assert path.with_name("m.sqlite-wal").stat().st_size > 0
        size = await asyncio.to_thread(back_up, path, target)
        await manifest.add_tenant(tenant("later"))
    assert size == target.stat().st_size
    assert list(target.parent.iterdir()) == [target], "one file, and nothing beside it"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert await names(target) == ["a"]


async def test_a_backup_is_of_one_instant_whoever_writes_meanwhile(path: Path, target: Path) -> None:
    async with open_sqlite(path, ManualClock()) as manifest:
        await manifest.add_tenant(tenant("0"))
        copying = asyncio.create_task(asyncio.to_thread(back_up, path, target))
        written = 1
        while not copying.done():
            await manifest.add_tenant(tenant(str(written)))
            written += 1
        await copying
    assert sorted(await names(target), key=int) == [str(number) for number in range(len(await names(target)))]


async def test_a_file_that_is_there_is_kept_unless_it_is_to_be_replaced(path: Path, target: Path) -> None:
    await fill(path, "a")
    target.write_text("of somebody's")
    with pytest.raises(ConfigError, match="--force"):
        back_up(path, target)
    assert target.read_text() == "of somebody's"
    back_up(path, target, replace=True)
    assert await names(target) == ["a"]


async def test_what_a_killed_backup_left_goes_a_day_later_and_nothing_else(path: Path, target: Path) -> None:
    await fill(path, "a")
    left, journal = (target.with_name(f".copy.sqlite.{'0a' * 8}{suffix}") for suffix in ("", "-journal"))
    others = [target.with_name(name) for name in (f".copy.sqlite.{'0b' * 8}", ".copy.sqlite.old", f"copy.sqlite.{'0a' * 8}", "copy.sqlite")]
    for file in (left, journal, *others):
        file.touch()
        os.utime(file, (0, 0))
    os.utime(others[0])  # somebody may work on it
    back_up(path, target, replace=True)
    assert sorted(target.parent.iterdir()) == sorted(others)


async def test_the_manifest_itself_and_a_database_in_use_are_never_replaced(path: Path, target: Path) -> None:
    await fill(path, "a")
    with pytest.raises(ConfigError, match="the manifest itself"):
        back_up(path, path, replace=True)
    async with open_sqlite(target, ManualClock()) as manifest:
        await manifest.add_tenant(tenant("in use"))
        with pytest.raises(ConfigError, match="in use"):
            back_up(path, target, replace=True)


async def test_of_a_damaged_manifest_no_backup_is_made(path: Path, target: Path) -> None:
    await fill(path, *(f"{number:0100}" for number in range(200)))
    data = bytearray(path.read_bytes())
    data[5 * 4096 : 6 * 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    with pytest.raises(ManifestUnavailable, match="no backup was made"):
        back_up(path, target)
    assert list(target.parent.iterdir()) == []


async def test_what_is_no_manifest_is_not_backed_up(path: Path, target: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        back_up(path, target)
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE other (a)")
    with pytest.raises(ConfigError, match="not a manifest"):
        back_up(path, target)
    assert list(target.parent.iterdir()) == []


async def test_a_folder_is_no_place_for_a_backup_and_none_is_made(path: Path, target: Path) -> None:
    async with open_sqlite(path, ManualClock()):
        with pytest.raises(ConfigError, match=r"is a folder: name a file in it, such as .*/backup/manifest\.sqlite"):
            back_up(path, target.parent, replace=True)
        with pytest.raises(ConfigError, match="missing is no folder: make it first"):
            back_up(path, target.parent / "missing" / "copy.sqlite")
    assert list(target.parent.iterdir()) == []
