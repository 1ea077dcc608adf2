"""`stores check --analyze`: what is fit passes, and each defect is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from proxy.clock import ManualClock, SystemClock
from proxy.stores.conformance import FOLDER, Conformance, analyze
from proxy.stores.directory import DirectoryStore
from proxy.stores.protocol import ShardName, Store, StoreInfo, StoreName
from proxy.stores.upstream import memory_store
from tests.faulty_store import OddBucket

INFO = StoreInfo(name=StoreName("s"), provider="p", region="us-east-1", jurisdiction="j")
FULL_ONLY = {"the largest shard", "64 MiB in one object"}


async def examine(store: Store, *, quick: bool = True, put_seconds: float = 30, get_seconds: float = 30, **told: Callable) -> Conformance:
    """Analyze a store, with a clock that waits for nothing."""
    clock = TestClock()
    return await analyze(store, clock, put_seconds=put_seconds, get_seconds=get_seconds, quick=quick, sleep=clock.sleep, **told)


class TestClock(ManualClock):
    """Monotonic time goes on only by sleeping; the time of day is the machine's, which stores' clocks are compared with."""

    __test__ = False

    def now_ms(self) -> int:
        return SystemClock().now_ms()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


def outcomes(report: Conformance) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in report.findings}


def test_a_fit_store_passes_everything_and_is_left_empty() -> None:
    async def check() -> None:
        store = OddBucket(memory_store(INFO))
        report = await examine(store, quick=False)
        assert (report.fit, report.left) == (True, ())
        assert [finding for finding in report.findings if finding.outcome != "passed"] == []
        assert [finding.meaning + finding.remedy for finding in report.findings] == [""] * len(report.findings)
        assert outcomes(report).keys() > FULL_ONLY
        assert [entry async for entry in store.inner.list()] == []
        assert all(name.startswith(report.prefix) and report.prefix.startswith(FOLDER) for name in store.sent)

    asyncio.run(check())


async def test_a_directory_is_fit_and_is_not_asked_what_it_does_not_know(tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True)
    report = await examine(store)
    assert report.fit
    assert {check for check, outcome in outcomes(report).items() if outcome == "note"} == {"conditional put", "clock", "versions", "ETag"}
    assert [entry async for entry in store.list()] == []
    await store.close()


async def test_calls_are_timed_and_large_ones_give_a_throughput() -> None:
    report = await examine(memory_store(INFO), quick=False)
    calls = {timing.call: timing for timing in report.timings}
    assert calls.keys() >= {"put of 4 KiB", "get of 4 KiB", "range of 1 KiB", "list", "delete", "put of 64 MiB", "range of 1 MiB"}
    assert calls["put of 4 KiB"].calls == 30
    assert calls["put of 64 MiB"].mib_per_second is not None
    msgspec.json.encode(report)


# (defects, the check that must tell, failed or note, words of what it must say)
DEFECTS = [
    ({"loses_puts": True}, "read after write", "failed", "was acknowledged, and the object is not there 10 s later"),
    ({"down": True}, "put and ask", "failed", "down on purpose"),
    ({"rejects": True}, "put and ask", "failed", "rejects on purpose"),
    ({"reads_late": 2}, "read after write", "failed", "could not be read right after their put"),
    ({"reads_late": 10**6}, "read after write", "failed", "was acknowledged, and the object is not there 10 s later"),
    ({"truncates": True}, "bytes as they were put", "failed", "1 bytes were put, and 0 came back"),
    ({"flips_bits": True}, "bytes as they were put", "failed", "they differ from byte 0 on"),
    ({"ignores_ranges": True}, "ranges", "failed", "answered with the whole object: 100,000 bytes for 1"),
    ({"cuts_ranges": True}, "ranges", "failed", "answered with 0 bytes for 1"),
    ({"fails_ranges": True}, "ranges", "failed", "cannot be read, though the whole object can"),
    ({"shifts_ranges": True}, "ranges", "failed", "answered with other bytes"),
    ({"shortens_ranges": True}, "ranges beyond the end", "failed", "answered with 10 bytes, as if there were no end"),
    ({"listings_late": 2}, "list after write", "note", "not listed right after their put"),
    ({"listings_late": 10**6}, "list after write", "failed", "not listed 10 s later"),
    ({"refuses_lists": True}, "list after write", "failed", "403 AccessDenied"),
    ({"lists_wrong_sizes": True}, "list after write", "failed", "4096 bytes is listed with 4097"),
    ({"lists_for_ever": True}, "list after write", "failed", "went on after 1,000 entries"),
    ({"invents": True}, "an object that is not there", "failed", "gave 8 bytes"),
    ({"refuses_missing": True}, "an object that is not there", "failed", "403 AccessDenied"),
    ({"refuses_overwrites": True}, "put twice", "failed", "overwriting refused on purpose"),
    ({"serves_old": 3}, "overwrite", "note", "s after an overwrite"),
    ({"serves_old": 10**6}, "overwrite", "note", "the old bytes still come back 10 s after"),
    ({"refuses_deletes": True}, "delete", "failed", "a delete failed: store s:"),
    ({"loses_deletes": True}, "delete", "failed", "still read 10 s later"),
    ({"deletes_late": 3}, "delete", "note", "s more"),
    ({"refuses_absent_deletes": True}, "delete what is not there", "failed", "refused: 404"),
    ({"tears": True}, "puts of one name at once", "failed", "is none of them"),
    ({"refuses_rivals": True}, "puts of one name at once", "note", "7 failed (store s: 409 OperationAborted); one of the others is there"),
    ({"lists_at_most": 40}, "many objects", "failed", "of 50 objects, 40 are listed"),
    ({"lists_twice": True}, "many objects", "failed", "listed more than once"),
    ({"ignores_conditions": True}, "conditional put", "note", "the condition is ignored"),
    ({"refuses_conditions": True}, "conditional put", "note", "501 NotImplemented"),
    ({"clock_ahead_ms": 90_000}, "clock", "note", "s ahead of this machine's"),
    ({"clock_ahead_ms": -90_000}, "clock", "note", "s behind of this machine's"),
    ({"clock_ahead_ms": 3_600_000}, "clock", "failed", "s ahead of this machine's"),
    ({"keeps_versions": True}, "versions", "note", "keeps versions"),
    ({"claims_wrong_sizes": True}, "ETag", "failed", "is said to have 4,097"),
]


@pytest.mark.parametrize(("defects", "check", "outcome", "words"), DEFECTS, ids=lambda value: "" if isinstance(value, str) else str(value))
async def test_a_defect_is_named_with_what_it_means_and_what_to_do(defects: dict, check: str, outcome: str, words: str) -> None:
    store = OddBucket(memory_store(INFO))
    for name, value in defects.items():
        assert hasattr(store, name)
        setattr(store, name, value)
    report = await examine(store)
    finding = next(finding for finding in report.findings if finding.check == check)
    assert (finding.outcome, words in finding.found) == (outcome, True), finding
    assert finding.meaning
    assert finding.remedy
    assert report.fit == (outcome == "note")


async def test_a_store_that_takes_no_large_objects_is_unfit_only_if_shards_are_as_large() -> None:
    for largest, checks in ((20 * 1024**2, {"64 MiB in one object": "note"}), (1024**2, {"the largest shard": "failed"})):
        store = OddBucket(memory_store(INFO))
        store.largest = largest
        report = await examine(store, quick=False)
        assert outcomes(report).items() >= checks.items()
        assert report.fit == ("failed" not in checks.values())


async def test_a_store_that_hangs_ends_the_analysis() -> None:
    store = OddBucket(memory_store(INFO))
    store.hanging = True
    report = await examine(store, put_seconds=0.02, get_seconds=0.02)
    (finding,) = report.findings
    assert (finding.outcome, "no answer in 0.02 s" in finding.found) == ("failed", True)


@pytest.mark.parametrize("defects", [("refuses_deletes",), ("loses_deletes",), ("refuses_deletes", "refuses_lists")], ids=str)
async def test_what_a_store_does_not_delete_is_told_by_name(defects: tuple[str, ...]) -> None:
    store, told = OddBucket(memory_store(INFO)), []
    for name in defects:
        setattr(store, name, True)
    report = await examine(store, tell_left=told.extend)
    there = {str(name) async for name, _ in store.inner.list()}
    assert there
    assert there <= set(report.left) == set(told)


async def test_what_is_left_is_told_also_after_an_interruption_amid_the_cleaning() -> None:
    store, told = OddBucket(memory_store(INFO)), []
    store.refuses_deletes = True
    cleaning = asyncio.Event()
    task = asyncio.create_task(examine(store, tell_left=told.extend, tell=lambda text: cleaning.set() if "removing" in text else None))
    await cleaning.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {str(name) async for name, _ in store.inner.list()} == set(told)


@pytest.mark.parametrize("refuses_lists", [False, True])
async def test_what_was_put_though_the_answer_was_lost_is_removed_too(refuses_lists: bool) -> None:
    store = OddBucket(memory_store(INFO))
    store.loses_answers, store.refuses_lists = True, refuses_lists
    report = await examine(store)
    assert not report.fit
    assert store.sent
    assert [entry async for entry in store.inner.list()] == []


@pytest.mark.parametrize("call", [1, 5, 60, 150, 300])
async def test_a_check_that_is_broken_off_leaves_nothing(call: int) -> None:
    store = OddBucket(memory_store(INFO))
    task = asyncio.create_task(examine(store))

    def interrupt(_: str) -> None:
        if store.calls.total() == call:
            task.cancel()

    store.before = interrupt
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry async for entry in store.inner.list()] == []


async def test_what_an_earlier_check_left_is_told() -> None:
    store = OddBucket(memory_store(INFO))
    await store.put(ShardName(f"{FOLDER}0123456789abcdef/first"), [b"x"])
    report = await examine(store)
    finding = next(finding for finding in report.findings if finding.check == "leftovers")
    assert (finding.outcome, report.fit) == ("note", True)
    assert "0123456789abcdef/first" in finding.found
    assert len([entry async for entry in store.inner.list()]) == 1
