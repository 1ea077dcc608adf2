"""Copies that move data share the budget: none holds what another needs to go on, and what they hold is what they were granted."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

from proxy.engine.verbs.copy import CopyBody
from proxy.errors import StoreUnavailable
from proxy.manifest.records import ObjectAttributes, ObjectKey, Upload, Version
from tests.faulty_store import FaultyStore
from tests.laboratory import Laboratory, laboratory
from tests.patience import PATIENCE_SECONDS

MIB = 1024 * 1024


async def begin_upload(lab: Laboratory, key: str) -> Upload:
    return await lab.services.engine.begin_upload(lab.bucket, lab.tenant, ObjectKey(key), ObjectAttributes())


async def copy_parts(lab: Laboratory, source: Version, count: int, size: int) -> None:
    async def copy(upload: Upload, start: int) -> None:
        await lab.services.engine.copy_part(source, lab.bucket, lab.tenant, start, size, lab.bucket, lab.tenant, upload, 1)

    uploads = [await begin_upload(lab, f"part{number}") for number in range(count)]
    await asyncio.gather(*(copy(upload, number * 100_000) for number, upload in enumerate(uploads)))


async def copy_object(lab: Laboratory, source: Version, key: str) -> None:
    """Copy with another checksum than the source has: the data moves."""
    await lab.services.engine.copy_object(
        source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey(key), ObjectAttributes(), checksum_algorithm="SHA256"
    )


@pytest.mark.parametrize("memory_mib", [1, 16, 24, 48, 96])
async def test_copies_at_once_all_come_to_their_end(tmp_path: Path, memory_mib: int) -> None:
    async with laboratory(tmp_path, memory_mib=memory_mib, memory_wait_seconds=60) as lab:
        data = os.urandom(18 * MIB)
        source = await lab.put("source", data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(copy_parts(lab, source, 8, 9 * MIB), *(copy_object(lab, source, f"copy{number}") for number in range(3)))
        assert await lab.get("copy2") == data
        assert lab.services.budget.held_bytes == 0


async def test_copies_survive_two_dead_stores_beside_uploads_and_reads(tmp_path: Path) -> None:
    async with laboratory(tmp_path, memory_mib=48, memory_wait_seconds=60) as lab:
        data = os.urandom(20 * MIB)
        source = await lab.put("source", data)
        for name in ("alder", "cedar"):
            lab.stores[name].before = _fail_reads
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(
                copy_parts(lab, source, 4, 17 * MIB),
                copy_object(lab, source, "copy"),
                *(lab.put(f"k{number}", data) for number in range(3)),
                *(lab.get("source") for _ in range(3)),
            )
        assert await lab.get("copy") == data


def _fail_reads(verb: str) -> None:
    if verb == "get_range":
        raise StoreUnavailable("", "reads fail on purpose")


async def test_copies_hold_no_more_than_they_were_granted(tmp_path: Path) -> None:
    async with laboratory(tmp_path, memory_mib=48, memory_wait_seconds=60) as lab:
        source = await lab.put("source", os.urandom(20 * MIB))
        for store in lab.stores.values():
            store.loses_puts = True  # the engine's memory is measured, not the stores'
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await copy_parts(lab, source, 12, 18 * MIB)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < lab.services.budget.capacity_bytes


def _hang_after_a_stride(store: FaultyStore, verb: str) -> None:
    store.hanging = verb == "get_range" and store.calls[verb] > 4


async def test_a_copy_that_fails_stops_reading_at_once(tmp_path: Path) -> None:
    class Broken(CopyBody):
        def digest(self, data: bytes) -> None:
            raise ArithmeticError

    async with laboratory(tmp_path) as lab:
        source = await lab.put("source", os.urandom(20 * MIB))
        engine, running = lab.services.engine, asyncio.all_tasks()
        chunks = await engine._open_source(source, lab.tenant, 0, source.size, lab.bucket, None)
        for store in lab.stores.values():  # what is read ahead of the first stride never comes
            store.before = partial(_hang_after_a_stride, store)
        with pytest.raises(ArithmeticError):
            await engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), Broken(chunks, source.size, None), ObjectAttributes())
        assert asyncio.all_tasks() == running
        assert lab.services.budget.held_bytes == 0
