"""Lines of access logs wait in memory of the budget, as far as nobody else wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.engine.outgoing.access_log import HELD_BYTES, OWN_BYTES
from proxy.s3.access_log import LogTarget
from tests.laboratory import Laboratory, laboratory
from tests.listed import listed

LINE = "x" * (64 * 1024 - 1) + "\n"
TARGET = LogTarget("bucket", "logs/")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


def note(lab: Laboratory, size_bytes: int) -> None:
    for _ in range(size_bytes // len(LINE)):
        lab.services.access_log.note(lab.bucket, lab.tenant, TARGET, LINE, lab.clock.now_ms())


async def stored_bytes(lab: Laboratory) -> int:
    await lab.services.access_log.flush()
    page = await lab.services.manifest.list_objects(lab.bucket.id, prefix="logs/", delimiter="", after="", limit=1000)
    return sum(seen.size for seen in listed(page))


async def test_many_lines_take_memory_of_the_budget_and_give_it_back(lab: Laboratory) -> None:
    budget = lab.services.budget
    note(lab, OWN_BYTES)
    assert budget.held_bytes == 0
    note(lab, OWN_BYTES)
    assert budget.held_bytes == OWN_BYTES
    assert await stored_bytes(lab) == 2 * OWN_BYTES
    assert budget.held_bytes == 0


async def test_lines_beyond_the_bound_are_dropped(lab: Laboratory) -> None:
    note(lab, 2 * HELD_BYTES)
    assert lab.services.budget.held_bytes == HELD_BYTES - OWN_BYTES
    assert await stored_bytes(lab) == HELD_BYTES


async def test_lines_do_without_memory_that_others_have(lab: Laboratory) -> None:
    budget = lab.services.budget
    grant = await budget.acquire(budget.capacity_bytes, owner="t")
    note(lab, 4 * OWN_BYTES)
    grant.release()
    assert await stored_bytes(lab) == OWN_BYTES


async def test_lines_that_cannot_be_stored_give_their_memory_back(lab: Laboratory) -> None:
    note(lab, 4 * OWN_BYTES)
    for store in lab.stores.values():
        store.down = True
    await lab.services.access_log.flush()
    assert lab.services.budget.held_bytes == 0
