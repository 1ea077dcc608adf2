"""A manifest that hangs holds up nobody past the deadline, and nothing is lost, or deleted, by what becomes of a write it had begun."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from proxy.errors import ManifestUnavailable
from proxy.manifest.records import ObjectKey
from proxy.manifest.sqlite.adapter import SqliteManifest
from tests.deadlines import Deadlines, threads_of
from tests.laboratory import Laboratory, laboratory
from tests.packing import packs_leave, put_together, read_all, some_objects
from tests.patience import PATIENCE_SECONDS


class Freeze:
    """A step of the manifest that hangs until it is thawed, as on a disk that does not answer."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._thawed = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self._begun.set()
        self._thawed.wait()

    async def begun(self) -> None:
        await asyncio.to_thread(self._begun.wait)

    def thaw(self) -> None:
        self._thawed.set()


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, packs=request.param) as running:
        await put_together(running, some_objects(running, prefix="before"))  # so that ids are leased
        async with packs_leave(running):
            yield running


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    return Deadlines(monkeypatch)


def manifest_of(lab: Laboratory) -> SqliteManifest:
    assert isinstance(lab.services.manifest, SqliteManifest)
    return lab.services.manifest


async def until_healthy(manifest: SqliteManifest) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while manifest.trouble:
            await asyncio.sleep(0.01)


async def until_queued(manifest: SqliteManifest, count: int = 1) -> None:
    """Wait until so many commits wait for the group under way: that of a write does once its shards are stored."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while manifest._committer._jobs.qsize() < count:
            await asyncio.sleep(0.001)


def putting(lab: Laboratory, objects: Mapping[str, bytes]) -> asyncio.Future[list[object]]:
    """Begin to put objects at once; what becomes of each."""
    return asyncio.gather(*(lab.put(key, data) for key, data in objects.items()), return_exceptions=True)


async def test_a_commit_that_was_under_way_past_the_deadline_is_kept_if_it_happens_after_all(lab: Laboratory, deadlines: Deadlines) -> None:
    manifest, first, second, objects = manifest_of(lab), Freeze(), Freeze(), some_objects(lab)
    blocked = asyncio.create_task(manifest._write(first))
    await first.begun()
    put = putting(lab, objects)
    await until_queued(manifest)
    behind = asyncio.create_task(manifest._write(second))  # in one group with the commit, after it
    await until_queued(manifest, 2)
    first.thaw()
    await second.begun()
    deadlines.pass_for(*threads_of(manifest))
    for outcome in await put:
        assert isinstance(outcome, ManifestUnavailable)
        assert "has not answered" in str(outcome)
    assert manifest.trouble
    second.thaw()
    await asyncio.gather(blocked, behind, return_exceptions=True)
    await until_healthy(manifest)
    deadlines.begin_anew()
    assert await read_all(lab, objects) == objects
    await lab.collect()
    assert await read_all(lab, objects) == objects, "its ids were abandoned, and what is visible is never deleted"


async def test_a_commit_that_had_not_begun_by_its_deadline_never_happens_and_leaves_nothing(lab: Laboratory, deadlines: Deadlines) -> None:
    manifest, freeze, objects = manifest_of(lab), Freeze(), some_objects(lab)
    kept = await lab.shards()
    blocked = asyncio.create_task(manifest._write(freeze))
    await freeze.begun()
    put = putting(lab, objects)
    await until_queued(manifest)
    deadlines.pass_for(*threads_of(manifest))
    assert {type(outcome) for outcome in await put} == {ManifestUnavailable}
    freeze.thaw()
    await asyncio.gather(blocked, return_exceptions=True)
    await until_healthy(manifest)
    deadlines.begin_anew()
    for key in objects:
        assert await manifest.find_version(lab.bucket.id, ObjectKey(key)) is None
    await lab.collect()
    assert await lab.shards() == kept


async def test_a_read_that_hangs_fails_by_its_deadline_and_the_manifest_is_unhealthy_until_it_answers(
    lab: Laboratory, deadlines: Deadlines
) -> None:
    manifest, freeze = manifest_of(lab), Freeze()
    await lab.put("k", b"content")
    reading = asyncio.create_task(manifest._read(freeze))
    await freeze.begun()
    deadlines.pass_for(*threads_of(manifest))
    with pytest.raises(ManifestUnavailable, match="has not answered"):
        await reading
    assert manifest.trouble
    with pytest.raises(ManifestUnavailable, match="does not answer"):
        await lab.get("k")
    freeze.thaw()
    await until_healthy(manifest)
    deadlines.begin_anew()
    assert await lab.get("k") == b"content"
