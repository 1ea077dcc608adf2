"""The journal of a whole engine: what is acknowledged is in it, whatever fails, and whoever writes it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from proxy.config import JournalConfig
from proxy.engine.journal import flush, store
from proxy.engine.journal.acknowledge import ALL, NEEDED
from proxy.engine.journal.worker import ROWS_DUE
from proxy.errors import JournalBusy, JournalUnavailable, NotEnoughShards
from proxy.manifest.drafts import AttributeChange, CompletedPart, Conditions, PackedDraft, VersionDraft
from proxy.manifest.journal import Row
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ObjectAttributes, ObjectKey, Role, Upload, Version
from proxy.server.journal_counts import journal_trouble, read_journal_counts
from tests.fault.campaigns.operating import planner
from tests.fault.campaigns.test_policy import wide_too
from tests.fault.journal_child import KEPT, STEPS
from tests.laboratory import BytesBody, Laboratory, laboratory

ROOT = Path(__file__).parent.parent.parent


class Replayed(NamedTuple):
    """What the stores' journal makes of an empty manifest."""

    numbers: list[int]
    rows: dict[tuple[str, tuple[object, ...]], Row]

    def keys(self, table: str) -> list[tuple[object, ...]]:
        return [key for (name, key), row in self.rows.items() if name == table and row.value is not None]


async def replay(lab: Laboratory) -> Replayed:
    """Read the journal with what a recovery has: the stores, and the root key."""
    journal = lab.services.journal
    assert journal is not None
    identity = (await lab.services.manifest.find_epoch()).identity
    listing = await journal.reader.find("j/", identity=identity)
    read = [await store.read_segment(journal.reader, found) for found in listing.found]
    rows: dict[tuple[str, tuple[object, ...]], Row] = {}
    previous = bytes(32)
    numbers = []
    for each in read:
        assert each.segment.previous == previous
        previous = each.digest
        numbers.append(each.segment.number)
        rows.update({(row.table, row.key): row for row in each.segment.rows})
    return Replayed(numbers, rows)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, journal=KEPT) as opened:
        yield opened


async def test_tenant_key_and_bucket_are_in_the_journal_when_they_are_acknowledged(lab: Laboratory) -> None:
    found = await replay(lab)
    assert len(found.keys("tenant")) == len(found.keys("access_key")) == len(found.keys("bucket")) == 1
    assert found.numbers == list(range(1, len(found.numbers) + 1))


async def test_a_put_waits_for_no_journal(lab: Laboratory) -> None:
    before = (await replay(lab)).numbers
    await lab.put("k", b"data")
    assert (await replay(lab)).numbers == before
    await lab.services.journal.flusher.flush()
    assert len((await replay(lab)).keys("version")) == 1


async def test_what_has_no_label_is_in_the_journal_when_it_is_acknowledged(lab: Laboratory) -> None:
    """An empty object has no shard, a copy's has the label of its source, and no label says whether a condition was met."""
    await lab.put("empty", b"")
    assert len((await replay(lab)).keys("version")) == 1
    await lab.services.engine.put_object(
        lab.bucket, lab.tenant, ObjectKey("once"), BytesBody(b"x"), ObjectAttributes(), conditions=Conditions(if_none_match="*")
    )
    assert len((await replay(lab)).keys("version")) == 2


async def test_a_version_of_a_pack_waits_for_the_journal_only_where_its_label_is_not_enough(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    before = await lab.put("k", b"newer by its number")
    draft = VersionDraft(bucket_id=lab.bucket.id, key=ObjectKey("k"), id=before.id, size=1, written=before.written - 1, modified_ms=0)
    layout = (await manifest.load_extents([before.extents[0].id]))[0].layout
    packed = [PackedDraft(draft, 0), PackedDraft(replace(draft, key="other"), 50)]
    raised, other = await manifest.commit_pack(replace(layout, slots=2, content_size=2), packed, settlements=[], now_ms=0)
    assert isinstance(raised, Version)
    assert isinstance(other, Version)
    assert await manifest.confirm_version(other, packed[1].draft) == other
    assert (await replay(lab)).keys("version") == []
    assert raised.written > before.written
    await manifest.confirm_version(raised, draft)
    assert len((await replay(lab)).keys("version")) == 2


async def test_a_multipart_upload_is_in_the_journal_when_it_is_begun_and_when_it_is_completed(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    upload = Upload(id="u", bucket_id=lab.bucket.id, key="k", tenant_id=lab.tenant.id, initiated_ms=0)  # type: ignore[arg-type]
    await manifest.begin_upload(upload)
    assert (await replay(lab)).keys("upload") == [("u",)]
    part = await lab.services.engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part"))
    draft = VersionDraft(bucket_id=lab.bucket.id, key=upload.key, id="v", size=4, etag="e-1", modified_ms=0)  # type: ignore[arg-type]
    await manifest.complete_upload(upload.id, [CompletedPart(number=1, etag=part.etag)], draft)
    found = await replay(lab)
    assert found.keys("upload") == found.keys("part") == []
    assert len(found.keys("version")) == len(found.keys("extent")) == 1


@pytest.mark.parametrize("acknowledge", ["needed", "all"])
async def test_a_deletion_waits_if_that_is_configured(tmp_path: Path, acknowledge: str) -> None:
    journal = msgspec.structs.replace(KEPT, acknowledge=acknowledge)
    async with laboratory(tmp_path, journal=journal) as lab:
        await lab.put("k", b"data")
        await lab.services.journal.flusher.flush()
        await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("k"), marker_id="m", now_ms=0)  # type: ignore[arg-type]
        found = await replay(lab)
        assert len(found.keys("version")) == (0 if acknowledge == "all" else 1)


@pytest.mark.parametrize("acknowledge", ["needed", "all"])
async def test_an_order_to_a_campaign_waits_if_that_is_configured(tmp_path: Path, acknowledge: str) -> None:
    """Applied, one gives a bucket another policy."""
    async with laboratory(tmp_path, journal=msgspec.structs.replace(KEPT, acknowledge=acknowledge), adjust=wide_too) as lab:
        plan = await planner(lab).move_policy("bucket", "wide")
        before = len((await replay(lab)).numbers)
        await lab.services.manifest.order_campaign(plan.id, "apply", now_ms=0)
        found = await replay(lab)
        assert len(found.numbers) == before + (acknowledge == "all")
        assert (found.keys("campaign") == [(plan.id,)]) == (acknowledge == "all")


async def test_a_campaign_is_paused_although_the_journal_is_far_behind(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=msgspec.structs.replace(KEPT, acknowledge="all"), adjust=wide_too) as lab:
        plan = await planner(lab).move_policy("bucket", "wide")
        await lab.services.manifest.order_campaign(plan.id, "apply", now_ms=0)
        flusher = lab.services.journal.flusher
        flusher.admit = refused_if_it_waits  # type: ignore[method-assign]
        with pytest.raises(JournalBusy):
            await lab.services.manifest.order_campaign(plan.id, "resume", now_ms=0)
        assert (await lab.services.manifest.order_campaign(plan.id, "pause", now_ms=0)).state == "paused"


def refused_if_it_waits(*, waits: bool) -> None:
    if waits:
        raise JournalBusy("much waits")


async def test_what_says_who_may_do_what_is_in_the_journal_when_it_is_acknowledged(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    version = await lab.put("k", b"data")
    steps: list[Callable[[], Awaitable[object]]] = [
        partial(manifest.put_bucket_setting, lab.bucket.id, "policy", "{}"),
        partial(manifest.put_bucket_setting, lab.bucket.id, "public_access_block", None),
        partial(manifest.put_bucket_setting, lab.bucket.id, "acl", None),
        partial(manifest.put_bucket_setting, lab.bucket.id, "ownership", None),
        partial(manifest.change_attributes, lab.bucket.id, version.key, version.id, AttributeChange(acl=None), now_ms=0),
        partial(manifest.put_role, Role(tenant_id=lab.tenant.id, name="r", trust="{}", policy="{}", created_ms=0)),
        partial(manifest.remove_role, lab.tenant.id, "r"),
    ]
    for step in steps:
        before = (await replay(lab)).numbers
        await step()
        assert len((await replay(lab)).numbers) == len(before) + 1, step
    before = (await replay(lab)).numbers
    await manifest.put_bucket_setting(lab.bucket.id, "tagging", "{}")
    assert (await replay(lab)).numbers == before, "an operator may decide on the rest"


def test_each_step_that_waits_is_one_of_the_manifest() -> None:
    assert NEEDED.keys() < ALL.keys()
    assert [name for name in ALL if not callable(getattr(Manifest, name, None))] == []


async def test_all_that_wait_share_a_flush(lab: Laboratory) -> None:
    before = (await replay(lab)).numbers
    await asyncio.gather(*(lab.put_promptly(f"k{number}", b"") for number in range(50)))
    found = await replay(lab)
    assert len(found.keys("version")) == 50
    assert len(found.numbers) - len(before) <= 10


async def test_as_many_stores_as_may_fail_do_not_hold_an_acknowledgement_up(lab: Laboratory) -> None:
    names = list(lab.stores)
    for name in names[: lab.services.journal.writer.policy.may_fail.most]:
        lab.stores[name].down = True
    await lab.put("empty", b"")
    for name in names:
        lab.stores[name].down = False
    assert len((await replay(lab)).keys("version")) == 1


async def test_what_cannot_be_journaled_has_happened_but_is_not_acknowledged(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        for held in lab.stores.values():
            held.down = True
        with lab.no_time_for_the_journal():
            with pytest.raises(JournalUnavailable, match="has been done"):
                await lab.put("empty", b"")
            await lab.services.journal.flusher.flush()  # by now it is known why
            with pytest.raises(JournalUnavailable, match=r"has been done.*down on purpose"):
                await lab.put("empty", b"")
        assert await lab.get("empty") == b""
        for held in lab.stores.values():
            held.down = False
        lab.clock.advance(60)  # the stores' breakers close again
        await lab.put("empty", b"")
        assert lab.services.journal.flusher.trouble == ""
        assert len((await replay(lab)).keys("version")) == 1


async def test_a_journal_that_can_be_stored_by_turns_is_logged_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        for turn in range(8):
            for held in lab.stores.values():
                held.down = True
            with lab.no_time_for_the_journal(), suppress(JournalUnavailable):
                await lab.put("empty", b"")
            await lab.services.journal.flusher.flush()
            assert lab.services.journal.flusher.trouble
            for held in lab.stores.values():
                held.down = False
            lab.clock.advance(10)  # the stores' breakers close again
            await lab.services.journal.flusher.flush()
            assert not lab.services.journal.flusher.trouble, turn
        said = [line for line in caplog.messages if line.startswith("the journal ")]
    assert [("cannot be stored" in line, line.endswith("; it came and went 5 times more since this was last said")) for line in said] == [
        (True, False),
        (False, False),
        (True, True),
        (False, False),
    ]


async def test_a_store_that_is_late_does_not_hold_an_acknowledgement_up(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT, put_timeout_seconds=1000) as lab:
        late = next(iter(lab.stores.values()))
        late.hanging = True
        await lab.put_promptly("empty", b"")
        late.hanging = False
        assert len((await replay(lab)).keys("version")) == 1


async def test_one_who_gives_up_does_not_break_the_flush_of_the_others(lab: Laboratory) -> None:
    await lab.put("k", b"data")
    for held in lab.stores.values():
        held.hanging = True
    puts = sum(held.calls["put"] for held in lab.stores.values())
    flusher = lab.services.journal.flusher
    impatient, patient = (asyncio.create_task(flusher.stored()) for _ in range(2))
    while sum(held.calls["put"] for held in lab.stores.values()) < puts + 6:
        await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait({impatient})
    for held in lab.stores.values():
        held.hanging = False
    await patient
    assert impatient.cancelled()
    assert sum(held.calls["put"] for held in lab.stores.values()) - puts == 6
    assert len((await replay(lab)).keys("version")) == 1


@asynccontextmanager
async def two_processes(data: Path, journal: JournalConfig = KEPT) -> AsyncIterator[tuple[Laboratory, Laboratory]]:
    """Two services over one manifest and the same stores, as the processes of a server are."""
    async with laboratory(data, journal=journal) as one, laboratory(data, journal=journal) as other:
        yield one, other


async def test_processes_write_one_journal(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as labs:
        await asyncio.gather(*(labs[number % 2].put_promptly(f"k{number}", b"") for number in range(40)))
        found = await replay(labs[0])
        assert len(found.keys("version")) == 40
        assert found.numbers == list(range(1, len(found.numbers) + 1))


async def test_who_waits_is_served_by_another_processs_flush(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (one, other):
        for held in one.stores.values():
            held.hanging = True
        first = asyncio.create_task(one.put_promptly("a", b""))
        while sum(held.calls["put"] for held in one.stores.values()) < 6:
            await asyncio.sleep(0)
        puts = sum(held.calls["put"] for held in other.stores.values())
        second = asyncio.create_task(other.put_promptly("b", b""))
        while await other.services.manifest.find_version(other.bucket.id, ObjectKey("b")) is None:
            await asyncio.sleep(0)
        for held in one.stores.values():
            held.hanging = False
        await first
        await second
        assert sum(held.calls["put"] for held in other.stores.values()) - puts <= 6
        assert len((await replay(one)).keys("version")) == 2


@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_is_killed_loses_nothing_acknowledged(tmp_path: Path, step: str) -> None:
    """What it was storing is stored by the next flush, under the same number; if both are there, the next number tells which counts."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.fault.journal_child", str(tmp_path), step], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == -9, child.stderr
    async with laboratory(tmp_path, journal=KEPT) as lab:
        await lab.put("after", b"")
        manifest, journal = lab.services.manifest, lab.services.journal
        listing = await journal.reader.find("j/", identity=(await manifest.find_epoch()).identity)
        read: list[store.ReadSegment] = []
        for found in listing.found:
            try:
                read.append(await store.read_segment(journal.reader, found))
            except NotEnoughShards:
                assert step in {"first put", "last put"}
        chain = counting(read)
        assert len(read) - len(chain) == (step == "before record")
        rows = {(row.table, row.key): row for each in chain for row in each.segment.rows}
        keys = sorted(key[1] for (table, key), row in rows.items() if table == "version" and row.value is not None)
        assert keys == [b"after", b"before", b"during"]
        assert (await manifest.journal_position()).number == chain[-1].segment.number


def counting(read: list[store.ReadSegment]) -> list[store.ReadSegment]:
    """Of each number the one that counts."""
    chain: list[store.ReadSegment] = []
    for number in sorted({each.segment.number for each in read}):
        attempts = [each for each in read if each.segment.number == number]
        following = {each.segment.previous for each in read if each.segment.number == number + 1}
        if following:
            attempts = [each for each in attempts if each.digest in following]
            assert len(attempts) == 1
        chain.append(max(attempts, key=lambda each: each.segment.rank))
    return chain


async def test_what_is_told_of_the_journal(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        manifest, journal = lab.services.manifest, lab.services.journal
        told = (await read_journal_counts(manifest, journal)).exposition().decode()
        assert "shardgate_journal_lag_seconds 0.0" in told
        for held in lab.stores.values():
            held.down = True
        with lab.no_time_for_the_journal(), pytest.raises(JournalUnavailable):
            await lab.put("empty", b"")
        assert journal_trouble(journal) == ""
        lab.clock.advance(61)
        assert "has not been stored for 61 s" in journal_trouble(journal)
        told = (await read_journal_counts(manifest, journal)).exposition().decode()
        assert "shardgate_journal_lag_seconds 61.0" in told
        progress = await lab.worker("journal").step()
        assert progress.trouble
        assert progress.remaining
        for held in lab.stores.values():
            held.down = False
        lab.clock.advance(60)
        await journal.flusher.flush()
        assert journal_trouble(journal) == ""


async def test_the_worker_stores_what_nobody_waits_for_at_each_interval(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=msgspec.structs.replace(KEPT, interval_ms=5000)) as lab:
        worker = lab.worker("journal")
        await worker.step()
        await lab.put("k", b"data")
        lab.clock.advance(4)
        assert (await worker.step()).done == 0
        lab.clock.advance(1)
        progress = await worker.step()
        assert (progress.done, progress.remaining, progress.requests) == (3, 0, 6 + 1)
        assert progress.size_bytes > 500
        assert (await worker.step()).requests == 0


async def test_much_that_is_noted_does_not_wait_for_the_interval(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        worker = lab.worker("journal")
        await worker.step()
        await lab.services.manifest.apply_rows([Row("store", (f"s{number}",), ()) for number in range(ROWS_DUE)], note=True)
        assert (await worker.step()).done >= ROWS_DUE


async def test_without_a_journal_nothing_is_stored_and_no_note_piles_up(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"")
        assert (await lab.services.manifest.journal_position()).rows
        await lab.worker("journal").step()
        assert (await lab.services.manifest.journal_position()).rows == 0
        number = (await lab.services.manifest.journal_position()).number
        await lab.put("k", b"")
        await lab.worker("journal").step()
        assert (await lab.services.manifest.journal_position()).number == number
        assert [name for held in lab.stores.values() async for name, _ in held.list("j/")] == []


# A backlog


async def note(lab: Laboratory, count: int) -> None:
    rows = [Row("store", (f"s{number:06}-{'x' * 900}",), ()) for number in range(count)]
    await lab.services.manifest.apply_rows(rows, note=True)


@asynccontextmanager
async def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **limits: int) -> AsyncIterator[Laboratory]:
    """A server whose stores have taken no journal for long."""
    for name, value in limits.items():
        monkeypatch.setattr(flush, name, value)
    async with laboratory(tmp_path, journal=KEPT) as lab:
        await lab.put("before", b"data")
        await lab.services.journal.flusher.flush()
        with lab.services.manifest.journal_turn():
            await note(lab, 8000)
            await lab.services.journal.flusher.look()
            yield lab


async def test_what_must_wait_for_a_long_backlog_is_refused_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with behind(tmp_path, monkeypatch, MANY_NOTES=7000) as lab:
        noted = (await lab.services.manifest.journal_position()).noted
        upload = Upload(id="u", bucket_id=lab.bucket.id, key="k", tenant_id=lab.tenant.id, initiated_ms=0)  # type: ignore[arg-type]
        with pytest.raises(JournalBusy, match=r"nothing was done: 8,000 changes are to be stored in the journal first"):
            await lab.services.manifest.begin_upload(upload)
        with pytest.raises(JournalBusy, match="nothing was done"):
            await lab.put_promptly("empty", b"")
        assert (await lab.services.manifest.journal_position()).noted == noted
        await lab.put("k", b"data")  # it has a label
        await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("k"), marker_id="m", now_ms=0)  # type: ignore[arg-type]


async def test_what_is_made_and_must_wait_for_a_long_backlog_is_not_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with behind(tmp_path, monkeypatch, MANY_NOTES=7000) as lab:
        with pytest.raises(JournalBusy, match="this has been done, but it is not in the journal yet"):
            await lab.services.journal.flusher.stored()


async def test_nothing_is_changed_by_a_client_while_the_backlog_is_out_of_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with behind(tmp_path, monkeypatch, MOST_NOTES=7000) as lab:
        for key in ("k", "before"):
            with pytest.raises(JournalBusy, match="nothing was done"):
                await lab.put_promptly(key, b"data")
        with pytest.raises(JournalBusy, match="nothing was done"):
            await lab.services.manifest.delete_latest(
                lab.bucket.id,
                ObjectKey("before"),
                marker_id="m",  # type: ignore[arg-type]
                now_ms=0,
            )
        assert await lab.get("before") == b"data"


async def test_a_long_backlog_is_stored_in_bounded_flushes_and_larger_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with behind(tmp_path, monkeypatch, MANY_NOTES=100, SEGMENTS=2) as lab:
        pass
    async with laboratory(tmp_path, journal=KEPT) as lab:  # another process takes over
        journal, worker = lab.services.journal, lab.worker("journal")
        remaining = []
        for _ in range(4):
            progress = await worker.step()
            remaining.append(progress.remaining)
            if progress.idle:
                break
        assert remaining[-1] == 0
        await lab.put("empty", b"")
        found = await journal.reader.find("j/", identity=(await lab.services.manifest.find_epoch()).identity)
        segments = [(await store.read_segment(journal.reader, each)).segment for each in found.found]
        sizes = [sum(len(row.key[0]) for row in segment.rows if row.table == "store") for segment in segments]
        assert max(sizes) > flush.SEGMENT_BYTES * 2
        assert [segment.whole for segment in segments].count(False) >= 1


async def test_a_flush_of_another_process_ends_what_is_told_of_a_failure(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        for held in lab.stores.values():
            held.down = True
        with lab.no_time_for_the_journal(), pytest.raises(JournalUnavailable):
            await lab.put("empty", b"")
        flusher = lab.services.journal.flusher
        await flusher.flush()  # the one under way has ended, and failed
        async with laboratory(tmp_path, journal=KEPT) as other:
            await other.services.journal.flusher.flush()
            with other.services.manifest.journal_turn():
                await note(lab, 1)
                await flusher.flush()
        assert flusher.trouble == ""
