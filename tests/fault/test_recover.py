"""After the manifest is deleted, everything acknowledged is there again: from the journal, and from labels behind its end."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.clock import Clock, ManualClock
from proxy.codec.decode import DecodedSegment
from proxy.codec.format import shard_name
from proxy.config import Config, JournalConfig
from proxy.engine.epoch import STEP
from proxy.engine.journal.checkpointing import request_checkpoint
from proxy.engine.journal.reading import CopyReader, FoundCopy
from proxy.engine.recover.chain import Start, follow
from proxy.engine.recover.report import Report
from proxy.errors import JournalBroken, ManifestFenced, RecoveryRefused
from proxy.manifest.drafts import AttributeChange, CompletedPart
from proxy.manifest.plans.damage import DRAW_KEPT_MS
from proxy.manifest.records import BucketName, Layout, ObjectAttributes, ObjectKey, SegmentId
from proxy.manifest.recovery import Finding, Link
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.notebook import _NAMES, Notebook
from proxy.recovering import notebook_path, recover
from proxy.stores.protocol import ShardName, Store
from proxy.stores.root import MARKER
from tests.fault.test_epoch import copy_manifest
from tests.laboratory import BytesBody, Laboratory, laboratory, laboratory_config, stored

STORES = ("alder", "birch", "cedar", "dogwood", "elm", "fir")
JOURNAL = JournalConfig(interval_ms=3_600_000)
ALL = replace(JOURNAL, acknowledge="all")


def silence(phase: str, done: int, total: int | None) -> None:
    """Nobody watches."""


def lose_manifest(data: Path, to: Path, *, gone: tuple[str, ...] = ()) -> Path:
    """Copy the stores and the root key, and nothing else, as they are at this instant."""
    shutil.copytree(data / "stores", to / "stores")
    shutil.copy(data / "root.key", to / "root.key")
    for store in gone:
        shutil.rmtree(to / "stores" / store)
    return to


async def recover_in(data: Path, *, identity: str = "", resume: bool = False, clock: Clock | None = None) -> Report:
    return await recover(laboratory_config(data, journal=JOURNAL), silence, identity=identity, resume=resume, clock=clock)


@asynccontextmanager
async def recovered(lab_data: Path, *, gone: tuple[str, ...] = ()) -> AsyncIterator[tuple[Laboratory, Report]]:
    """A laboratory on what a recovery made of the stores of another."""
    data = lose_manifest(lab_data, lab_data.parent / "new", gone=gone)
    report = await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as lab:
        yield lab, report


async def test_everything_acknowledged_is_there_again(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        engine = lab.services.engine
        await lab.put("journaled", b"j" * 1000)
        await lab.put("deleted", b"d")
        await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("deleted"), marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
        upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("multipart"), ObjectAttributes())
        part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part" * 1000))
        await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
        pending = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("pending"), ObjectAttributes(headers={"ContentType": "a/b"}))
        source = await engine.find_version(lab.bucket, ObjectKey("journaled"))
        assert source is not None
        await engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), ObjectAttributes())
        await engine.change_attributes(lab.bucket, ObjectKey("copy"), source.id, AttributeChange(tags={"a": "b"}))
        await engine.put_bucket_setting(lab.bucket, "tagging", "{}")
        await lab.put("empty", b"")
        # Behind the end of the journal:
        await engine.upload_part(lab.bucket, lab.tenant, pending, 2, BytesBody(b"pending"))
        await lab.put("labelled", b"l" * 100_000)
        await lab.put("journaled", b"overwritten")
        async with recovered(tmp_path / "old") as (new, report):
            assert await new.get("journaled") == b"overwritten"
            assert await new.get("copy") == b"j" * 1000
            assert await new.get("multipart") == b"part" * 1000
            assert await new.get("labelled") == b"l" * 100_000
            assert await new.get("empty") == b""
            manifest = new.services.manifest
            assert await manifest.find_version(new.bucket.id, ObjectKey("deleted")) is None
            copy = await manifest.find_version(new.bucket.id, ObjectKey("copy"))
            assert copy is not None
            assert copy.attributes.tags == {"a": "b"}
            assert new.bucket == await lab.services.manifest.find_bucket(BucketName("bucket"))
            assert await manifest.list_tenants() == await lab.services.manifest.list_tenants()
            assert await manifest.list_access_keys(new.tenant.id) == await lab.services.manifest.list_access_keys(lab.tenant.id)
            again = await manifest.find_upload(new.bucket.id, ObjectKey("pending"), pending.id)
            assert again == pending
            assert [part.number for part in await manifest.list_parts(pending.id)] == [2]
            assert (report.versions_from_labels, report.parts_from_labels, report.findings) == (2, 1, ())
            assert report.unproved == ()
            await new.put("after", b"it goes on")
            await new.collect()
            assert await new.get("copy") == b"j" * 1000
            assert await new.get("labelled") == b"l" * 100_000


async def test_a_manifest_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=JOURNAL):
        pass
    with pytest.raises(RecoveryRefused, match=r"this manifest is not empty.*recover --resume"):
        await recover_in(tmp_path)


async def flush(lab: Laboratory) -> None:
    """Let the journal have everything."""
    assert lab.services.journal is not None
    await lab.services.journal.flusher.stored()


async def version_of(lab: Laboratory, key: str) -> object:
    return await lab.services.manifest.find_version(lab.bucket.id, ObjectKey(key))


def journal_files(data: Path, number: int | None = None) -> list[Path]:
    """Return the shards of one journal segment, or of all."""
    return sorted(path for path in (data / "stores").glob("*/j/*/[0-9]*") if number is None or int(path.name.split("-")[0]) == number)


def last_number(data: Path) -> int:
    return max(int(path.name.split("-")[0]) for path in journal_files(data))


@pytest.mark.parametrize("gone", [(), *itertools.combinations(STORES, 1)], ids=lambda gone: "+".join(gone) or "none")
async def test_with_any_store_gone_that_may_fail_nothing_is_missing_and_repair_makes_it_up(tmp_path: Path, gone: tuple[str, ...]) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("journaled", b"j" * 1000)
        await flush(lab)
        await lab.put("labelled", b"l" * 1000)
        async with recovered(tmp_path / "old", gone=gone) as (new, report):
            assert await new.get("journaled") == b"j" * 1000
            assert await new.get("labelled") == b"l" * 1000
            assert report.missing_shards == len(gone)  # of what was only labelled: what the journal knows may come back with its store
            assert [name for name, one in report.stores.items() if one.failure] == list(gone)
            assert len(report.unproved) == len(gone)
            new.clock.advance(3601)  # as long as a store that is only down is waited for
            while not (await new.worker("repair").step()).idle:
                new.clock.advance(61)
            assert (await new.services.manifest.count_damage()).by_store == {}
            assert await new.get("labelled") == b"l" * 1000


async def test_with_more_stores_gone_than_may_fail_nothing_is_changed(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        data = lose_manifest(tmp_path / "old", tmp_path / "new", gone=("alder", "birch"))
    with pytest.raises(RecoveryRefused, match=r"2 stores do not answer, and policy standard lets only .* fail at once.*alder.*birch"):
        await recover_in(data)
    for name in ("alder", "birch"):
        shutil.copytree(tmp_path / "old/stores" / name, data / "stores" / name)
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"x"


async def test_a_gap_in_the_journal_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        for number in range(3):
            await lab.put(f"k{number}", b"x")
            await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    last = last_number(data)
    for path in journal_files(data, last - 1)[:3]:
        path.unlink()
    with pytest.raises(JournalBroken, match=f"a gap: no segment {last - 1} follows segment {last - 2}"):
        await recover_in(data)
    async with open_sqlite(data / "manifest.sqlite", ManualClock()) as manifest:
        assert await manifest.is_blank()


async def test_two_manifests_that_wrote_to_the_same_stores_are_told(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        await flush(lab)
        two = lose_manifest(tmp_path / "old", tmp_path / "two")
        copy_manifest(tmp_path / "old", "copy.sqlite")
        shutil.copy(tmp_path / "old/copy.sqlite", two / "manifest.sqlite")
        for number in range(2):
            await lab.put(f"one{number}", b"x")
            await flush(lab)
        one = lose_manifest(tmp_path / "old", tmp_path / "one")
    async with laboratory(two, journal=JOURNAL) as lab:
        for number in range(2):
            await lab.put(f"two{number}", b"x")
            await flush(lab)
    shutil.copytree(two / "stores", one / "stores", dirs_exist_ok=True)
    with pytest.raises(JournalBroken, match="a fork"):
        await recover_in(one)


async def test_an_end_of_the_journal_that_too_few_stores_have_is_told_and_labels_are_read_behind_what_is_left(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        await flush(lab)
        await lab.put("later", b"y")
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    last = last_number(data)
    for path in journal_files(data, last)[:3]:
        path.unlink()
    report = await recover_in(data)
    assert report.journal.number == last - 1
    assert [f"journal segment {last} is listed by" in doubt for doubt in report.unproved] == [True]
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("later") == b"y"
        await new.put("after", b"z")
        await flush(new)
        again = lose_manifest(data, tmp_path / "again")
    assert (await recover_in(again)).journal.number >= last, "the torn segment and its successor are no fork"


@pytest.mark.parametrize("liar", STORES)
async def test_one_store_that_hides_or_makes_up_a_journal_changes_nothing(tmp_path: Path, liar: str) -> None:
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        await lab.put("k", b"old")
        await lab.put("gone", b"gone")
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("gone"))
        await lab.put("k", b"new")
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    last = last_number(data)
    for path in (data / "stores" / liar).glob("j/*/*"):
        if path.name.startswith(f"{last:020d}"):
            for number, content in ((last + 1, path.read_bytes()), (last + 2, b"made up"), (last - 1, bytes(1000))):
                path.with_name(path.name.replace(f"{last:020d}", f"{number:020d}")).write_bytes(content)
            path.unlink()
    report = await recover_in(data)
    assert report.journal.number == last
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"new"
        assert await version_of(new, "gone") is None


async def test_what_another_manifest_of_another_root_key_has_there_does_not_matter(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "other", journal=JOURNAL) as lab:
        await lab.put("other", b"x")
        await flush(lab)
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    shutil.copytree(tmp_path / "other/stores", data / "stores", dirs_exist_ok=True)
    report = await recover_in(data)
    assert report.finding_counts == {"unread": 1}
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"x"


async def test_a_wrong_root_key_is_told(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "other"):
        pass
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    shutil.copy(tmp_path / "other/root.key", data / "root.key")
    with pytest.raises(RecoveryRefused, match="this root key opens none of them"):
        await recover_in(data)


@pytest.mark.parametrize("phase", ["listings", "journal", "rows", "labels", "versions", "shards"])
async def test_a_recovery_that_is_killed_goes_on_and_nobody_takes_the_half_for_the_whole(
    tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("labels", "labelled", "shards"):
        monkeypatch.setattr(f"proxy.engine.recover.{module}.BATCH", 2)
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        for number in range(4):
            await lab.put(f"journaled{number}", b"%d" % number)
            await flush(lab)
        for number in range(6):
            await lab.put(f"labelled{number}", b"%d" % number)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")

    class Killed(Exception):
        pass

    def kill(heard: str, done: int, total: int | None) -> None:
        if heard == phase and done >= 2:
            raise Killed

    with pytest.raises(Killed):
        await recover(laboratory_config(data, journal=JOURNAL), kill)
    async with open_sqlite(data / "manifest.sqlite", ManualClock()) as manifest:
        fence = (await manifest.find_epoch()).fence
        assert await manifest.is_blank() or "has not come to its end" in fence
    with pytest.raises(RecoveryRefused, match="without --resume" if fence else "nothing to resume"):
        await recover_in(data, resume=True)
    report = await recover_in(data)
    assert (report.versions_from_labels, report.findings) == (6, ())
    assert not notebook_path(laboratory_config(data)).exists()
    async with laboratory(data, journal=JOURNAL) as new:
        for number in range(4):
            assert await new.get(f"journaled{number}") == b"%d" % number
        for number in range(6):
            assert await new.get(f"labelled{number}") == b"%d" % number
        await new.collect()
        assert len(await new.shards()) == 10 * 6


async def test_what_comes_back_from_labels_is_in_the_journal_of_the_new_manifest(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("journaled", b"j")
        await flush(lab)
        await lab.put("labelled", b"l")
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        await flush(new)
        again = lose_manifest(data, tmp_path / "again")
    report = await recover_in(again)
    assert report.versions_from_labels == 0
    async with laboratory(again, journal=JOURNAL) as new:
        assert (await new.get("journaled"), await new.get("labelled")) == (b"j", b"l")


async def test_a_recovery_asks_for_a_checkpoint_so_that_the_next_one_has_less_to_read(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"k")
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        while not (await new.worker("checkpoint").step()).idle:
            pass
        again = lose_manifest(data, tmp_path / "again")
    report = await recover_in(again)
    assert report.journal.checkpoint
    assert report.versions_from_labels == 0


async def test_an_old_copy_catches_up_and_is_written_again(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=ALL) as lab:
        await lab.put("before", b"b")
        await lab.put("deleted", b"d")
        await flush(lab)
        copy_manifest(tmp_path, "copy.sqlite")
        lab.clock.advance(61)
        await lab.put("journaled", b"j")
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("deleted"))
        await lab.worker("epoch").step()
        await flush(lab)
        await lab.put("labelled", b"l")
        data = lose_manifest(tmp_path, tmp_path / "new")
    shutil.copy(tmp_path / "copy.sqlite", data / "manifest.sqlite")
    async with laboratory(data, journal=JOURNAL) as old:
        with pytest.raises(ManifestFenced, match="older copy"):
            await old.put("k", b"x")
    report = await recover_in(data, resume=True)
    assert (report.journal.checkpoint, report.versions_from_labels) == (None, 1)
    async with laboratory(data, journal=JOURNAL) as new:
        assert [await new.get(key) for key in ("before", "journaled", "labelled")] == [b"b", b"j", b"l"]
        assert await version_of(new, "deleted") is None
        await new.put("k", b"x")
        await new.collect()
        assert await new.get("labelled") == b"l"


async def test_there_is_nothing_to_resume_where_the_manifest_is_the_newest(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=JOURNAL):
        pass
    with pytest.raises(RecoveryRefused, match="nothing to resume"):
        await recover_in(tmp_path, resume=True)


async def test_a_lease_that_was_alive_is_forgotten_and_what_was_written_under_it_is_not_collected(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        await flush(lab)
        await lab.put("labelled", b"l")
        async with recovered(tmp_path / "old") as (new, _):
            for _ in range(3):
                new.clock.advance(24 * 3600 + 1)
                await new.run_collector()
            assert await new.get("labelled") == b"l"


def link(number: int, name: str, previous: str, **changes: object) -> Link:
    layout = Layout(size=1, k=1, m=0, tenant_key_id="", wrapped_key=b"", segments=())
    fields = {"epoch": 1, "sequence": number, "whole": True, "made_ms": 0, "size_bytes": 1, "layout": layout, **changes}
    return Link(number=number, segment_id=SegmentId(name.encode()), digest=name.encode(), previous=previous.encode(), **fields)  # type: ignore[arg-type]


START = Start(4, b"a")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], []),
        ([link(5, "b", "a"), link(6, "c", "b")], ["b", "c"]),
        ([link(4, "a", "z"), link(5, "b", "a")], ["b"]),  # what is before the start does not matter
        ([link(5, "b", "a"), link(5, "B", "a"), link(6, "c", "B")], ["B", "c"]),  # who is named by the next one counts
        ([link(5, "b", "a", sequence=9), link(5, "B", "a", sequence=10)], ["B"]),  # at the end the one that has more
        ([link(5, "b", "a", epoch=2), link(5, "B", "a", epoch=1)], ["b"]),
        ([link(5, "b", "a", epoch=2), link(5, "B", "a", epoch=1, sequence=9)], ["b"]),  # late, of the manifest before a recovery
        ([link(5, "b", "a"), link(5, "B", "a", sequence=9, whole=False)], ["b"]),
        ([link(5, "b", "a"), link(6, "c", "b", whole=False)], ["b"]),  # behind the last whole one nothing was acknowledged
        ([link(5, "b", "a", whole=False), link(6, "c", "b")], ["b", "c"]),
    ],
)
def test_the_journal_is_what_follows_the_start(found: list[Link], expected: list[str]) -> None:
    assert [one.digest.decode() for one in follow(START, found).links] == expected
    assert [one.digest.decode() for one in follow(START, found[::-1]).links] == expected


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([link(6, "c", "b")], "a gap: no segment 5 follows segment 4, and there are 1 segments from number 6 to 6"),
        ([link(5, "b", "a"), link(7, "d", "c")], "a gap: no segment 6 follows segment 5"),
        ([link(5, "b", "other")], "a gap: no segment 5 follows segment 4"),
        ([link(5, "b", "a"), link(6, "c", "other")], "a gap: no segment 6"),
        ([link(5, "b", "a"), link(5, "B", "a"), link(6, "c", "b"), link(6, "C", "B")], "a fork: there are 2 segments 5"),
        ([link(5, "b", "a"), link(6, "c", "b"), link(6, "C", "hidden")], "a fork: segment 6 of epoch 1 does not follow the segment 5"),
    ],
)
def test_a_gap_or_a_fork_is_never_guessed_over(found: list[Link], reason: str) -> None:
    with pytest.raises(JournalBroken, match=reason):
        follow(START, found)


async def checkpoint(lab: Laboratory) -> None:
    await request_checkpoint(lab.services.manifest)
    while not (await lab.worker("checkpoint").step()).idle:
        pass


@pytest.mark.parametrize("acknowledge", ["needed", "all"])
async def test_a_checkpoint_and_the_journal_behind_it_are_enough(tmp_path: Path, acknowledge: str) -> None:
    async with laboratory(tmp_path / "old", journal=replace(JOURNAL, acknowledge=acknowledge)) as lab:
        for number in range(5):
            await lab.put(f"old{number}", b"%d" % number)
        await checkpoint(lab)
        await lab.put("old0", b"anew")
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("old1"))
        await flush(lab)
        await lab.put("labelled", b"l")
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    made = max(int(path.name.split("-")[0]) for path in (data / "stores").glob("*/c/*/*"))
    for path in journal_files(data):
        if int(path.name.split("-")[0]) < made:
            path.unlink()
    report = await recover_in(data)
    assert (report.journal.checkpoint, report.versions_from_labels) == (made, 1)
    async with laboratory(data, journal=JOURNAL) as new:
        assert [await new.get(f"old{number}") for number in (0, 2, 3, 4)] == [b"anew", b"2", b"3", b"4"]
        assert await version_of(new, "old1") is None
        assert await new.get("labelled") == b"l"
        await checkpoint(new)
        await new.put("after", b"a")
        again = lose_manifest(data, tmp_path / "again")
    await recover_in(again)
    async with laboratory(again, journal=JOURNAL) as new:
        assert [await new.get(key) for key in ("old0", "labelled", "after")] == [b"anew", b"l", b"a"]


@pytest.mark.parametrize("part", ["c", "r"])
async def test_a_checkpoint_that_is_not_whole_makes_way_for_an_older_one(tmp_path: Path, part: str) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("first", b"1")
        await checkpoint(lab)
        await lab.put("second", b"2")
        await checkpoint(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    numbers = sorted({int(path.name.split("-")[0]) for path in (data / "stores").glob(f"*/{part}/*/*")})
    for path in sorted((data / "stores").glob(f"*/{part}/*/*")):
        if int(path.name.split("-")[0]) == numbers[-1] and path.parts[-4] in STORES[:3]:
            path.unlink()
    report = await recover_in(data)
    assert report.journal.checkpoint is not None
    assert report.journal.checkpoint < numbers[-1]
    async with laboratory(data, journal=JOURNAL) as new:
        assert [await new.get(key) for key in ("first", "second")] == [b"1", b"2"]


@pytest.mark.parametrize("copies", ["a change that nobody else has", "a change that the journal has"])
async def test_what_an_old_copy_alone_has_changed_does_not_come_with_it(tmp_path: Path, copies: str) -> None:
    async with laboratory(tmp_path / "once", journal=JOURNAL) as lab:
        await lab.put("k", b"k")
        await flush(lab)
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("k"))
        copy_manifest(tmp_path / "once", "copy.sqlite")
        if copies == "a change that the journal has":
            await flush(lab)
        data = lose_manifest(tmp_path / "once", tmp_path / "twice")
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as lab:
        before = await version_of(lab, "k")
        await lab.put("other", b"o")
        await flush(lab)
        again = lose_manifest(data, tmp_path / "again")
    shutil.copy(tmp_path / "once" / "copy.sqlite", again / "manifest.sqlite")
    async with laboratory(again, journal=JOURNAL) as lab:
        with pytest.raises(ManifestFenced):
            await lab.put("k", b"x")
    await recover_in(again, resume=True)
    async with laboratory(again, journal=JOURNAL) as lab:
        await lab.collect()
        assert (await version_of(lab, "k") is None) == (before is None) == (copies == "a change that the journal has")
        assert before is None or await lab.get("k") == b"k"
        assert await lab.get("other") == b"o"


async def test_an_old_copy_whose_journal_is_gone_is_filled_anew_from_a_checkpoint(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=ALL) as lab:
        await lab.put("deleted", b"d")
        await flush(lab)
        copy_manifest(tmp_path, "copy.sqlite")
        lab.clock.advance(61)
        await lab.put("new", b"n")
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("deleted"))
        await lab.worker("epoch").step()
        await checkpoint(lab)
        data = lose_manifest(tmp_path, tmp_path / "new")
    made = max(int(path.name.split("-")[0]) for path in (data / "stores").glob("*/c/*/*"))
    for path in journal_files(data):
        if int(path.name.split("-")[0]) < made:
            path.unlink()
    shutil.copy(tmp_path / "copy.sqlite", data / "manifest.sqlite")
    async with laboratory(data, journal=JOURNAL):
        pass
    assert (await recover_in(data, resume=True)).journal.checkpoint == made
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("new") == b"n"
        assert await version_of(new, "deleted") is None


async def test_data_that_was_moved_to_another_policy_is_no_second_version(tmp_path: Path) -> None:
    """Its shards are in the stores twice, under equal labels and other data keys."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x" * 1000)
        await flush(lab)
        before = {path.name for path in (tmp_path / "old/stores").glob("*/*/*")}
        last = last_number(tmp_path / "old")
        order = lab.services.engine._order
        order.next = lambda: order._last  # type: ignore[method-assign] - as a move does, which keeps the record
        await lab.put("k", b"x" * 1000)
        moved = [path for path in (tmp_path / "old/stores").glob("*/[0-9a-f][0-9a-f]/*") if path.name not in before]
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
        assert len(moved) == 6
    for number in range(last + 1, last_number(data) + 1):
        for path in journal_files(data, number):
            path.unlink()
    report = await recover_in(data)
    assert (report.versions_from_labels, report.finding_counts) == (0, {"superseded": 1})
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"x" * 1000
        assert await new.garbage() == 0


async def test_a_shard_that_moved_behind_the_end_of_the_journal_is_found_and_stays(tmp_path: Path) -> None:
    """The journal knows of the move that was begun, and not of its end: then the draw would expire, and take the new shard away."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x" * 1000)
        found = await lab.services.engine.find_readable(lab.bucket, ObjectKey("k"))
        assert found is not None
        (extent,) = found.extents
        (segment,) = extent.layout.segments
        where, to = segment.stores[0], {0: segment.stores[0]}
        await lab.services.manifest.draw_generation(extent.id, segment.id, to, expires_ms=lab.clock.now_ms() + 1000)
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    before = data / "stores" / where / segment.shard_name(0)
    shard = before.read_bytes()
    before.with_name(before.name + ".1").write_bytes(shard[:-8] + (1).to_bytes(4, "big") + shard[-4:])
    before.unlink()
    assert (await recover_in(data, clock=ManualClock())).missing_shards == 0
    async with laboratory(data, journal=JOURNAL) as new:
        for _ in range(4):
            new.clock.advance(24 * 3600 + 1)
            await new.services.manifest.revoke_expired_draws(now_ms=new.clock.now_ms())
            await new.run_collector()
        moved = await new.services.engine.find_readable(new.bucket, ObjectKey("k"))
        assert moved is not None
        assert (moved.extents[0].layout.segments[0].generations[0], moved.extents[0].layout.segments[0].drawn) == (1, 1)
        assert len(await new.shards()) == 6
        for store in STORES:
            new.stores[store].down = store not in {where, *segment.stores[1:4]}
        assert await new.get("k") == b"x" * 1000


async def begin_move(lab: Laboratory) -> tuple[str, str]:
    """Draw a generation for the first shard of "k", as a move does that is under way; return the store, and the name it will have."""
    extent, segment = await stored(lab)
    store, due_ms = segment.stores[0], lab.clock.now_ms() + 1000
    drawn = await lab.services.manifest.draw_generation(extent.id, segment.id, {0: store}, expires_ms=due_ms)
    assert drawn is not None
    return store, shard_name(segment.id, 0, drawn.drawn)


@pytest.mark.parametrize("arrives", ["before the recovery", "after it, and once more after it was deleted"])
async def test_what_a_move_has_put_that_was_under_way_is_deleted_even_if_it_comes_late(tmp_path: Path, arrives: str) -> None:
    """The put may have reached a store that hangs: the processes are dead, the manifest is lost, and then it is carried out."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x" * 1000)
        store, name = await begin_move(lab)
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    path = data / "stores" / store / name
    shard = path.with_name(path.name.removesuffix(".1")).read_bytes()
    put = partial(path.write_bytes, shard[:-8] + (1).to_bytes(4, "big") + shard[-4:])
    if arrives == "before the recovery":
        put()
    await recover_in(data, clock=ManualClock())
    async with laboratory(data, journal=JOURNAL) as new:
        extent, segment = await stored(new)
        assert (segment.generations, segment.drawn, segment.strays) == ((), 1, False)
        found = await new.services.manifest.find_damaged(extent.id, segment.id)
        assert found is not None
        assert (found.drawn, [left.name for left in found.leftovers]) == (False, [name]), "its place counts as taken"
        put()
        new.clock.advance(1)
        await new.run_collector()
        assert not path.exists()
        put()
        new.clock.advance(DRAW_KEPT_MS / 1000 + 1)
        await new.run_collector()
        assert not path.exists()
        assert len(await new.shards()) == 6
        assert await new.get("k") == b"x" * 1000


async def test_what_a_move_has_put_of_a_segment_that_is_gone_is_deleted(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        await lab.put("k", b"x" * 1000)
        store, name = await begin_move(lab)
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("k"))
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    await recover_in(data)
    (data / "stores" / store / name).write_bytes(b"x")
    async with laboratory(data, journal=JOURNAL) as new:
        await new.collect()
        assert await new.shards() == set()


async def test_a_shard_that_is_to_be_deleted_is_not_taken_for_the_one_that_is_lost(tmp_path: Path) -> None:
    """A move was given up, and its store has kept what it refused. That shard is as good as the one it was made of, but not for long."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x" * 1000)
        store, name = await begin_move(lab)
        extent, segment = await stored(lab)
        await lab.services.manifest.give_up_draw(extent.id, segment.id, {0: store}, 1, now_ms=lab.clock.now_ms())
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    path = data / "stores" / store / name
    path.with_name(path.name.removesuffix(".1")).rename(path)
    assert (await recover_in(data)).missing_shards == 1
    async with laboratory(data, journal=JOURNAL) as new:
        await new.collect()
        assert not path.exists()
        _, segment = await stored(new)
        assert (segment.missing, segment.generations, segment.strays) == ((0,), (), False)


@pytest.mark.parametrize(("gone", "expected"), [((), 1), (("elm",), 1 + STEP)])
async def test_the_epoch_goes_on_where_it_was_and_a_store_that_comes_back_raises_no_alarm(
    tmp_path: Path, gone: tuple[str, ...], expected: int
) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        before = (await lab.services.manifest.find_epoch()).number
        data = lose_manifest(tmp_path / "old", tmp_path / "new", gone=gone)
    assert (await recover_in(data)).epoch == before + expected
    for name in gone:
        shutil.copytree(tmp_path / "old/stores" / name, data / "stores" / name)
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"x"
        await new.put("after", b"y")


async def test_a_journal_that_was_rolled_back_in_all_stores_is_told(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=ALL) as lab:
        await lab.put("k", b"old")
        await flush(lab)
    last = last_number(tmp_path)
    async with laboratory(tmp_path, journal=ALL) as lab:
        await lab.services.engine.delete_latest(lab.bucket, ObjectKey("k"))
        data = lose_manifest(tmp_path, tmp_path / "new")
        whole = lose_manifest(tmp_path, tmp_path / "whole")
    for path in journal_files(data):
        if int(path.name.split("-")[0]) > last:
            path.unlink()
    doubts = (await recover_in(data)).unproved
    assert [doubt.partition(":")[0] for doubt in doubts] == ["the stores have seen epoch 2, and the journal ends in epoch 1"]
    assert (await recover_in(whole)).unproved == ()


async def test_a_manifest_that_is_lost_right_after_a_start_leaves_no_doubt_about_the_journals_end(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        assert await lab.get("k") == b"x"
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    report = await recover_in(data)
    assert (report.unproved, report.journal.epoch) == ((), 2)


async def test_what_the_journal_knows_and_too_few_shards_are_left_of_is_told_by_key(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        version = await lab.put("lost/key", b"x")
        await lab.put("kept", b"y")
        upload = await lab.services.engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("u"), ObjectAttributes())
        part = await lab.services.engine.upload_part(lab.bucket, lab.tenant, upload, 7, BytesBody(b"p"))
        await flush(lab)
        extents = await lab.services.manifest.load_extents([version.extents[0].id, part.extents[0].id])
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    for extent in extents:
        (segment,) = extent.layout.segments
        for index in range(3):
            (data / "stores" / segment.stores[index] / segment.shard_name(index)).unlink()
    report = await recover_in(data)
    assert {(one.sort, one.subject) for one in report.findings} == {
        ("lost", "bucket/lost/key (version null)"),
        ("lost", f"part 7 of upload {upload.id}"),
    }
    assert all("has 3 shards of the 4 needed" in one.reason for one in report.findings)
    assert report.missing_shards == 6


async def test_a_refused_recovery_looks_at_the_stores_anew_when_it_is_run_again(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        for number in range(3):
            await lab.put(f"k{number}", b"x")
            await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    gap = journal_files(data, last_number(data) - 1)
    for path in gap:
        path.rename(data / path.parts[-4])
    with pytest.raises(JournalBroken):
        await recover_in(data)
    for path in gap:
        (data / path.parts[-4]).rename(path)
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k2") == b"x"


@pytest.mark.parametrize("phase", ["listings", "journal", "versions", "shards"])
async def test_the_notebook_that_an_earlier_recovery_left_is_not_believed(tmp_path: Path, phase: str) -> None:
    class Killed(Exception):
        pass

    def kill(heard: str, done: int, total: int | None) -> None:
        if heard == phase:
            raise Killed

    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("early", b"e")
        await flush(lab)
        await lab.put("labelled", b"l")
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
        with pytest.raises(Killed):
            await recover(laboratory_config(data, journal=JOURNAL), kill)
        await lab.put("late", b"precious")
        shutil.rmtree(data / "stores")
        shutil.copytree(tmp_path / "old/stores", data / "stores")
    for path in data.glob("manifest.sqlite*"):
        if not path.name.endswith("-recovery"):
            path.unlink()
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        assert [await new.get(key) for key in ("early", "labelled", "late")] == [b"e", b"l", b"precious"]


def test_a_notebook_that_begins_anew_holds_nothing(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "notebook")
    notebook.save("history", b"x")
    notebook.add_findings([Finding(sort="lost", subject="s", reason="r")])
    before = notebook.identify()
    notebook.begin_anew()
    tables = {name for (name,) in notebook._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == set(_NAMES)
    assert notebook.load("history") is None
    assert notebook.count_findings() == {}
    assert notebook.identify() != before
    notebook.close()


async def test_after_a_restart_with_the_clock_set_back_the_last_write_still_counts(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        upload = await lab.services.engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("m"), ObjectAttributes())
        await lab.put("k", b"before")
        await lab.services.engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"before"))
    async with laboratory(tmp_path / "old", now_ms=lab.clock.now_ms() - 3_600_000, journal=JOURNAL) as lab:
        await lab.put("k", b"after")
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
        part = await lab.services.engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"after"))
        later = lose_manifest(tmp_path / "old", tmp_path / "later")
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"after"
    await recover_in(later)
    async with laboratory(later, journal=JOURNAL) as new:
        assert [found.etag for found in await new.services.manifest.list_parts(upload.id)] == [part.etag]


async def test_a_write_behind_a_deletion_that_is_not_in_the_journal_counts_though_the_clock_was_set_back(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"before")
        await flush(lab)
    async with laboratory(tmp_path / "old", now_ms=lab.clock.now_ms() - 3_600_000, journal=JOURNAL) as lab:
        with lab.services.manifest.journal_turn():  # the worker stores nothing meanwhile
            await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("k"), marker_id="m", now_ms=0)  # type: ignore[arg-type]
        await lab.put("k", b"after")
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"after"


async def test_names_that_one_store_makes_up_in_great_number_hold_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("early", b"e")
        await checkpoint(lab)
        await lab.put("late", b"l")
        await flush(lab)
        identity = (await lab.services.manifest.find_epoch()).identity
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    for number in range(300):
        far = 10**6 + number
        for folder, named in (
            (f"j/{identity}", 5),
            (f"j/{identity}", far),
            (f"c/{identity}", 0),
            (f"c/{identity}", far),
            (f"j/{far:032x}", far),
        ):
            path = data / "stores/elm" / folder / f"{named:020d}-{number:032x}-00"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"made up")
    decoded = []
    decode = CopyReader.decode

    async def counted(self: CopyReader, copy: FoundCopy) -> DecodedSegment:
        decoded.append(copy)
        return await decode(self, copy)

    monkeypatch.setattr(CopyReader, "decode", counted)
    report = await recover_in(data)
    assert report.journal.checkpoint is not None
    assert len(decoded) < 600, "of 1,500 that are made up, each of which was tried several times"
    assert len(report.unproved) < 30
    async with laboratory(data, journal=JOURNAL) as new:
        assert [await new.get(key) for key in ("early", "late")] == [b"e", b"l"]


async def test_stores_that_do_not_list_the_journal_are_asked_again_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        await flush(lab)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    real, failures = CopyReader._list, dict.fromkeys(("alder", "elm"), 10)

    async def failing(self: CopyReader, store: Store, prefix: str, timeout_seconds: float | None) -> list[ShardName] | None:
        name = str(store.info.name)
        if failures.get(name, 0):
            failures[name] -= 1
            return None
        return await real(self, store, prefix, timeout_seconds)

    monkeypatch.setattr(CopyReader, "_list", failing)
    with pytest.raises(RecoveryRefused, match="did not list its part of the journal"):
        await recover_in(data)
    failures = {"alder": 2, "elm": 1}
    assert (await recover_in(data)).unproved == ()
    failures = {"alder": 10}
    (data / "manifest.sqlite").unlink()
    assert (await recover_in(data)).unproved[0] == "store alder did not list its part of the journal"


async def test_stores_that_have_other_names_than_before_are_searched_for_what_the_others_held(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("journaled", b"j" * 1000)
        await flush(lab)
        await lab.put("labelled", b"l" * 1000)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")

    def renamed(config: Config) -> Config:
        return replace(config, stores={f"{name}-two": store for name, store in config.stores.items()})

    for store in STORES:
        (data / "stores" / store / MARKER).write_text(f"{store}-two")
    report = await recover(renamed(laboratory_config(data, journal=JOURNAL)), silence)
    assert (report.missing_shards, report.finding_counts) == (0, {})
    async with laboratory(data, journal=JOURNAL, adjust=renamed) as new:
        assert [await new.get(key) for key in ("journaled", "labelled")] == [b"j" * 1000, b"l" * 1000]


async def test_of_two_recoveries_at_once_one_is_refused(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"x")
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    others: list[asyncio.Task[Report]] = []

    def begin_another(phase: str, done: int, total: int | None) -> None:
        if not others:
            others.append(asyncio.ensure_future(recover_in(data)))

    await recover(laboratory_config(data, journal=JOURNAL), begin_another)
    with pytest.raises(RecoveryRefused, match="another recovery is under way"):
        await others[0]
    async with laboratory(data, journal=JOURNAL) as new:
        assert await new.get("k") == b"x"


async def test_the_journal_goes_on_from_an_end_that_survives_a_store_though_its_writer_died_in_the_middle(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        await lab.put("k", b"k")
        await lab.services.engine.change_attributes(lab.bucket, ObjectKey("k"), None, AttributeChange(tags={"colour": "green"}))
    data = lose_manifest(tmp_path / "old", tmp_path / "once")
    holders = sorted(data.glob("stores/*/j/*/*"), key=lambda path: path.name)[-6:]
    for shard in holders[:2]:
        shard.unlink()
    await recover_in(data)
    async with laboratory(data, journal=ALL) as lab:
        await lab.services.engine.change_attributes(lab.bucket, ObjectKey("k"), None, AttributeChange(tags={"colour": "red"}))
    again = lose_manifest(data, tmp_path / "twice", gone=(holders[2].relative_to(data / "stores").parts[0],))
    await recover_in(again)
    async with laboratory(again, journal=ALL) as lab:
        version = await lab.services.engine.find_version(lab.bucket, ObjectKey("k"))
        assert version is not None
        assert version.attributes.tags == {"colour": "red"}


async def test_a_recovery_ends_with_a_journal_segment_so_that_the_next_one_finds_the_same_end(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lab.put("k", b"k")
    data = lose_manifest(tmp_path / "old", tmp_path / "new")
    numbers = {path.name[:20] for path in data.glob("stores/*/j/*/*")}
    report = await recover_in(data)
    assert {path.name[:20] for path in data.glob("stores/*/j/*/*")} - numbers == {f"{report.journal.number + 1:020d}"}
    assert not report.unproved
