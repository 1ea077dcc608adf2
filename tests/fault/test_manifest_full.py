"""The disk under the manifest is full, or read-only: nothing is acknowledged that is not on it, reads go on, and all is well afterwards."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.errors import ManifestUnavailable
from proxy.manifest.records import ObjectKey
from tests.fault.machine.audit import audit
from tests.laboratory import Laboratory, laboratory
from tests.listed import listed
from tests.packing import packs_leave, some_objects

ROOT = Path(__file__).parents[2]
BODY = b"body " * 1000


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, packs=request.param) as running, packs_leave(running):
        await running.put("before", BODY)
        yield running


@contextmanager
def full(lab: Laboratory) -> Iterator[None]:
    """Let the database grow no further, as on a disk that is full: SQLite answers both with SQLITE_FULL."""
    committer = lab.services.manifest._committer  # type: ignore[attr-defined]  # below the protocol, where the disk is
    opened = committer._open_connection

    def limited() -> sqlite3.Connection:
        connection = opened()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    committer._open_connection = limited
    committer._close_connection()
    try:
        yield
    finally:
        committer._open_connection = opened
        committer._close_connection()


@contextmanager
def read_only(lab: Laboratory) -> Iterator[None]:
    """Let the database be opened for reading alone, as on a disk that was mounted anew after an error."""
    committer = lab.services.manifest._committer  # type: ignore[attr-defined]
    opened = committer._open_connection

    def locked() -> sqlite3.Connection:
        connection = opened()
        connection.execute("PRAGMA query_only = ON")
        return connection

    committer._open_connection = locked
    committer._close_connection()
    try:
        yield
    finally:
        committer._open_connection = opened
        committer._close_connection()


async def put_until_refused(lab: Laboratory) -> list[str]:
    """Put objects, with packs a few at once, until one is refused; return those that were acknowledged."""
    acknowledged = list[str]()
    for turn in range(2000):
        keys = list(some_objects(lab, 0, prefix=f"k{turn}-"))
        outcomes = await asyncio.gather(*(lab.put_promptly(key, BODY) for key in keys), return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, ManifestUnavailable)]
        if refused:
            assert len(refused) == len(keys), "all of a pack are refused, or none"
            return acknowledged
        acknowledged += keys
    raise AssertionError("the disk was never full")


async def check_all(lab: Laboratory, data: Path, acknowledged: list[str]) -> None:
    """What was acknowledged is there, what was refused is not, and after collection nothing else lies in the stores."""
    for key in ("before", *acknowledged):
        assert await lab.get(key) == BODY
    page = await lab.services.manifest.list_objects(lab.bucket.id, prefix="", delimiter="", after="", limit=3000)
    assert {seen.key for seen in listed(page)} == {ObjectKey(key) for key in ("before", *acknowledged, "after")}
    await lab.settled()
    for _ in range(3):
        await lab.collect()
    held = {name: {str(shard) async for shard, _ in store.list()} for name, store in lab.stores.items()}
    found = audit(data / "manifest.sqlite", held)
    assert (found.orphans, found.missing, found.miscounted) == (set(), set(), [])


@pytest.mark.parametrize("trouble", [full, read_only])
async def test_what_cannot_be_committed_is_refused_and_read_goes_on(lab: Laboratory, tmp_path: Path, trouble: type) -> None:
    with trouble(lab):
        acknowledged = await put_until_refused(lab)
        assert await lab.get("before") == BODY
    await lab.put("after", BODY)
    await check_all(lab, tmp_path, acknowledged)


async def test_a_manifest_that_is_read_only_refuses_to_delete_and_keeps_what_is_there(lab: Laboratory, tmp_path: Path) -> None:
    with read_only(lab), pytest.raises(ManifestUnavailable):
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("before"))
    assert await lab.get("before") == BODY
    await lab.put("after", BODY)
    await check_all(lab, tmp_path, [])


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.fault.test_manifest_full import fill
asyncio.run(fill(Path(sys.argv[1]), packs=sys.argv[2] == "packed"))
"""


async def fill(data: Path, *, packs: bool) -> None:
    """Put objects under a limit of this process's files, and print the keys of those that were acknowledged."""
    async with laboratory(data, packs=packs) as lab, packs_leave(lab):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails with EFBIG instead
        largest = max(path.stat().st_size for path in data.glob("manifest.sqlite*") if path.is_file())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 40_000, resource.RLIM_INFINITY))
        for key in await put_until_refused(lab):
            print(key, flush=True)
        os._exit(0)


@pytest.mark.parametrize("packs", [False, True], ids=["alone", "packed"])
async def test_a_log_that_can_grow_no_further_loses_nothing_and_breaks_nothing(tmp_path: Path, packs: bool) -> None:
    """Here the kernel itself refuses the write, in the middle of a commit."""
    async with laboratory(tmp_path, packs=packs) as lab:
        await lab.put("before", BODY)
    command = [sys.executable, "-c", CHILD, str(tmp_path), "packed" if packs else "alone"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-3000:]
    acknowledged = child.stdout.split()
    assert acknowledged
    async with laboratory(tmp_path, packs=packs, now_ms=1_750_000_000_000 + 10**9) as lab:
        await lab.put("after", BODY)
        await check_all(lab, tmp_path, acknowledged)
