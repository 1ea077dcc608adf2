"""Labels alone give versions and parts back, into a manifest that knows tenants and buckets and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.format import is_shard_name, shard_name
from proxy.engine.recover import bounds, listing
from proxy.engine.recover.labelled import LabelledRecovery, Place
from proxy.engine.recover.listing import list_stores
from proxy.engine.recover.notes import Notes, Tell, open_notes
from proxy.engine.recover.shards import check_shards
from proxy.errors import RecoveryRefused, StoreUnavailable
from proxy.manifest.drafts import CompletedPart, Conditions, VersionDraft
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketName, ExtentId, ObjectAttributes, ObjectKey, VersionId
from proxy.manifest.recovery import Finding
from proxy.manifest.sqlite import open_sqlite, room
from proxy.manifest.sqlite.notebook import Notebook
from proxy.stores.protocol import ShardName
from tests.laboratory import BytesBody, Laboratory, laboratory

STORES = ("alder", "birch", "cedar", "dogwood", "elm", "fir")


def silence(phase: str, done: int, total: int | None) -> None:
    """Nobody watches."""


@asynccontextmanager
async def blank_manifest(lab: Laboratory, path: Path) -> AsyncIterator[Manifest]:
    """A manifest that has the laboratory's tenant and bucket, as a journal would give them back."""
    async with open_sqlite(path, lab.clock, timeout_seconds=30) as manifest:
        await manifest.add_tenant(lab.tenant)
        await manifest.create_bucket(lab.bucket)
        yield manifest


async def recover(lab: Laboratory, manifest: Manifest, notes: Notes, tell: Tell = silence) -> Place:
    """List all stores that answer, and bring back what labels tell of."""
    listed = await list_stores(lab.services.stores, notes, tell)
    silent = {name for name, one in listed.items() if one.failure}
    with ThreadPoolExecutor(2) as threads:
        place = await LabelledRecovery(
            manifest=manifest,
            keyring=lab.services.keyring,
            fleet=lab.services.fleet,
            policies=lab.services.policies,
            clock=lab.clock,
            notes=notes,
            threads=threads,
            tell=tell,
        ).run(silent)
    await check_shards(manifest, notes, lab.clock, tell, silent=silent, configured=lab.stores)
    return place


@asynccontextmanager
async def recovered(lab: Laboratory, folder: Path) -> AsyncIterator[tuple[Manifest, tuple[Finding, ...]]]:
    async with blank_manifest(lab, folder / "new.sqlite") as manifest, open_notes(folder / "notes.sqlite") as notes:
        await recover(lab, manifest, notes)
        yield manifest, await notes.run(Notebook.findings, 100)


async def the_bucket(lab: Laboratory) -> Bucket:
    found = await lab.services.manifest.find_bucket(lab.bucket.name)
    assert found is not None
    return found


async def read(lab: Laboratory, manifest: Manifest, key: str) -> bytes:
    version = await manifest.find_version(lab.bucket.id, ObjectKey(key))
    assert version is not None, key
    extents = await manifest.load_extents([ref.id for ref in version.extents])
    reading = await lab.services.engine.open_read(version, lab.tenant, 0, version.size, extents=extents)
    return b"".join([bytes(piece) async for piece in reading])


async def test_objects_of_one_and_of_many_segments_come_back_byte_for_byte(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        objects = {"small": b"s", "awkward/../ö %20": b"x" * 1000, "large": bytes(range(256)) * 4096 * 40}
        for key, data in objects.items():
            await lab.put(key, data)
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert {key: await read(lab, manifest, key) for key in objects} == objects
            assert findings == ()


@pytest.mark.parametrize("gone", [*itertools.combinations(STORES, 1), ("alder", "fir"), ("cedar", "elm")], ids="+".join)
async def test_stores_that_are_gone_cost_nothing_but_redundancy(tmp_path: Path, gone: tuple[str, ...]) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"data" * 50_000)
        for name in gone:
            lab.stores[name].down = True
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert await read(lab, manifest, "k") == b"data" * 50_000
            assert findings == ()
            damage = await manifest.count_damage()
            assert {store for store, kind in damage.by_store if kind == "missing"} == set(gone)
            (extent,) = await manifest.walk_extents(after=ExtentId(0), limit=9)
            (segment,) = extent.layout.segments
            assert sorted(segment.stores) == sorted(lab.stores)
            assert segment.strays == (len(gone) > 1), "which of the two has which shard is not known"


async def test_the_last_of_two_writes_wins_within_one_millisecond_and_over_a_clock_set_back(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        for number in range(6):
            await lab.put("same", b"%d" % number)
        await lab.put("back", b"before")
        lab.clock.advance(-24 * 3600)
        await lab.put("back", b"after")
        async with recovered(lab, tmp_path) as (manifest, _):
            assert await read(lab, manifest, "same") == b"5"
            assert await read(lab, manifest, "back") == b"after"
            assert len(await manifest.walk_extents(after=ExtentId(0), limit=100)) == 2, "what was replaced is garbage"


async def test_versions_keep_their_ids_and_their_order_though_the_journal_does_not_know_of_versioning(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"null")
        unversioned = lab.bucket
        await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
        lab.bucket = await the_bucket(lab)
        ids = [(await lab.put("k", b"%d" % number)).id for number in range(3)]
        lab.bucket = unversioned
        async with recovered(lab, tmp_path) as (manifest, findings):
            page = await manifest.list_versions(lab.bucket.id, prefix="", delimiter="", after_key="", after_version="", limit=9)
            assert [version.id for version in page.versions] == [*reversed(ids), "null"]
            assert [version.is_latest for version in page.versions] == [True, False, False, False]
            assert findings == ()


async def test_where_versioning_was_on_in_the_journal_a_version_keeps_the_id_that_was_drawn(tmp_path: Path) -> None:
    """Its writer saw none, its commit did: taken for the null version it would replace another."""
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"older")
        await lab.put("k", b"newer")
        await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
        lab.bucket = await the_bucket(lab)
        async with recovered(lab, tmp_path) as (manifest, _):
            page = await manifest.list_versions(lab.bucket.id, prefix="", delimiter="", after_key="", after_version="", limit=9)
            assert len({version.id for version in page.versions} - {"null"}) == 2
            assert await read(lab, manifest, "k") == b"newer"


async def test_parts_come_back_into_their_upload_and_complete_it(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        engine = lab.services.engine
        upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("k"), ObjectAttributes())
        large = b"p" * (5 * 1024 * 1024)
        await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"replaced" * 700_000))
        parts = [
            await engine.upload_part(lab.bucket, lab.tenant, upload, number, BytesBody(data)) for number, data in ((1, large), (2, b"end"))
        ]
        async with blank_manifest(lab, tmp_path / "new.sqlite") as manifest, open_notes(tmp_path / "notes.sqlite") as notes:
            await manifest.begin_upload(upload)
            await recover(lab, manifest, notes)
            again = await manifest.list_parts(upload.id)
            assert [(part.number, part.etag, part.size) for part in again] == [(part.number, part.etag, part.size) for part in parts]
            listed = [CompletedPart(number=part.number, etag=part.etag) for part in again]
            draft = VersionDraft(
                bucket_id=lab.bucket.id, key=ObjectKey("k"), id=VersionId("v"), size=len(large) + 3, modified_ms=lab.clock.now_ms()
            )
            await manifest.complete_upload(upload.id, listed, draft)
            assert await read(lab, manifest, "k") == large + b"end"


async def test_parts_of_an_upload_that_is_over_are_told_and_left(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        engine = lab.services.engine
        upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("k"), ObjectAttributes())
        await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part"))
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert [(finding.sort, finding.subject) for finding in findings] == [("homeless", f"bucket/k (part 1 of upload {upload.id})")]
            assert await manifest.walk_extents(after=ExtentId(0), limit=9) == ()
        assert len(await lab.shards()) == 6


async def test_a_write_on_a_condition_is_told_and_not_brought_back(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"first")
        where, what = (lab.bucket, lab.tenant, ObjectKey("new")), (BytesBody(b"x"), ObjectAttributes())
        await lab.services.engine.put_object(*where, *what, conditions=Conditions(if_none_match="*"))
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert [(finding.sort, finding.subject) for finding in findings] == [("unconfirmed", "bucket/new")]
            assert await manifest.find_version(lab.bucket.id, ObjectKey("new")) is None
            assert await read(lab, manifest, "k") == b"first"


async def test_a_write_that_broke_off_is_told_and_not_brought_back(tmp_path: Path) -> None:
    class Broken(BytesBody):
        async def chunks(self) -> AsyncIterator[bytes]:
            yield bytes(17 * 1024 * 1024)
            while len(await lab.shards()) != 6:
                await asyncio.sleep(0)
            raise StoreUnavailable("client", "went away")

    async with laboratory(tmp_path) as lab:
        with pytest.raises(StoreUnavailable):
            await lab.services.engine.put_object(
                lab.bucket, lab.tenant, ObjectKey("k"), Broken(bytes(20 * 1024 * 1024)), ObjectAttributes()
            )
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert [(finding.sort, finding.subject) for finding in findings] == [("incomplete", "bucket/k")]
            assert "the last segment, with the record, is not among the 1 that are there" in findings[0].reason
            assert await manifest.find_version(lab.bucket.id, ObjectKey("k")) is None


async def test_a_bucket_that_is_not_the_one_written_to_gets_nothing(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x")
        other = replace(lab.bucket, name=BucketName("bucket"))
        async with open_sqlite(tmp_path / "new.sqlite", lab.clock) as manifest, open_notes(tmp_path / "notes.sqlite") as notes:
            await manifest.add_tenant(lab.tenant)
            await manifest.create_bucket(replace(other, name=BucketName("earlier")))
            bucket = await manifest.create_bucket(other)
            await recover(lab, manifest, notes)
            assert bucket.id != lab.bucket.id
            assert [finding.sort for finding in await notes.run(Notebook.findings, 9)] == ["homeless"]
            assert await manifest.find_version(bucket.id, ObjectKey("k")) is None


async def test_what_the_manifest_names_as_stored_or_as_garbage_is_not_brought_back_again(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("deleted", b"x")
        await lab.put("kept", b"y")
        await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("deleted"), marker_id=VersionId("m"), now_ms=lab.clock.now_ms())
        async with open_notes(tmp_path / "notes.sqlite") as notes:
            await recover(lab, lab.services.manifest, notes)
            assert await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("deleted")) is None
            assert len(await lab.services.manifest.walk_extents(after=ExtentId(0), limit=9)) == 1


@pytest.mark.parametrize("phase", ["listings", "labels", "versions", "shards"])
async def test_a_recovery_that_is_killed_in_any_phase_goes_on(tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.engine.recover.labels.BATCH", 2)
    monkeypatch.setattr("proxy.engine.recover.labelled.BATCH", 2)
    monkeypatch.setattr("proxy.engine.recover.shards.BATCH", 2)

    class Killed(Exception):
        pass

    heard: list[tuple[str, int]] = []

    def kill(heard_phase: str, done: int, total: int | None) -> None:
        heard.append((heard_phase, done))
        if heard_phase == phase and done >= 3:
            raise Killed

    async with laboratory(tmp_path) as lab:
        for number in range(10):
            await lab.put(f"k{number}", b"%d" % number)
        async with blank_manifest(lab, tmp_path / "new.sqlite") as manifest:
            async with open_notes(tmp_path / "notes.sqlite") as notes:
                with pytest.raises(Killed):
                    await recover(lab, manifest, notes, kill)
            async with open_notes(tmp_path / "notes.sqlite") as notes:
                place = await recover(lab, manifest, notes)
                assert place.versions == 10
                assert await notes.run(Notebook.findings, 9) == ()
            assert [await read(lab, manifest, f"k{number}") for number in range(10)] == [b"%d" % number for number in range(10)]
            assert len(await manifest.walk_extents(after=ExtentId(0), limit=99)) == 10
    assert heard[-1][0] == phase


async def spoil_footers(lab: Laboratory, store: str, spoil: Callable[[bytes], bytes]) -> None:
    """Let one store change what it holds."""
    inner = lab.stores[store].inner
    for name in [name async for name, _ in inner.list() if is_shard_name(name)]:
        data = spoil(bytes(await inner.get(name)))
        await inner.delete(name)
        await inner.put(name, [data])


LIES: dict[str, Callable[[bytes], bytes]] = {
    "a changed commitment": lambda shard: shard[:-10] + bytes([shard[-10] ^ 1]) + shard[-9:],
    "a changed share": lambda shard: shard[:-140] + bytes([shard[-140] ^ 1]) + shard[-139:],
    "a changed label": lambda shard: shard[:-200] + bytes([shard[-200] ^ 1]) + shard[-199:],
    "another scheme": lambda shard: shard[:-90] + b"\x05\x01" + shard[-88:],
    "zeros": lambda shard: bytes(len(shard)),
    "cut short": lambda shard: shard[:-7],
    "nothing": lambda shard: b"",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
async def test_one_store_that_lies_changes_nothing(tmp_path: Path, lie: str) -> None:
    async with laboratory(tmp_path) as lab:
        for number in range(8):
            await lab.put(f"k{number}", b"%d" % number * 100)
        await spoil_footers(lab, "cedar", LIES[lie])
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert [await read(lab, manifest, f"k{number}") for number in range(8)] == [b"%d" % number * 100 for number in range(8)]
            assert findings == ()


async def test_labels_that_were_exchanged_between_segments_open_nothing(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("a", b"a" * 100)
        await lab.put("b", b"b" * 100)
        one, other = sorted({name[:35] for name in await lab.shards()})
        for store in lab.stores.values():
            shards = {name[:35]: (name, bytes(await store.inner.get(name))) async for name, _ in store.inner.list() if is_shard_name(name)}
            labels = {stem: shard[-144 - int.from_bytes(shard[-4:], "big") : -144] for stem, (_, shard) in shards.items()}
            for stem, stranger in ((one, other), (other, one)):
                name, shard = shards[stem]
                await store.inner.delete(name)
                await store.inner.put(name, [shard[: -144 - len(labels[stem])], labels[stranger], shard[-144:]])
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert [finding.sort for finding in findings] == ["unread", "unread"]
            assert all("has no label that opens" in finding.reason for finding in findings)
            assert await manifest.walk_extents(after=ExtentId(0), limit=9) == ()


async def test_names_that_a_store_makes_up_are_told_and_make_no_object(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x" * 100)
        truth = next(iter(await lab.shards()))
        shard = b"".join(
            [bytes(await store.inner.get(name)) for store in lab.stores.values() async for name, _ in store.inner.list() if name == truth]
        )
        for index in range(6):
            await lab.stores["elm"].inner.put(ShardName(shard_name(bytes(range(16)), index)), [shard])
        await lab.stores["elm"].inner.put(ShardName(truth + ".7"), [shard[:-8] + b"\0\0\0\x07" + shard[-4:]])
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert await read(lab, manifest, "k") == b"x" * 100
            assert [(finding.sort, finding.subject) for finding in findings] == [("unread", f"segment {bytes(range(16)).hex()}")]
            (extent,) = await manifest.walk_extents(after=ExtentId(0), limit=9)
            assert extent.layout.segments[0].drawn == 7, "a name that is in use is not drawn again"


async def test_two_lying_stores_of_six_cannot_change_what_is_read(tmp_path: Path) -> None:
    """More shards than the scheme can lose are spoilt: the segment is told of, and nothing wrong is brought back."""
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x" * 100)
        for store in ("alder", "birch", "cedar"):
            await spoil_footers(lab, store, LIES["a changed share"])
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert [(finding.sort, "3 shards of the 4 needed" in finding.reason) for finding in findings] == [("unread", True)]
            assert await manifest.find_version(lab.bucket.id, ObjectKey("k")) is None


async def test_a_store_that_fails_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x" * 100)
        failures = 4

        def fail(verb: str) -> None:
            nonlocal failures
            if verb == "get_range" and failures:
                failures -= 1
                raise StoreUnavailable("elm", "for a moment")

        for store in lab.stores.values():
            store.before = fail
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert findings == ()
            assert await read(lab, manifest, "k") == b"x" * 100


# A store that lists too much


def made_up(number: int) -> str:
    return shard_name(number.to_bytes(16, "big"), number % 6)


@pytest.mark.parametrize("name", [made_up, lambda _: made_up(1), lambda number: f"holiday-{number}"], ids=["new", "the same", "no shards"])
async def test_a_store_that_lists_without_end_is_given_up_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Callable[[int], str]
) -> None:
    monkeypatch.setattr(bounds, "FEW", 2000)
    monkeypatch.setattr(listing, "BATCH", 100)
    async with laboratory(tmp_path) as lab:
        for number in range(20):
            await lab.put(str(number), b"%d" % number * 1000)

        async def endless(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
            for number in itertools.count():
                yield ShardName(name(number)), 100

        lab.stores["elm"].list = endless  # type: ignore[method-assign]
        async with blank_manifest(lab, tmp_path / "new.sqlite") as manifest, open_notes(tmp_path / "notes.sqlite") as notes:
            ended = await list_stores(lab.services.stores, notes, silence)
            assert {store for store, one in ended.items() if one.failure} == {"elm"}
            assert "store elm: it lists more than" in ended["elm"].failure
            await recover(lab, manifest, notes)
            assert [await read(lab, manifest, str(number)) for number in range(20)] == [b"%d" % number * 1000 for number in range(20)]


async def test_a_disk_that_is_too_small_for_the_listings_is_told_with_what_they_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "KEPT_BYTES", 2**62)
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"data")
        async with open_notes(tmp_path / "notes.sqlite") as notes:
            with pytest.raises(
                RecoveryRefused, match=r"MiB left, and .* kept for the manifest; so far the stores list: .*elm .*; make room;"
            ):
                await list_stores(lab.services.stores, notes, silence)
