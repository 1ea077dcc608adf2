"""Reports of damage: each is made once, soon, and never at a reader's cost or the manifest's."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

import pytest

from proxy.clock import ManualClock
from proxy.engine.damage import BATCH, QUEUE, DamageReporter, kind_of
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import (
    CellForged,
    ManifestUnavailable,
    ProxyError,
    ShardMismatch,
    ShardMissing,
    ShardTruncated,
    StoreNotAsked,
    StoreUnavailable,
)
from proxy.manifest.damage import Damage
from proxy.manifest.records import ExtentId, Segment, SegmentId

FORGED = CellForged("on purpose")


class Records:
    """What of a manifest a reporter uses. While it is held, it answers nobody."""

    def __init__(self, *, fails: bool = False) -> None:
        self.steps: list[list[Damage]] = []
        self.fails = fails
        self.open = asyncio.Event()
        self.open.set()

    async def report_damage(self, damage: Sequence[Damage], *, now_ms: int) -> int:
        await self.open.wait()
        self.steps.append(list(damage))
        if self.fails:
            raise ManifestUnavailable("on purpose")
        return len(damage)

    @property
    def rows(self) -> list[Damage]:
        return [damage for step in self.steps for damage in step]


def segment(number: int, **fields: object) -> Segment:
    return Segment(id=SegmentId(number.to_bytes(16, "big")), size=1, stores=("s0", "s1", "s2"), **fields)  # type: ignore[arg-type]


def reporter(records: Records, tasks: BackgroundTasks, counted: Counter[tuple[str, str]] | None = None) -> DamageReporter:
    counts = Counter[tuple[str, str]]() if counted is None else counted
    return DamageReporter(
        records,  # type: ignore[arg-type]
        tasks,
        ManualClock(),
        record=lambda store, kind: counts.update([(store, kind)]),
    )


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (ShardMissing("s", "gone"), "missing"),
        (ShardTruncated("s", "short"), "truncated"),
        (CellForged("no"), "forged"),
        (ShardMismatch("another's"), "forged"),
        (StoreUnavailable("s", "down"), None),
        (StoreNotAsked("s", "down"), None),
    ],
)
def test_a_failed_read_says_what_is_wrong_with_the_shard_if_anything(failure: ProxyError, kind: str | None) -> None:
    assert kind_of(failure) == kind


async def test_what_is_found_is_put_on_record_with_its_store_and_generation() -> None:
    records, tasks, counted = Records(), BackgroundTasks(), Counter[tuple[str, str]]()
    reporter(records, tasks, counted).found(ExtentId(7), segment(1, generations=(0, 3, 0)), 1, FORGED)
    await tasks.drain(60)
    assert records.rows == [Damage(extent_id=ExtentId(7), segment_id=segment(1).id, shard_index=1, kind="forged", store="s1", generation=3)]
    assert counted == {("s1", "forged"): 1}


async def test_a_store_that_lies_at_every_read_is_counted_each_time_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    records, tasks, counted = Records(), BackgroundTasks(), Counter[tuple[str, str]]()
    found = reporter(records, tasks, counted)
    with caplog.at_level(logging.ERROR):
        for _ in range(50):
            found.found(ExtentId(1), segment(1), 0, FORGED)
    await tasks.drain(60)
    found.found(ExtentId(1), segment(1), 0, FORGED)
    await tasks.drain(60)
    assert len(records.rows) == 1
    assert len(caplog.records) == 1
    assert counted == {("s0", "forged"): 51}


async def test_another_generation_or_another_fault_is_another_report() -> None:
    records, tasks = Records(), BackgroundTasks()
    found = reporter(records, tasks)
    found.found(ExtentId(1), segment(1), 0, FORGED)
    found.found(ExtentId(1), segment(1, generations=(1, 0, 0)), 0, FORGED)
    found.found(ExtentId(1), segment(1), 0, ShardMissing("s0", "gone"))
    await tasks.drain(60)
    assert len(records.rows) == 3


async def test_a_store_that_does_not_answer_has_damaged_nothing() -> None:
    records, tasks, counted = Records(), BackgroundTasks(), Counter[tuple[str, str]]()
    reporter(records, tasks, counted).found(ExtentId(1), segment(1), 0, StoreUnavailable("s0", "down"))
    await tasks.drain(60)
    assert (records.rows, counted) == ([], {})


async def test_many_reports_are_few_steps_of_the_manifest() -> None:
    records, tasks = Records(), BackgroundTasks()
    found = reporter(records, tasks)
    for number in range(BATCH + 1):
        found.found(ExtentId(1), segment(number), 0, FORGED)
    await tasks.drain(60)
    assert [len(step) for step in records.steps] == [BATCH, 1]


async def test_a_flood_is_cut_off_and_what_was_dropped_is_reported_at_the_next_read() -> None:
    records, tasks = Records(), BackgroundTasks()
    records.open.clear()
    found = reporter(records, tasks)
    for number in range(2 * QUEUE):
        found.found(ExtentId(1), segment(number), 0, FORGED)
    records.open.set()
    await tasks.drain(60)
    assert len(records.rows) == QUEUE
    found.found(ExtentId(1), segment(2 * QUEUE - 1), 0, FORGED)
    await tasks.drain(60)
    assert len(records.rows) == QUEUE + 1


async def test_what_could_not_be_put_on_record_is_reported_at_the_next_read() -> None:
    records, tasks = Records(fails=True), BackgroundTasks()
    found = reporter(records, tasks)
    found.found(ExtentId(1), segment(1), 0, FORGED)
    await tasks.drain(60)
    records.fails = False
    found.found(ExtentId(1), segment(1), 0, FORGED)
    await tasks.drain(60)
    assert len(records.rows) == 2
