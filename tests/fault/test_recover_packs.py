"""What lies in packs comes back from labels and tables, once each, and nothing that was deleted comes back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.engine.recover import tables
from proxy.engine.recover.notes import open_notes
from proxy.engine.recover.tables import AT_ONCE
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, ObjectKey, Version
from proxy.manifest.sqlite.notebook import Notebook
from tests.fault.test_recover import JOURNAL, lose_manifest, recover_in
from tests.fault.test_recover import recovered as recovered_whole
from tests.fault.test_recover_labels import blank_manifest, read, recover, recovered, silence, the_bucket
from tests.laboratory import Laboratory, laboratory
from tests.packing import commit_pack, drafts_of, put_pack, store_pack

OBJECTS = {f"k{number}": os.urandom(size) for number, size in enumerate((1, 700, 4096, 4097, 30_000, 65_530, 65_536, 80_000))}


async def pack_counts(manifest: Manifest) -> list[tuple[int, int, int, bool]]:
    """Return (whole, live, slots in use, whether something is dead) of each pack."""
    found = await manifest.packs_between(first=ExtentId(0), last=ExtentId(2**62))
    return [(pack.whole, pack.live, pack.slots, pack.dead_since_ms is not None) for pack in found]


async def versions(manifest: Manifest, lab: Laboratory) -> list[str]:
    page = await manifest.list_versions(lab.bucket.id, prefix="", delimiter="", after_key="", after_version="", limit=1000)
    return [version.key for version in page.versions]


async def test_every_object_of_a_pack_comes_back_with_its_slot(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        before = await put_pack(lab, OBJECTS)
        await lab.put("alone", b"x" * 100_000)
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert {key: await read(lab, manifest, key) for key in OBJECTS} == OBJECTS
            assert findings == ()
            total = sum(map(len, OBJECTS.values()))
            assert await pack_counts(manifest) == [(total, total, len(OBJECTS), False)]
            extents = await manifest.walk_extents(after=ExtentId(0), limit=9)
            (pack,) = [extent for extent in extents if extent.layout.slots]
            (was,) = await lab.services.manifest.load_extents([before[0].extents[0].id])
            assert pack.layout == replace(was.layout, wrapped_key=pack.layout.wrapped_key)
            for version in before:
                found = await manifest.find_version(lab.bucket.id, version.key)
                assert found == replace(version, extents=(replace(version.extents[0], id=pack.id),))


async def test_a_healthy_table_is_read_by_one_request(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await put_pack(lab, OBJECTS)
        for store in lab.stores.values():
            store.calls.clear()
        async with recovered(lab, tmp_path):
            asked = sum(store.calls["get_range"] for store in lab.stores.values())
            assert asked == lab.services.policies["standard"].scheme.k + 1, "k footers, and the table"


@pytest.mark.parametrize("gone", [("alder",), ("alder", "fir"), ("cedar", "elm")], ids="+".join)
async def test_packs_come_back_without_the_stores_that_may_fail(tmp_path: Path, gone: tuple[str, ...]) -> None:
    async with laboratory(tmp_path) as lab:
        await put_pack(lab, OBJECTS)
        await put_pack(lab, {"lone": b"lone"})
        for name in gone:
            lab.stores[name].down = True
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert {key: await read(lab, manifest, key) for key in OBJECTS} == OBJECTS
            assert await read(lab, manifest, "lone") == b"lone"
            assert findings == ()
            damage = await manifest.count_damage()
            assert {store for store, kind in damage.by_store if kind == "missing"} == set(gone)


async def test_a_store_that_spoils_the_table_is_pinned(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        stored, packed = await store_pack(lab, drafts_of(lab, OBJECTS), list(OBJECTS.values()))
        await commit_pack(lab, stored, packed)
        await lab.settled()
        (segment,) = stored.layout.segments
        k = stored.layout.k
        for index in range(k):  # whichever has the table: its cells are spoilt, its footer is not
            store, name = lab.stores[segment.stores[index]].inner, segment.shard_name(index)
            whole = bytes(await store.get(name))
            spoilt = bytes(byte ^ 1 for byte in whole[: -segment.footer_size]) + whole[-segment.footer_size :]
            await store.delete(name)
            await store.put(name, [spoilt])
            async with recovered(lab, tmp_path / str(index)) as (manifest, findings):
                assert await versions(manifest, lab) == sorted(OBJECTS)
                assert findings == ()
                told = (await manifest.count_damage()).by_store
                assert set(told) <= {(segment.stores[index], "forged")}
                if told:
                    break
            await store.delete(name)
            await store.put(name, [whole])
        else:
            raise AssertionError("nobody was pinned")


async def test_many_packs_are_read_a_few_at_a_time_and_a_recovery_goes_on_where_it_was(tmp_path: Path) -> None:
    objects = {f"{number:03d}/{slot}": b"%d.%d" % (number, slot) for number in range(2 * AT_ONCE + 3) for slot in range(3)}

    class Killed(Exception):
        """The process was."""

    def dies(phase: str, done: int, total: int | None) -> None:
        if phase == "packs":
            raise Killed

    async with laboratory(tmp_path) as lab:
        for number in range(2 * AT_ONCE + 3):
            await put_pack(lab, {key: data for key, data in objects.items() if key.startswith(f"{number:03d}/")})
        async with blank_manifest(lab, tmp_path / "new.sqlite") as manifest:
            for _ in range(2):
                with pytest.raises(Killed):
                    async with open_notes(tmp_path / "notes.sqlite") as notes:
                        await recover(lab, manifest, notes, dies)
            told: list[int] = []

            def watch(phase: str, done: int, total: int | None) -> None:
                if phase == "packs":
                    told.append(done)

            async with open_notes(tmp_path / "notes.sqlite") as notes:
                await recover(lab, manifest, notes, watch)
                assert await notes.run(Notebook.findings, 9) == ()
            assert sum(told[-1:]) == 3, "of the tables, two batches were noted"
            assert {key: await read(lab, manifest, key) for key in objects} == objects


async def test_the_last_of_several_writes_wins_whichever_packs_they_are_in(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        first, second = drafts_of(lab, {"a": b"a1", "b": b"b1"}), drafts_of(lab, {"a": b"a2", "b": b"b2"})
        crossed = [(first[0], b"a1"), (second[1], b"b2")], [(second[0], b"a2"), (first[1], b"b1")]
        for pack in crossed:
            stored, packed = await store_pack(lab, [draft for draft, _ in pack], [body for _, body in pack])
            await commit_pack(lab, stored, packed)
        await lab.put("a", b"a3")
        await lab.settled()
        async with recovered(lab, tmp_path) as (manifest, _):
            assert (await read(lab, manifest, "a"), await read(lab, manifest, "b")) == (b"a3", b"b2")
            assert await versions(manifest, lab) == ["a", "b"]
            live = [(slots, dead) for _, _, slots, dead in await pack_counts(manifest)]
            assert live == [(1, True)], "a pack that nobody uses is not there"


async def test_all_versions_of_a_key_come_back_in_order_from_one_pack_and_from_several(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.services.manifest.set_versioning(lab.bucket.id, "Enabled")
        lab.bucket = await the_bucket(lab)
        one, two, three = drafts_of(lab, {"k": b"1"}) + drafts_of(lab, {"k": b"22"}) + drafts_of(lab, {"k": b"333"})
        for drafts, bodies in (([one, three], [b"1", b"333"]), ([two], [b"22"])):
            stored, packed = await store_pack(lab, drafts, bodies)
            await commit_pack(lab, stored, packed)
        await lab.settled()
        async with recovered(lab, tmp_path) as (manifest, findings):
            page = await manifest.list_versions(lab.bucket.id, prefix="", delimiter="", after_key="", after_version="", limit=9)
            assert [version.id for version in page.versions] == [three.id, two.id, one.id]
            assert findings == ()


async def repacked(lab: Laboratory, used: Sequence[Version], drafts: Sequence[VersionDraft], bodies: Sequence[bytes]) -> None:
    """Store what is still in use of a pack in another one, with the same records, as the repacker does before it exchanges the slots."""
    wanted = {version.key for version in used}
    kept = [(draft, body) for draft, body in zip(drafts, bodies, strict=True) if draft.key in wanted]
    await store_pack(lab, [draft for draft, _ in kept], [body for _, body in kept])
    await lab.settled()


async def test_a_pack_and_its_successor_give_each_version_once(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        drafts = drafts_of(lab, OBJECTS)
        stored, packed = await store_pack(lab, drafts, list(OBJECTS.values()))
        used = await commit_pack(lab, stored, packed)
        await repacked(lab, used, drafts, list(OBJECTS.values()))
        async with recovered(lab, tmp_path) as (manifest, findings):
            assert await versions(manifest, lab) == sorted(OBJECTS)
            assert {key: await read(lab, manifest, key) for key in OBJECTS} == OBJECTS
            assert len(await pack_counts(manifest)) == 1
            assert {finding.sort for finding in findings} == {"superseded"}


async def test_what_the_journal_says_was_deleted_does_not_come_back_from_its_pack(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await put_pack(lab, OBJECTS)
        await lab.services.manifest.delete_version(lab.bucket.id, ObjectKey("k3"), (await find(lab, "k3")).id, now_ms=lab.clock.now_ms())
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        await put_pack(lab, {"behind": b"behind the end of the journal"})
        before = await pack_counts(lab.services.manifest)
        async with recovered_whole(tmp_path / "old") as (new, report):
            assert report.versions_from_labels == 1
            expected = {key: data for key, data in OBJECTS.items() if key != "k3"} | {"behind": b"behind the end of the journal"}
            assert sorted(await versions(new.services.manifest, new)) == sorted(expected)
            assert {key: await new.get(key) for key in expected} == expected
            assert await pack_counts(new.services.manifest) == before
            assert report.findings == ()
            await new.collect()
            assert {key: await new.get(key) for key in expected} == expected


async def find(lab: Laboratory, key: str) -> Version:
    found = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey(key))
    assert found is not None
    return found


async def test_packs_come_back_from_a_checkpoint_and_the_journal_behind_it(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await put_pack(lab, OBJECTS)
        while not (await lab.worker("checkpoint").step()).idle:
            pass
        await put_pack(lab, {"k0": b"another", "more": b"more"})
        assert lab.services.journal is not None
        await lab.services.journal.flusher.flush()
        before = await pack_counts(lab.services.manifest)
        data = lose_manifest(tmp_path / "old", tmp_path / "new")
    await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as new:
        expected = {**OBJECTS, "k0": b"another", "more": b"more"}
        assert {key: await new.get(key) for key in expected} == expected
        assert await pack_counts(new.services.manifest) == before


async def test_a_pack_whose_table_cannot_be_read_is_told_and_the_others_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with laboratory(tmp_path) as lab:
        stored, packed = await store_pack(lab, drafts_of(lab, OBJECTS), list(OBJECTS.values()))
        await commit_pack(lab, stored, packed)
        await put_pack(lab, {"other": b"other"})
        (segment,) = stored.layout.segments
        for index in range(stored.layout.k):
            store, name = lab.stores[segment.stores[index]].inner, segment.shard_name(index)
            whole = bytes(await store.get(name))
            await store.delete(name)
            await store.put(name, [bytes(len(whole) - segment.footer_size) + whole[-segment.footer_size :]])
        monkeypatch.setattr(tables, "TRIES", 1)
        async with blank_manifest(lab, tmp_path / "new.sqlite") as manifest, open_notes(tmp_path / "notes.sqlite") as notes:
            await recover(lab, manifest, notes, silence)
            (finding,) = await notes.run(Notebook.findings, 9)
            assert (finding.sort, finding.subject) == ("unread", f"pack {segment.id.hex()}")
            assert await versions(manifest, lab) == ["other"]
