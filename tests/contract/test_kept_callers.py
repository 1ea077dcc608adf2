"""Whoever asks again finds what a newcomer would, whatever was committed meanwhile, and whoever did it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.errors import ProxyError
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import AccessKey, Bucket, Caller, Look, Version
from proxy.manifest.sqlite import callers, news, open_sqlite, versions
from proxy.manifest.sqlite.callers import FEW_SEGMENTS, KeptCallers, _generation
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.rows import Connection, encode
from tests.contract.conftest import NOW
from tests.contract.test_manifest import BUCKET, draft, layout
from tests.contract.test_packs import commit, packed

KEYS = ("a", "b", "c")
TO_READ = Look("a", to_read=True)
TO_TELL = Look("a", to_read=False)


@pytest.fixture
async def other(manifest: Manifest, tmp_path: Path) -> AsyncIterator[Manifest]:
    """The same manifest, as another worker has it. There is an access key, AK."""
    await manifest.add_access_key(AccessKey(id="AK", tenant_id="t", sealed_secret=b"s", created_ms=NOW))
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as opened:
        yield opened


async def settled(manifest: Manifest, look: Look | None) -> Caller:
    """Ask until the answer comes out of memory."""
    for _ in range(3):
        caller = await manifest.find_caller("AK", "b", look)
    return caller


@pytest.mark.parametrize("look", [None, TO_READ, TO_TELL])
async def test_while_nothing_is_committed_nobody_is_asked(manifest: Manifest, other: Manifest, look: Look | None) -> None:
    await commit(manifest, packed("a", "b"))
    before = await settled(other, look)
    assert await other.find_caller("AK", "b", look) is before
    assert before.found is None if look is None else before.found is not None


async def test_what_was_committed_elsewhere_leaves_the_same_answer(manifest: Manifest, other: Manifest) -> None:
    await commit(manifest, packed("a", "b"))
    before = await settled(other, TO_READ)
    await manifest.commit_version(draft("c"))
    after = await other.find_caller("AK", "b", TO_READ)
    assert after is before


async def test_who_asks_is_known_behind_commits_of_other_things(
    manifest: Manifest, other: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await settled(other, None)
    asked: list[Connection] = []

    def noted(connection: Connection) -> tuple[int, int]:
        asked.append(connection)
        return _generation(connection)

    monkeypatch.setattr(callers, "_generation", noted)
    for number in range(5):
        await manifest.commit_version(draft(f"k{number}"))
        assert await other.find_caller("AK", "b") is before
    assert asked == []
    await manifest.set_tenant_enabled("t", False)
    after = await other.find_caller("AK", "b")
    assert after.tenant is not None
    assert not after.tenant.enabled


async def test_a_caller_is_asked_for_again_where_the_database_was_put_together_anew(manifest: Manifest, tmp_path: Path) -> None:
    """As an operator may do it with VACUUM: what is watched for a change lies elsewhere from then on, and what was there is no more."""
    await manifest.add_access_key(AccessKey(id="AK", tenant_id="t", sealed_secret=b"s", created_ms=NOW))
    with closing(connect(tmp_path / "m.sqlite", busy_seconds=5)) as shell:
        shell.execute("DROP TABLE generation")
        shell.execute("CREATE TABLE aside AS SELECT randomblob(2000000)")
        shell.execute("CREATE TABLE generation (number INTEGER NOT NULL)")
        shell.execute("INSERT INTO generation VALUES (7)")
        shell.execute("DROP TABLE aside")
        async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as other:
            await settled(other, None)
            page = _generation(shell)[1]
            shell.execute("VACUUM")
            assert _generation(shell)[1] < page
            await asyncio.sleep(0)  # the log's head is read once a turn
            await settled(other, None)
            await manifest.set_tenant_enabled("t", False)
            after = await other.find_caller("AK", "b")
            assert after.tenant is not None
            assert not after.tenant.enabled


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys whose newest version is asked for."""
    keys: list[str] = []
    ask = callers._newest

    def noted(connection: Connection, bucket: Bucket, key: str) -> object:
        keys.append(key)
        return ask(connection, bucket, key)

    monkeypatch.setattr(callers, "_newest", noted)
    return keys


async def test_behind_a_commit_of_something_else_only_the_first_asks(manifest: Manifest, other: Manifest, asked: list[str]) -> None:
    looks = [Look(key, to_read=True) for key in KEYS]
    await commit(manifest, packed("a", "b"))
    await manifest.commit_version(draft("c", new_layouts=(layout(2),)))
    before = [await settled(other, look) for look in looks]
    await manifest.save_state("walk", b"further")
    asked.clear()
    after = [await other.find_caller("AK", "b", look) for look in (*looks, *looks)]
    assert asked == ["a"]
    assert all(one is two for one, two in zip(after, (*before, *before), strict=True))


async def test_only_what_has_changed_is_asked_for_again(manifest: Manifest, other: Manifest, asked: list[str]) -> None:
    await commit(manifest, packed("a", "b", "d"))
    await manifest.commit_version(draft("c", new_layouts=(layout(2),)))
    for key in (*KEYS, "d"):
        await settled(other, Look(key, to_read=True))
    await manifest.change_attributes(BUCKET, "b", None, AttributeChange(tags={"n": "1"}))
    version = await manifest.find_version(BUCKET, "c")
    assert version is not None
    await _move_shard(manifest, version)
    asked.clear()
    for key in ("a", "d", *KEYS, "d"):
        await other.find_caller("AK", "b", Look(key, to_read=True))
    assert asked == ["a", "b", "c"]  # the first, and those that have changed


async def test_of_many_changes_at_a_time_none_is_looked_at(manifest: Manifest, other: Manifest, asked: list[str]) -> None:
    await commit(manifest, packed("a", "b"))
    for key in ("a", "b"):
        await settled(other, Look(key, to_read=True))
    await commit(manifest, packed(*(f"k{number:02}" for number in range(news.FEW_NOTES))), 2)
    asked.clear()
    for key in ("a", "b", "a", "b"):
        await other.find_caller("AK", "b", Look(key, to_read=True))
    assert asked == ["a", "b"]


async def test_a_change_is_seen_whose_note_the_journal_has_forgotten_by_then(manifest: Manifest, other: Manifest) -> None:
    await commit(manifest, packed("a", "b"))
    for key in ("a", "b"):
        await settled(other, Look(key, to_read=True))
    for key in ("b", "a"):  # the last note of all is never forgotten
        await manifest.change_attributes(BUCKET, key, None, AttributeChange(tags={"n": "1"}))
    await manifest.forget_changes()
    for key in ("a", "b"):
        found = (await other.find_caller("AK", "b", Look(key, to_read=True))).found
        assert found is not None
        assert found.version.attributes.tags == {"n": "1"}


async def test_what_is_put_in_without_a_note_is_seen_all_the_same(manifest: Manifest, other: Manifest) -> None:
    """As a recovery does it: the journal has it already."""
    await commit(manifest, packed("a", "b"))
    (row,) = [row for row in (await manifest.read_changes(limit_bytes=10**6)).rows if row.table == "version" and row.key[1] == b"b"]
    for key in ("a", "b"):
        await settled(other, Look(key, to_read=True))
    await manifest.apply_rows([msgspec.structs.replace(row, value=None)], note=False)
    for key in ("a", "b"):
        found = (await other.find_caller("AK", "b", Look(key, to_read=True))).found
        assert (found is None) == (key == "b")


async def test_versions_of_one_pack_share_it(manifest: Manifest, other: Manifest) -> None:
    await commit(manifest, packed("a", "b"))
    one = (await settled(other, TO_READ)).found
    two = (await settled(other, Look("b", to_read=True))).found
    assert one is not None
    assert two is not None
    assert one.extents[0] is two.extents[0]


async def test_what_lies_in_a_pack_with_what_was_read_is_found_without_a_question(
    manifest: Manifest, other: Manifest, asked: list[str]
) -> None:
    made = await commit(manifest, packed("a", "b", "c"))
    await settled(other, Look("nothing", to_read=True))  # until the log's head is known
    asked.clear()
    for version in made:
        found = (await other.find_caller("AK", "b", Look(version.key, to_read=True))).found
        assert found is not None
        assert (found.version, found.extents) == (version, await manifest.load_extents([version.extents[0].id]))
    assert asked == ["a"]


async def test_what_has_changed_since_it_was_read_with_another_is_asked_for(manifest: Manifest, other: Manifest, asked: list[str]) -> None:
    await commit(manifest, packed("a", "b", "c", "d"))
    for key in ("nothing", "a"):
        await settled(other, Look(key, to_read=True))
    changed = await manifest.change_attributes(BUCKET, "b", None, AttributeChange(tags={"n": "1"}))
    asked.clear()
    await other.find_caller("AK", "b", Look("nothing", to_read=True))  # the first behind a commit asks
    b, c = [(await other.find_caller("AK", "b", Look(key, to_read=True))).found for key in ("b", "c")]
    assert asked == ["nothing", "b"]
    assert b is not None
    assert b.version == changed
    assert c is not None
    await manifest.delete_latest(BUCKET, "d", marker_id="m", now_ms=NOW)
    await other.find_caller("AK", "b", Look("nothing", to_read=True))
    assert (await other.find_caller("AK", "b", Look("d", to_read=True))).found is None


async def test_others_in_a_pack_are_seldom_read_with_one_where_nobody_asks_for_them(manifest: Manifest, other: Manifest) -> None:
    for number in range(1, 19):
        await commit(manifest, packed(*(f"{name}{number}" for name in KEYS)), number)
    await settled(other, Look("a1", to_read=True))
    kept = other._callers
    kept._worth = 0
    kept._beside.clear()
    for number in range(2, 18):
        await other.find_caller("AK", "b", Look(f"a{number}", to_read=True))
    assert len(kept._beside) == 2 * len(KEYS)  # of two packs in sixteen
    for _, key in tuple(kept._beside):
        await other.find_caller("AK", "b", Look(key.decode(), to_read=True))
    assert kept._worth > 0
    kept._beside.clear()
    await other.find_caller("AK", "b", Look("a18", to_read=True))
    assert len(kept._beside) == len(KEYS)


async def test_only_so_many_rows_are_kept_of_what_lies_in_packs_with_others(
    manifest: Manifest, other: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "MAX_BESIDE", 5)
    await settled(other, Look("nothing", to_read=True))
    for number in range(1, 5):
        await commit(manifest, packed(*(f"{name}{number}" for name in KEYS)), number)
        await settled(other, Look(f"a{number}", to_read=True))
    assert [key for _, key in other._callers._beside] == [b"b3", b"c3", b"a4", b"b4", b"c4"]


async def test_of_a_large_manifest_nothing_more_than_is_asked_for_is_read_on_the_event_loop(
    manifest: Manifest, other: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[bool] = []
    look = KeptCallers._look_beside

    def watched(*args: object) -> None:
        on_loop.append(threading.current_thread() is threading.main_thread())
        look(*args)

    monkeypatch.setattr(KeptCallers, "_look_beside", watched)
    await settled(other, Look("nothing", to_read=True))
    await commit(manifest, packed("a", "b"))
    other._glances._small = None
    for _ in range(4):  # the first time in a thread, and then here
        other._callers._packs.clear()
        other._callers._answers.clear()
        other._callers._beside.clear()
        await other.find_caller("AK", "b", TO_READ)
    assert on_loop
    assert not any(on_loop)


async def test_who_only_wants_to_be_told_does_not_spoil_it_for_readers(manifest: Manifest, other: Manifest) -> None:
    """The extents of what is in no pack are not in the row: they may change while that stays."""
    written = await manifest.commit_version(draft("a", new_layouts=(layout(1),)))
    await settled(other, TO_READ)
    await _move_shard(manifest, written)
    await settled(other, TO_TELL)
    (extent,) = await manifest.load_extents([written.extents[0].id])
    found = (await settled(other, TO_READ)).found
    assert found is not None
    assert found.extents == (extent,)


async def test_an_answer_may_be_read_again_by_a_thread_while_it_is_recalled() -> None:
    """A thread that cannot tell what is new leaves no moment with it: it may do so between any two looks of whoever recalls it."""
    then, now = (news.Moment(head, 0, 1, {}, 0) for head in (b"1", b"2"))

    class Read(callers._Answer):
        """Is read again as soon as somebody has looked at it."""

        @property
        def moment(self) -> news.Moment | None:
            return looks.pop(0) if looks else None

        @moment.setter
        def moment(self, moment: news.Moment | None) -> None:
            """It is another one by then."""

    looks: list[news.Moment] = []
    nobody = Caller(access_key=None, tenant=None, bucket=None, owner=None)
    answer = Read(nobody, callers._Newest(b"", 1, None, None), is_whole=True, caller=nobody, rows=(), moment=None)
    assert not answer.holds_at(now)
    looks.append(then)
    assert answer.holds_at(now)


async def test_extents_that_nobody_has_read_lately_are_not_read_on_the_event_loop(
    manifest: Manifest, other: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the version was asked for, they may be on a disk that hangs."""
    await manifest.commit_version(draft("a", new_layouts=(layout(1),)))
    other._glances._small = None  # a large manifest
    asked_on_loop: list[bool] = []
    load = versions.load_extents

    def watched(*args: object) -> object:
        asked_on_loop.append(threading.current_thread() is threading.main_thread())
        return load(*args)

    monkeypatch.setattr(versions, "load_extents", watched)
    await settled(other, TO_TELL)
    assert asked_on_loop == []
    await other.find_caller("AK", "b", TO_READ)
    assert asked_on_loop == [False]


async def test_the_extents_of_a_large_object_are_not_kept(manifest: Manifest, other: Manifest) -> None:
    """Thousands of answers are kept, and each of these may take megabytes. It is found all the same, and told of from memory."""
    one = layout(1)
    large = replace(one, size=10 * (FEW_SEGMENTS + 1), segments=one.segments * (FEW_SEGMENTS + 1))
    written = await manifest.commit_version(draft("a", new_layouts=(large,)))
    for _ in range(3):
        found = (await other.find_caller("AK", "b", TO_READ)).found
        assert found is not None
        assert [extent.layout for extent in found.extents] == [large]
        told = await settled(other, TO_TELL)
        assert told.found is not None
        assert told.found.version == replace(written, is_latest=True)
        assert told.found.extents == ()
        assert await other.find_caller("AK", "b", TO_TELL) is told


async def test_only_so_many_answers_are_kept_and_few_take_the_place_of_others(
    manifest: Manifest, other: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await commit(manifest, packed(*(f"k{number:02}" for number in range(40))))
    record = len(encode(made[0]))
    monkeypatch.setattr(callers, "MAX_ANSWER_BYTES", 10 * record)
    for _ in range(3):
        for version in made:
            found = (await other.find_caller("AK", "b", Look(version.key, to_read=True))).found
            assert found is not None
            assert found.version == version
    kept = other._callers
    assert 8 <= len(kept._answers) <= 10
    assert kept._answer_bytes == sum(len(answer.newest.record) for answer in kept._answers.values()) <= 10 * record
    (first, *_) = kept._answers
    again = Look(first[2], to_read=True)
    assert await other.find_caller("AK", "b", again) is await other.find_caller("AK", "b", again)


@pytest.mark.parametrize("seed", range(12))
async def test_any_change_is_seen_by_the_next_who_asks(manifest: Manifest, other: Manifest, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    numbers = iter(range(1, 1000))
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as newcomer:
        for _ in range(60):
            with suppress(ProxyError):
                await _change(chance.choice((manifest, other)), chance, next(numbers))
            looks = [Look(key, to_read=chance.random() < 0.5) for key in chance.sample(KEYS, 2)]
            for asked in (None, *looks):
                for kept in (manifest, other):
                    newcomer._callers = KeptCallers()
                    is_same = await _found(kept, asked) == await _found(newcomer, asked)
                    assert is_same, (asked, seed)  # pytest would take minutes to say in what they differ


async def _found(manifest: Manifest, look: Look | None) -> Caller:
    """Ask. Who does not want to read may be told the extents all the same."""
    caller = await manifest.find_caller("AK", "b", look)
    if look is None or look.to_read or caller.found is None:
        return caller
    return replace(caller, found=replace(caller.found, extents=()))


async def _change(manifest: Manifest, chance: random.Random, number: int) -> None:
    key = chance.choice(KEYS)
    version = await manifest.find_version(BUCKET, key)
    match chance.randrange(13):
        case 0 | 1:
            await commit(manifest, packed(*chance.sample(KEYS, 2)), number)
        case 2:
            await manifest.commit_version(draft(key, f"n{number}", new_layouts=(layout(number),)))
        case 3 if version is not None:
            await manifest.delete_version(BUCKET, key, version.id, now_ms=NOW)
        case 4:
            await manifest.delete_latest(BUCKET, key, marker_id=f"m{number}", now_ms=NOW)
        case 5 if version is not None:
            await manifest.change_attributes(BUCKET, key, None, AttributeChange(tags={"n": str(number)}))
        case 6 if version is not None:
            await _move_shard(manifest, version)
        case 7:
            await manifest.set_versioning(BUCKET, chance.choice(("Enabled", "Suspended")))
        case 8:
            await manifest.put_bucket_setting(BUCKET, "policy", chance.choice((None, str(number))))
        case 9:
            await manifest.set_tenant_enabled("t", chance.random() < 0.5)
        case 10:
            await manifest.save_state("walk", str(number).encode())
        case 11:
            await manifest.forget_changes()
        case 12:
            await commit(manifest, packed(key, *(f"k{at:02}" for at in range(news.FEW_NOTES))), number)


async def _move_shard(manifest: Manifest, version: Version) -> None:
    """Point the extent to a shard elsewhere, as a repair does."""
    for extent in await manifest.load_extents([ref.id for ref in version.extents]):
        segment = extent.layout.segments[0]
        drawn = await manifest.draw_generation(extent.id, segment.id, {1: "s9"}, expires_ms=NOW + 1000)
        assert drawn is not None
        assert await manifest.replace_shards(extent.id, segment.id, {1: "s9"}, drawn.drawn, now_ms=NOW)
