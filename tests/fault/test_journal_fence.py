"""The journal tells a copy of the manifest that lacks a single change, and two manifests that write to the same stores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.codec.format import JOURNAL_PREFIX, CopyName
from proxy.config import Config
from proxy.engine.journal.checkpointing import request_checkpoint
from proxy.engine.journal.fence import Ahead, Seen, reason_to_stop
from proxy.errors import ManifestFenced
from proxy.manifest.journal import JournalPosition
from proxy.services import Services, open_services
from tests.fault.journal_child import KEPT, STEPS
from tests.fault.test_checkpoints import checkpoints, present, restored
from tests.laboratory import ROOT, Laboratory, laboratory, laboratory_config
from tests.snapshots import copy_of

NO_INTERVAL = replace(KEPT, keep_seconds=0.0)
OURS = JournalPosition(number=7, digest=b"d" * 32, whole=7, sequence=50, noted=60)


def ahead(number: int, *, previous: bytes = OURS.digest, sequence: int = 55, epoch: int = 3) -> Ahead:
    return Ahead(number=number, previous=previous, sequence=sequence, epoch=epoch)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Seen(), ""),
        (Seen(checkpoint=7), ""),
        (Seen(segments=(ahead(7, previous=b"other"),)), ""),  # one of ours, of an attempt before
        (Seen(segments=(ahead(8),)), ""),  # one of ours that is not recorded yet
        (Seen(segments=(ahead(8, sequence=60),)), ""),
        (Seen(segments=(ahead(8, sequence=61),)), "older copy: its journal is at segment 7, and the stores have segment 8"),
        (Seen(segments=(ahead(8, epoch=4),)), "older copy"),
        (Seen(segments=(ahead(8), ahead(9, previous=b"e"))), "older copy"),
        (Seen(segments=(ahead(8, previous=b"e"),)), "gone another way"),
        (Seen(segments=(ahead(8), ahead(8, previous=b"e"))), "gone another way"),
        (Seen(checkpoint=8), "older copy: its journal is at segment 7, and the stores have segment 8"),
        (Seen(checkpoint=9), "older copy"),
    ],
)
def test_why_a_manifest_must_not_be_written(seen: Seen, reason: str) -> None:
    found = reason_to_stop(OURS, seen, epoch=3)
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.fixture
async def old_copy(tmp_path: Path) -> Path:
    """Return an installation whose manifest was put back to where it was one change ago, in the same epoch."""
    async with laboratory(tmp_path, journal=KEPT) as lab:
        await lab.put("old", b"old")
        await lab.services.journal.flusher.flush()
        copy_of(tmp_path / "manifest.sqlite", tmp_path / "copy.sqlite")
        await lab.put("new", b"")
    put_back(tmp_path)
    return tmp_path


def put_back(data: Path) -> None:
    for name in ("manifest.sqlite", "manifest.sqlite-wal", "manifest.sqlite-shm"):
        (data / name).unlink(missing_ok=True)
    shutil.move(data / "copy.sqlite", data / "manifest.sqlite")


async def fence(lab: Laboratory) -> str:
    return (await lab.services.manifest.find_epoch()).fence


async def test_a_copy_that_lacks_one_change_is_noticed_at_the_start(old_copy: Path) -> None:
    async with laboratory(old_copy, journal=KEPT) as lab:
        assert "older copy: its journal is at segment" in await fence(lab)
        assert "shardgate recover --resume" in await fence(lab)
        assert await lab.get("old") == b"old"
        with pytest.raises(ManifestFenced):
            await lab.put("k", b"x")
        before = [name for held in lab.stores.values() async for name, _ in held.list("j/")]
        assert "older copy" in (await lab.worker("journal").step()).trouble
        assert before == [name for held in lab.stores.values() async for name, _ in held.list("j/")]


@pytest.mark.parametrize("absent", ["alder", "fir"])
async def test_it_is_noticed_though_a_store_hides_its_newest(old_copy: Path, absent: str) -> None:
    shutil.rmtree(old_copy / "stores" / absent / "j")
    async with laboratory(old_copy, journal=KEPT) as lab:
        assert "older copy" in await fence(lab)


async def test_it_is_noticed_when_a_checkpoint_has_taken_the_place_of_the_journal(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=NO_INTERVAL) as lab:
        copy_of(tmp_path / "manifest.sqlite", tmp_path / "copy.sqlite")
        for _ in range(2):
            await lab.put("new", b"")
            await request_checkpoint(lab.services.manifest)
            while not (await lab.worker("checkpoint").step()).idle:
                pass
            lab.clock.advance(1)
            await lab.worker("checkpoint").step()
        number = (await checkpoints(lab))[0].number
        assert not [name for held in lab.stores.values() async for name, _ in held.list("j/") if int(name.split("/")[2][:20]) < number]
    put_back(tmp_path)
    async with laboratory(tmp_path, journal=NO_INTERVAL) as lab:
        assert "older copy" in await fence(lab)


async def test_what_one_provider_makes_up_does_not_stop_the_service(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        position = await lab.services.manifest.journal_position()
        identity = (await lab.services.manifest.find_epoch()).identity
        held = lab.stores["alder"]
        (last,) = [name async for name, _ in held.list(f"j/{identity}/{position.number:020d}-")]
        whole = await held.get(last)
        for number in range(position.number + 1, position.number + 4):
            for index in range(6):
                await held.put(str(CopyName(JOURNAL_PREFIX, identity, number, b"s" * 16, index)), [whole])
        await held.put(f"c/{identity}/{position.number + 9:020d}-{'a' * 32}-00", [whole])
        lab.clock.advance(61)
        await lab.put("k", b"x")
        await lab.services.epoch.move()
        assert await fence(lab) == ""


@pytest.mark.parametrize("step", STEPS)
async def test_a_server_that_was_killed_while_it_stored_the_journal_is_no_copy(tmp_path: Path, step: str) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.fault.journal_child", str(tmp_path), step], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == -9, child.stderr
    async with laboratory(tmp_path, journal=KEPT) as lab:
        assert await fence(lab) == ""
        await lab.put("k", b"")


async def test_an_accepted_copy_begins_with_a_checkpoint(old_copy: Path) -> None:
    async with laboratory(old_copy, journal=KEPT) as lab:
        await lab.services.epoch.accept()
        await lab.put("k", b"")
        assert not (await lab.worker("checkpoint").step()).idle
        while not (await lab.worker("checkpoint").step()).idle:
            pass
        assert await restored(lab, (await checkpoints(lab))[-1]) == await present(lab.services.manifest)
    async with laboratory(old_copy, journal=KEPT) as lab:
        assert await fence(lab) == ""
        await lab.put("k", b"")


@asynccontextmanager
async def two_manifests(data: Path) -> AsyncIterator[tuple[Services, Services, ManualClock]]:
    """Two servers, each with a manifest of its own, one of which is a copy of the other's, and the same stores."""
    config = laboratory_config(data, journal=KEPT)
    clock = ManualClock()
    async with laboratory(data, journal=KEPT) as lab:
        await lab.put("old", b"")
    copy_of(data / "manifest.sqlite", data / "copy.sqlite")
    other: Config = replace(config, manifest=replace(config.manifest, path=str(data / "copy.sqlite")))
    async with open_services(config, clock=clock) as one, open_services(other, clock=clock) as two:
        yield one, two, clock


async def test_of_two_manifests_that_write_to_the_same_stores_one_stops(tmp_path: Path) -> None:
    """Neither has begun an epoch since they parted, so only their journals tell them apart."""
    async with two_manifests(tmp_path) as (one, two, clock):
        for number in range(3):
            await one.manifest.put_bucket_setting(1, "cors", str(number))
            await one.journal.flusher.stored()
        await two.manifest.put_bucket_setting(1, "cors", "two")
        clock.advance(61)
        with pytest.raises(ManifestFenced, match=r"another way|older copy"):
            await two.epoch.move()
        with pytest.raises(ManifestFenced):
            await two.manifest.put_bucket_setting(1, "cors", "x")
        with pytest.raises(ManifestFenced):
            await two.manifest.read_changes(limit_bytes=1)
        await one.epoch.move()
        await one.manifest.put_bucket_setting(1, "cors", "x")
        await one.journal.flusher.stored()


async def test_processes_of_one_manifest_do_not_take_each_other_for_a_copy(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as one, laboratory(tmp_path, journal=KEPT) as other:
        for number in range(5):
            await one.put_promptly(f"k{number}", b"")
            await other.put_promptly(f"l{number}", b"")
            assert await one.services.epoch.compare() == await other.services.epoch.compare() == ""
