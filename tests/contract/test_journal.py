"""What every manifest promises of its journal: each change is noted, and the rows that are read make another manifest the same."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.errors import ManifestConflict, ManifestFenced, ProxyError
from proxy.manifest.damage import Damage
from proxy.manifest.drafts import AttributeChange, CompletedPart, PackedDraft
from proxy.manifest.journal import (
    NOT_JOURNALED,
    TABLES,
    Changes,
    Row,
    Run,
    StoredSegment,
    Table,
    decode_rows,
    digest_of,
    encode_rows,
)
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import AccessKey, Bucket, GarbageSegment, Part, Settlement
from proxy.manifest.sqlite import journal as sqlite_journal
from proxy.manifest.sqlite import open_sqlite
from tests.contract.conftest import NOW, check_lines, tenant
from tests.contract.test_manifest import draft, layout, segment_id, upload

LARGE = 1 << 20


@pytest.fixture
async def manifest(tmp_path: Path) -> AsyncIterator[Manifest]:
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as opened:
        yield opened


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Manifest]:
    async with open_sqlite(tmp_path / "replica.sqlite", ManualClock(NOW)) as opened:
        yield opened
    check_lines(tmp_path / "replica.sqlite")


async def begun(manifest: Manifest) -> None:
    await manifest.add_tenant(tenant("t"))
    await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))


def stored(changes: Changes) -> StoredSegment:
    return StoredSegment(
        number=changes.number,
        epoch=changes.epoch,
        digest=digest_of(encode_rows(changes.rows)),
        sequence=changes.sequence,
        whole=changes.whole,
        size_bytes=1,
        stored_ms=NOW,
        layout=layout(0),
    )


async def drain(manifest: Manifest, *, limit_bytes: int = LARGE) -> Changes:
    changes = await manifest.read_changes(limit_bytes=limit_bytes)
    await manifest.record_segment(stored(changes), previous=changes.previous)
    return changes


async def everything(manifest: Manifest) -> dict[str, tuple[Row, ...]]:
    """All journaled rows, without what matters only now."""
    found: dict[str, tuple[Row, ...]] = {}
    for table in TABLES:
        quiet = {table.columns.index(column) for column in table.quiet}
        rows = await manifest.rows_of(table.name, limit=100_000)
        found[table.name] = tuple(
            Row(row.table, row.key, tuple(value for index, value in enumerate(row.value or ()) if index not in quiet)) for row in rows
        )
    return found


async def test_each_table_is_journaled_or_is_said_why_not(manifest: Manifest, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "m.sqlite")
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} - {"sqlite_sequence"}
    journaled = {table.name: table for table in TABLES}
    assert tables == journaled.keys() | NOT_JOURNALED.keys()
    assert not journaled.keys() & NOT_JOURNALED.keys()
    for name, table in journaled.items():
        columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
        assert {column[1] for column in columns} == {*table.key, *table.columns, *table.derived}, name
        assert {column[1] for column in columns if column[5]} == set(table.key), name
        assert set(table.quiet) <= set(table.columns)
    connection.close()


async def test_a_change_is_noted_with_the_row_as_it_is(manifest: Manifest) -> None:
    await manifest.add_tenant(tenant("t"))
    changes = await manifest.read_changes(limit_bytes=LARGE)
    assert (changes.number, changes.previous, changes.whole) == (1, bytes(32), True)
    ((row),) = changes.rows
    assert (row.table, row.key) == ("tenant", ("t",))
    assert decode_rows(encode_rows(changes.rows)) == changes.rows
    await manifest.remove_tenant("t")
    changes = await manifest.read_changes(limit_bytes=LARGE)
    assert changes.rows == (Row("tenant", ("t",), None),)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
async def test_each_kind_of_change_of_each_table_is_noted(manifest: Manifest, tmp_path: Path, table: Table) -> None:
    key, value = tuple(range(1, len(table.key) + 1)), tuple(range(1, len(table.columns) + 1))
    connection = sqlite3.connect(tmp_path / "m.sqlite", isolation_level=None)
    columns = (*table.key, *table.columns)
    texts = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})") if row[2] == "TEXT"}
    key = tuple(str(item) if name in texts else item for name, item in zip(table.key, key, strict=True))
    value = tuple(str(item) if name in texts else item for name, item in zip(table.columns, value, strict=True))

    async def noted() -> list[tuple[str, tuple[object, ...], bool]]:
        return [(row.table, row.key, row.value is None) for row in (await drain(manifest)).rows]

    connection.execute(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", (*key, *value))
    assert await noted() == [(table.name, key, False)]
    for column in table.columns:
        connection.execute(f"UPDATE {table.name} SET {column} = 9")
        assert await noted() == ([] if column in table.quiet else [(table.name, key, False)]), column
    moved = (*key[:-1], "9" if table.key[-1] in texts else 9)
    connection.execute(f"UPDATE {table.name} SET {table.key[-1]} = 9")
    assert sorted(await noted(), key=str) == sorted([(table.name, key, True), (table.name, moved, False)], key=str)
    connection.execute(f"DELETE FROM {table.name}")
    assert await noted() == [(table.name, moved, True)]
    connection.close()


async def test_notes_wait_until_their_segment_is_recorded(manifest: Manifest) -> None:
    await begun(manifest)
    first = await manifest.read_changes(limit_bytes=LARGE)
    assert await manifest.read_changes(limit_bytes=LARGE) == first
    await manifest.put_bucket_setting(1, "cors", "x")
    await manifest.set_tenant_enabled("t", False)
    await manifest.record_segment(stored(first), previous=first.previous)
    position = await manifest.journal_position()
    assert (position.number, position.sequence, position.rows) == (1, first.sequence, 2)
    second = await drain(manifest)
    assert (second.number, second.previous) == (2, stored(first).digest)
    assert [(row.table, row.key) for row in second.rows] == [("bucket", (1,)), ("tenant", ("t",))]
    position = await manifest.journal_position()
    assert (position.number, position.rows, position.noted) == (2, 0, position.sequence)


@pytest.mark.parametrize("at_once", [1, 2, 1000])
async def test_many_notes_are_kept_some_at_a_time_and_none_is_lost_if_their_segment_is_not_recorded(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(sqlite_journal, "NOTES_AT_ONCE", at_once)
    await begun(manifest)
    await drain(manifest)
    for key in "abcde":
        await manifest.commit_version(draft(key))
    first = await manifest.read_changes(limit_bytes=LARGE)
    with monkeypatch.context() as broken:
        broken.setattr(sqlite_journal, "record_segment", _die)
        with pytest.raises(ManifestConflict):
            await manifest.record_segment(stored(first), previous=first.previous)
    assert await manifest.read_changes(limit_bytes=LARGE) == first
    await manifest.record_segment(stored(first), previous=first.previous)
    ends = [(1, key.encode(), -1) for key in "abcde"]
    runs = [
        Run(table="version", first=start, end=end, rows=1, number=1, layout=layout(0)) for start, end in pairwise([*ends, (1, b"z", 0)])
    ]
    assert await manifest.touched_runs(1, runs) == (True,) * 5
    assert await manifest.touched_runs(2, runs) == (False,) * 5
    assert (await manifest.read_changes(limit_bytes=LARGE)).rows == ()


def _die(*_: object) -> None:
    raise ManifestConflict("here the process dies")


async def test_what_follows_nothing_is_not_recorded(manifest: Manifest) -> None:
    """Two processes drained at once: the second one's segment has the number of the first one's."""
    await begun(manifest)
    changes = await drain(manifest)
    await manifest.put_bucket_setting(1, "cors", "x")
    for number, previous in ((changes.number, changes.previous), (2, bytes(32)), (3, stored(changes).digest)):
        with pytest.raises(ManifestConflict):
            await manifest.record_segment(replace(stored(changes), number=number), previous=previous)
    assert [row.table for row in (await manifest.read_changes(limit_bytes=LARGE)).rows] == ["bucket"]


async def test_numbers_of_notes_do_not_come_again_when_all_are_drained(manifest: Manifest) -> None:
    await begun(manifest)
    before = await drain(manifest)
    await manifest.put_bucket_setting(1, "cors", "x")
    after = await drain(manifest)
    assert after.sequence > before.sequence


async def test_more_than_fits_is_not_whole(manifest: Manifest, replica: Manifest) -> None:
    await begun(manifest)
    for number in range(10):
        await manifest.commit_version(draft(f"k{number}", new_layouts=[layout(number)]))
    parts = []
    while not parts or not parts[-1].whole:
        parts.append(await drain(manifest, limit_bytes=1000))
        await replica.apply_rows(parts[-1].rows, note=False)
        position = await manifest.journal_position()
        assert (position.sequence == position.noted) == parts[-1].whole
    assert len(parts) > 3
    assert await everything(replica) == await everything(manifest)


async def test_renewing_a_lease_is_not_noted(manifest: Manifest) -> None:
    await manifest.lease_segments(owner="w", segment_ids=[segment_id(1), segment_id(2)], expires_ms=NOW)
    await drain(manifest)
    await manifest.renew_intents(owner="w", expires_ms=NOW + 1)
    assert not (await manifest.read_changes(limit_bytes=LARGE)).rows
    await manifest.release_unused([Settlement(intent_id=1, mask=1)])
    assert [row.table for row in (await manifest.read_changes(limit_bytes=LARGE)).rows] == ["intent"]


async def test_rows_come_in_the_order_of_their_keys(manifest: Manifest) -> None:
    await begun(manifest)
    for key in ("b", "a", "ä", "a/b"):
        await manifest.commit_version(draft(key))
    keys = [row.key for row in await manifest.rows_of("version", limit=10)]
    assert [key[1] for key in keys] == sorted(key.encode() for key in ("b", "a", "ä", "a/b"))
    assert [row.key for row in await manifest.rows_of("version", after=keys[0], limit=2)] == keys[1:3]
    assert [row.key for row in await manifest.rows_of("version", after=keys[0], until=keys[2], limit=9)] == keys[1:2]


async def test_what_was_replayed_is_listed(manifest: Manifest, replica: Manifest) -> None:
    await begun(manifest)
    await manifest.commit_version(draft("k"))
    await manifest.delete_latest(1, "deleted", marker_id="m", now_ms=NOW)
    await replica.apply_rows((await manifest.read_changes(limit_bytes=LARGE)).rows, note=False)
    page = await replica.list_objects(1, prefix="", delimiter="", after="", limit=10)
    assert page.lines
    assert page == await manifest.list_objects(1, prefix="", delimiter="", after="", limit=10)


async def test_applied_rows_are_noted_if_the_journal_has_them_not(manifest: Manifest, replica: Manifest) -> None:
    await begun(manifest)
    rows = (await drain(manifest)).rows
    await replica.apply_rows(rows, note=False)
    assert not (await replica.read_changes(limit_bytes=LARGE)).rows
    await replica.apply_rows(rows, note=True)
    assert {row.table for row in (await replica.read_changes(limit_bytes=LARGE)).rows} == {"tenant", "bucket"}


async def test_a_fenced_manifest_takes_rows(manifest: Manifest, replica: Manifest) -> None:
    await begun(manifest)
    changes = await drain(manifest)
    await replica.fence("being recovered")
    await replica.apply_rows(changes.rows, note=False)
    await replica.continue_journal(stored(changes), identity=changes.identity, epoch=changes.epoch)
    assert await replica.find_bucket("b") is not None
    with pytest.raises(ManifestFenced):
        await replica.record_segment(stored(changes), previous=bytes(32))


async def test_a_recovered_manifest_goes_on_behind_the_journal(manifest: Manifest, replica: Manifest) -> None:
    await begun(manifest)
    await manifest.move_epoch(now_ms=NOW)
    changes = await drain(manifest)
    await replica.apply_rows(changes.rows, note=False)
    await replica.continue_journal(stored(changes), identity=changes.identity, epoch=changes.epoch)
    await replica.apply_rows([Row("store", ("late",), ())], note=True)
    epoch = await replica.find_epoch()
    assert (epoch.identity, epoch.number) == (changes.identity, 1)
    next_one = await replica.read_changes(limit_bytes=LARGE)
    assert (next_one.number, next_one.previous) == (changes.number + 1, stored(changes).digest)
    assert next_one.rows == (Row("store", ("late",), ()),)
    assert next_one.sequence > changes.sequence
    assert (await replica.create_bucket(Bucket(name="c", tenant_id="t", policy="p", created_ms=NOW))).id == 2


async def test_a_bucket_whose_name_was_given_again_is_in_order_at_the_end(manifest: Manifest, replica: Manifest) -> None:
    await begun(manifest)
    old = await manifest.rows_of("bucket", limit=10)
    await manifest.delete_bucket(1)
    await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))
    changes = await drain(manifest)
    await replica.apply_rows([*changes.rows, *old], note=False)  # as of a run that was read early, replayed late
    await replica.apply_rows(changes.rows, note=False)
    assert await everything(replica) == await everything(manifest)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "pack", "copy", "delete", "tag", "marker"]), st.integers(0, 3)),
        st.tuples(st.sampled_from(["begin", "part", "complete", "abort"]), st.integers(0, 1)),
        st.tuples(st.sampled_from(["version", "setting", "bucket", "unbucket", "key", "unkey", "tenant"]), st.integers(0, 2)),
        st.tuples(
            st.sampled_from(["lease", "settle", "revoke", "spread", "collect", "arrive", "report", "move", "store"]), st.integers(0, 2)
        ),
        st.tuples(st.just("drain"), st.sampled_from([1, 500, LARGE])),
        st.tuples(st.sampled_from(["put", "delete", "drain"]), st.integers(0, 1)),
    ),
    min_size=20,
    max_size=60,
)


class Steps:
    """Random steps on a manifest, each as its callers would make it; what the manifest refuses is one, too."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.number = 0

    async def take(self, step: str, at: int) -> None:
        self.number += 1
        with suppress(ProxyError):
            await getattr(self, f"_{step}")(at)

    async def _put(self, at: int) -> None:
        missing = (1,) if self.number % 2 else ()
        new = [layout(self.number, missing=missing)] if self.number % 3 else []
        await self.manifest.commit_version(draft(f"k{at}", f"v{self.number}", new_layouts=new))

    async def _pack(self, at: int) -> None:
        packed = [PackedDraft(draft(f"k{at + way}", f"v{self.number}-{way}", size=5), 50 * way) for way in (0, 1)]
        made = replace(layout(self.number), slots=2, content_size=10)
        await self.manifest.commit_pack(made, packed, settlements=[], now_ms=NOW)

    async def _copy(self, at: int) -> None:
        source = await self.manifest.find_version(1, f"k{at}")
        if source is not None:
            await self.manifest.commit_version(draft(f"k{at + 1}", f"v{self.number}", shared_extents=source.extents))

    async def _delete(self, at: int) -> None:
        version = await self.manifest.find_version(1, f"k{at}")
        if version is not None:
            await self.manifest.delete_version(1, version.key, version.id, now_ms=NOW + self.number)

    async def _marker(self, at: int) -> None:
        await self.manifest.delete_latest(1, f"k{at}", marker_id=f"v{self.number}", now_ms=NOW + self.number)

    async def _tag(self, at: int) -> None:
        await self.manifest.change_attributes(1, f"k{at}", None, AttributeChange(tags={"n": str(self.number)}))

    async def _begin(self, at: int) -> None:
        await self.manifest.begin_upload(upload(f"u{at}", f"k{at}"))

    async def _part(self, at: int) -> None:
        part = Part(number=self.number % 2 + 1, size=10, etag="e", modified_ms=NOW)
        await self.manifest.commit_part(f"u{at}", part, new_layouts=[layout(self.number)])

    async def _complete(self, at: int) -> None:
        parts = [CompletedPart(number=part.number, etag=part.etag) for part in await self.manifest.list_parts(f"u{at}")]
        await self.manifest.complete_upload(f"u{at}", parts, draft(f"k{at}", f"v{self.number}", modified_ms=NOW + self.number * 10_000_000))

    async def _abort(self, at: int) -> None:
        await self.manifest.abort_upload(f"u{at}", now_ms=NOW)

    async def _version(self, at: int) -> None:
        await self.manifest.set_versioning(1, ("Enabled", "Suspended", "Enabled")[at])

    async def _setting(self, at: int) -> None:
        await self.manifest.put_bucket_setting(1, f"s{at}", str(self.number) if self.number % 2 else None)

    async def _bucket(self, at: int) -> None:
        await self.manifest.create_bucket(Bucket(name=f"b{at}", tenant_id="t", policy="p", created_ms=NOW))

    async def _unbucket(self, at: int) -> None:
        bucket = await self.manifest.find_bucket(f"b{at}")
        if bucket is not None:
            await self.manifest.delete_bucket(bucket.id)

    async def _key(self, at: int) -> None:
        await self.manifest.add_access_key(AccessKey(id=f"a{at}", tenant_id="t", sealed_secret=b"s", created_ms=NOW))

    async def _unkey(self, at: int) -> None:
        await self.manifest.remove_access_key(f"a{at}")

    async def _tenant(self, at: int) -> None:
        await self.manifest.add_tenant(tenant(f"t{at}"))
        await self.manifest.set_tenant_enabled(f"t{at}", False)
        if at:
            await self.manifest.remove_tenant(f"t{at}")

    async def _lease(self, at: int) -> None:
        ids = [segment_id(self.number * 1000 + bit) for bit in range(2)]
        await self.manifest.lease_segments(owner="w", segment_ids=ids, expires_ms=NOW + at)

    async def _settle(self, at: int) -> None:
        garbage = [GarbageSegment(id=segment_id(self.number))]
        await self.manifest.settle([Settlement(intent_id=at + 1, mask=1 << self.number % 2)], garbage, now_ms=NOW)

    async def _revoke(self, at: int) -> None:
        await self.manifest.revoke_expired_intents(now_ms=NOW + at + at * 90_000_000)

    async def _spread(self, at: int) -> None:
        await self.manifest.split_garbage(before_ms=NOW + self.number, limit=at + 1)
        await self.manifest.spread_garbage(["s0", "s1"], limit=at + 1)

    async def _collect(self, at: int) -> None:
        due = await self.manifest.due_garbage(f"s{at}", before_ms=NOW * 2, limit=2)
        await self.manifest.finish_garbage(due[:1], put_off=due[1:], due_ms=NOW + self.number)

    async def _arrive(self, at: int) -> None:
        for damage in await self._damage(at + 1):
            await self.manifest.record_shard(damage.extent_id, damage.segment_id, damage.shard_index, store=damage.store, now_ms=NOW)

    async def _report(self, at: int) -> None:
        for extent in await self.manifest.walk_extents(after=0, limit=1):
            segment = extent.layout.segments[0]
            report = Damage(extent_id=extent.id, segment_id=segment.id, shard_index=at, kind="forged", store=segment.stores[at])
            await self.manifest.report_damage([report], now_ms=NOW)

    async def _move(self, at: int) -> None:
        for damage in await self._damage(1):
            targets = {damage.shard_index: "s3"}
            segment = await self.manifest.draw_generation(damage.extent_id, damage.segment_id, targets, expires_ms=NOW)
            if segment is not None and at:
                await self.manifest.replace_shards(damage.extent_id, damage.segment_id, targets, segment.drawn, now_ms=NOW)

    async def _damage(self, limit: int) -> list[Damage]:
        repairs = await self.manifest.due_repairs(now_ms=NOW * 2, limit=limit)
        found = [await self.manifest.find_damaged(repair.extent_id, repair.segment_id) for repair in repairs]
        return [damage for each in found if each is not None for damage in each.damage if damage.shard_index >= 0]

    async def _store(self, at: int) -> None:
        await self.manifest.know_stores([f"s{at}"])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_whatever_is_drained_makes_a_replica_the_same(steps: list[tuple[str, int]]) -> None:
    async def run(folder: Path) -> None:
        async with (
            open_sqlite(folder / "m.sqlite", ManualClock(NOW)) as manifest,
            open_sqlite(folder / "replica.sqlite", ManualClock(NOW)) as replica,
        ):
            await begun(manifest)
            taken = Steps(manifest)
            for step, at in (*steps, ("drain", LARGE)):
                if step == "drain":
                    changes = await drain(manifest, limit_bytes=at)
                    await replica.apply_rows(changes.rows, note=False)
                    if changes.whole:
                        assert await everything(replica) == await everything(manifest)
                else:
                    await taken.take(step, at)
            assert await everything(replica) == await everything(manifest)
            await replica.apply_rows(changes.rows, note=False)  # twice does no harm
            assert await everything(replica) == await everything(manifest)

    with TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def test_what_comes_behind_a_deletion_comes_after_it_until_the_journal_has_that(manifest: Manifest) -> None:
    await begun(manifest)
    first = await manifest.commit_version(replace(draft("k"), written=NOW << 20))
    await manifest.delete_version(1, "k", first.id, now_ms=NOW)
    second = await manifest.commit_version(replace(draft("k"), written=7))
    assert second.written == (NOW << 20) + 1
    assert (await manifest.commit_version(replace(draft("other"), written=7))).written == 7
    await manifest.delete_latest(1, "k", marker_id="m", now_ms=NOW)
    part = await manifest.read_changes(limit_bytes=1)
    assert not part.whole
    await manifest.record_segment(stored(part), previous=part.previous)
    third = await manifest.commit_version(replace(draft("k"), written=7))
    assert third.written == (NOW << 20) + 2, "that segment is not whole"
    await manifest.delete_version(1, "k", third.id, now_ms=NOW)
    changes = await manifest.read_changes(limit_bytes=LARGE)
    await manifest.record_segment(stored(changes), previous=changes.previous)
    assert (await manifest.commit_version(replace(draft("k"), written=7))).written == 7


async def test_without_a_journal_deletions_are_not_remembered(manifest: Manifest) -> None:
    await begun(manifest)
    first = await manifest.commit_version(replace(draft("k"), written=NOW << 20))
    await manifest.delete_version(1, "k", first.id, now_ms=NOW)
    await manifest.forget_changes()
    assert (await manifest.commit_version(replace(draft("k"), written=7))).written == 7
