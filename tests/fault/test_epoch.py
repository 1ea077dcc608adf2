"""An old copy of the manifest beside stores that have gone on: it is read, and does no harm. And no false alarm, whatever else happens."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.engine.epoch import LEAP, LOOK_SECONDS, NAMES, PREFIX, Marker, Markers, marker_name, parse_marker, reason_to_fence
from proxy.engine.scrub.wanted import ask_scrub, wanted
from proxy.engine.scrub.workers import RETRY_SECONDS
from proxy.errors import ConfigError, ManifestFenced
from proxy.keyring import Keyring
from proxy.keyring.file import FileRootKey
from proxy.manifest.records import Epoch, GarbageSegment, SegmentId, Settlement
from proxy.services import open_services
from proxy.stores.protocol import ShardName
from tests.laboratory import Laboratory, laboratory, laboratory_config

OURS, OTHERS = "a" * 32, "b" * 32
LATER = 1_750_000_000_000 + 10 * 24 * 3600 * 1000


def copy_manifest(data: Path, to: str) -> None:
    """Copy it as SQLite does, with what lies in the log beside it."""
    source, target = sqlite3.connect(data / "manifest.sqlite"), sqlite3.connect(data / to)
    source.backup(target)
    source.close()
    target.close()


def restore_manifest(data: Path, copy: str) -> None:
    for beside in ("-wal", "-shm"):
        (data / f"manifest.sqlite{beside}").unlink(missing_ok=True)
    shutil.copy(data / copy, data / "restored")
    (data / "restored").replace(data / "manifest.sqlite")


async def markers_in(lab: Laboratory, store: str) -> list[str]:
    return [name async for name, _ in lab.stores[store].list(PREFIX)]


async def own_marker(lab: Laboratory, store: str = "elm") -> ShardName:
    return marker_name(lab.services.keyring, await lab.services.manifest.find_epoch(), store)


async def number(lab: Laboratory) -> int:
    return (await lab.services.manifest.find_epoch()).number


async def put_many(lab: Laboratory, prefix: str, count: int) -> None:
    for index in range(count):
        await lab.put(f"{prefix}{index}", f"{prefix}{index}".encode() * 100)


async def collect_for_days(lab: Laboratory) -> None:
    for _ in range(4):
        lab.clock.advance(24 * 3600 + 1)
        for worker in lab.services.workers:
            with suppress(ManifestFenced):  # one that finds nothing to do writes nothing
                await worker.step()


@pytest.fixture
async def old_copy(tmp_path: Path) -> Path:
    """Return the data of an installation whose manifest was put back to where it was sixty acknowledged objects ago."""
    async with laboratory(tmp_path) as lab:
        await put_many(lab, "old", 5)
        copy_manifest(tmp_path, "copy.sqlite")  # with a lease of which the newer objects use the ids
        lab.clock.advance(61)
        await put_many(lab, "new", 60)
        await lab.worker("epoch").step()
        copy_manifest(tmp_path, "newest.sqlite")
    restore_manifest(tmp_path, "copy.sqlite")
    return tmp_path


async def test_an_old_copy_deletes_nothing_is_read_and_refuses_every_write(old_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with laboratory(old_copy, now_ms=LATER) as lab:
        shards = await lab.shards()
        await collect_for_days(lab)
        assert await lab.shards() == shards
        assert await lab.get("old4") == b"old4" * 100
        with pytest.raises(ManifestFenced, match=r"older copy: it is at epoch 1, and the stores alder, .* have seen epoch 2; nothing is"):
            await lab.put("k", b"x")
        with pytest.raises(ManifestFenced):
            await lab.services.manifest.set_tenant_enabled(lab.tenant.id, False)
    assert len([record for record in caplog.records if "older copy" in record.getMessage()]) == 1


async def test_an_old_copy_stays_fenced_for_whoever_opens_it_though_no_store_that_is_ahead_answers(old_copy: Path) -> None:
    async with open_services(laboratory_config(old_copy)) as services:
        assert "older copy" in (await services.manifest.find_epoch()).fence
    for store in (old_copy / "stores").iterdir():
        shutil.rmtree(store / "epoch")
    async with laboratory(old_copy) as lab:
        with pytest.raises(ManifestFenced):
            await lab.put("k", b"x")


async def test_the_newest_manifest_put_back_goes_on_as_if_nothing_had_been(old_copy: Path) -> None:
    async with laboratory(old_copy):
        pass
    restore_manifest(old_copy, "newest.sqlite")
    async with laboratory(old_copy, now_ms=LATER) as lab:
        await collect_for_days(lab)
        assert await lab.get("new59") == b"new59" * 100
        await lab.put("k", b"x")


async def test_an_accepted_copy_is_written_again_and_nothing_newer_is_deleted(old_copy: Path) -> None:
    async with laboratory(old_copy, now_ms=LATER) as lab:
        newer = await lab.shards()
        await lab.services.epoch.accept()
        assert await number(lab) == 2 + LEAP + 1
        await lab.put("k", b"after" * 100)
        await collect_for_days(lab)
        assert newer <= await lab.shards()
    restore_manifest(old_copy, "newest.sqlite")
    async with laboratory(old_copy) as lab:
        assert await lab.get("new59") == b"new59" * 100
        with pytest.raises(ManifestFenced, match=f"have seen epoch {2 + LEAP + 2}"):
            await lab.put("k", b"x")


async def test_an_accepted_copy_still_collects_its_own_garbage_and_what_it_leased_itself(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await put_many(lab, "k", 2)
        dead = await lab.shards()
        for key in ("k0", "k1"):
            await lab.services.manifest.delete_latest(lab.bucket.id, key, marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
        copy_manifest(tmp_path, "copy.sqlite")
        await lab.services.epoch.move()
    restore_manifest(tmp_path, "copy.sqlite")
    async with laboratory(tmp_path, now_ms=LATER) as lab:
        await lab.services.epoch.accept()
        await put_many(lab, "new", 2)
        await lab.collect()
        assert not dead & await lab.shards()
        assert len(await lab.shards()) == 2 * 6


async def test_a_lease_forgotten_by_accepting_makes_a_late_commit_fail(old_copy: Path) -> None:
    async with laboratory(old_copy) as lab:
        manifest = lab.services.manifest
        with sqlite3.connect(old_copy / "manifest.sqlite") as database:
            intents = database.execute("SELECT count(*) FROM intent").fetchone()
        database.close()
        assert intents == (1,)
        await lab.services.epoch.accept()
        assert await manifest.renew_intents(owner="anybody", expires_ms=2**60) == frozenset()
        assert await manifest.revoke_expired_intents(now_ms=2**60) == 0
        await manifest.settle([Settlement(intent_id=1, mask=1)], [GarbageSegment(id=SegmentId(bytes(16)))], now_ms=1)  # type: ignore[arg-type]
        assert await lab.garbage() == 0


async def test_a_server_that_runs_on_a_copy_is_noticed_by_the_other_at_its_next_move(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as one:
        await one.put("k", b"x")
        copy_manifest(tmp_path, "copy.sqlite")
        other = tmp_path / "other"
        other.mkdir()
        shutil.copy(tmp_path / "copy.sqlite", other / "manifest.sqlite")
        shutil.copy(tmp_path / "root.key", other / "root.key")
        (other / "stores").symlink_to(tmp_path / "stores")
        async with laboratory(other) as two:
            await two.put("k", b"y")
            one.clock.advance(61)
            await one.put("k", b"z")
            with pytest.raises(ManifestFenced, match="older copy"):
                await one.worker("epoch").step()
            with pytest.raises(ManifestFenced):
                await one.put("k", b"z")
            await two.put("k", b"y")


async def test_starts_at_once_raise_no_alarm(tmp_path: Path) -> None:
    async with laboratory(tmp_path):
        pass

    async def start() -> str:
        async with open_services(laboratory_config(tmp_path), serving=True) as services:
            return (await services.manifest.find_epoch()).fence

    assert await asyncio.gather(*(start() for _ in range(4))) == [""] * 4
    async with laboratory(tmp_path) as lab:
        assert await number(lab) == 6
        assert await markers_in(lab, "elm") == [await own_marker(lab)]


async def test_a_crash_between_the_manifest_and_the_markers_raises_no_alarm(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.services.manifest.move_epoch(now_ms=0)
    async with laboratory(tmp_path) as lab:
        assert await number(lab) == 3
        await lab.put("k", b"x")


async def test_the_manifest_has_moved_durably_before_a_store_hears_of_it_and_older_markers_go_last(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        elm, seen = lab.stores["elm"], []

        def look(verb: str) -> None:
            if verb in {"put", "delete"}:
                with sqlite3.connect(tmp_path / "manifest.sqlite") as database:
                    seen.append((verb, *database.execute("SELECT number FROM epoch").fetchone()))
                database.close()

        elm.before = look
        await lab.services.epoch.move()
        assert seen == [("put", 2), ("delete", 2)]


async def test_a_store_that_was_down_or_is_new_hears_of_the_epoch_when_it_answers(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        lab.stores["elm"].down = True
        await lab.services.epoch.move()
        assert (await lab.worker("epoch").step()).trouble == "not all stores have heard of the last epoch: elm not yet"
        lab.stores["elm"].down = False
        lab.clock.advance(10)
        assert (await lab.worker("epoch").step()).trouble == ""
        for store in ("elm", "fir"):
            assert await markers_in(lab, store) == [await own_marker(lab, store)]


async def test_a_store_brought_back_with_old_markers_raises_no_alarm_and_loses_them(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        old = await own_marker(lab)
        await lab.services.epoch.move()
        await lab.stores["elm"].put(old, [b"old"])
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x")
        assert await markers_in(lab, "elm") == [await own_marker(lab)]


async def test_a_store_that_another_manifest_used_before_raises_no_alarm_and_keeps_its_markers(tmp_path: Path) -> None:
    anothers = marker_name(Keyring(FileRootKey(b"another's".ljust(32))), Epoch(identity=OTHERS, number=99, moved_ms=0), "elm")
    async with laboratory(tmp_path) as lab:
        await lab.stores["elm"].put(anothers, [b"another's"])
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x")
        assert set(await markers_in(lab, "elm")) == {anothers, await own_marker(lab)}


async def test_the_epoch_moves_only_for_changes_that_no_number_covers_yet(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab, laboratory(tmp_path) as idle:
        start = await number(lab)
        for each in (lab, idle):
            each.clock.advance(61)
        await idle.worker("epoch").step()
        assert await number(lab) == start, "nothing was changed by that process"
        await lab.put("k", b"x")
        lab.clock.advance(1)
        await lab.worker("epoch").step()
        assert await number(lab) == start + 1
        lab.clock.advance(61)
        await lab.worker("epoch").step()
        assert await number(lab) == start + 1
        await lab.services.manifest.delete_latest(lab.bucket.id, "k", marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
        await lab.worker("epoch").step()
        assert await number(lab) == start + 2


async def test_a_clock_that_is_set_back_does_not_stop_the_epoch(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        start = await number(lab)
        lab.clock.advance(-3600)
        await lab.put("k", b"x")
        await lab.worker("epoch").step()
        assert await number(lab) == start + 1
        lab.clock.advance(61)
        await lab.put("k", b"y")
        await lab.worker("epoch").step()
        assert await number(lab) == start + 2


async def test_what_collection_and_renewal_write_moves_no_epoch(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", os.urandom(100))
        await lab.put("k", os.urandom(100))
        lab.clock.advance(61)
        await lab.worker("epoch").step()
        start = await number(lab)
        lab.clock.advance(61)
        await lab.worker("renew-leases").step()
        await lab.run_collector()
        await lab.worker("epoch").step()
        assert await number(lab) == start


def markers(complete: bool = True, **stores: list[tuple[int, str]]) -> Markers:
    return Markers(by_store={name: [Marker(*marker) for marker in found] for name, found in stores.items()}, complete=complete)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (markers(), ""),
        (markers(a=[], b=[]), ""),
        (markers(a=[(5, OURS)], b=[(3, OURS), (4, OURS)]), ""),
        (markers(a=[(5, OURS)], b=[(6, OURS)]), "older copy"),
        (markers(a=[(6, OURS)], complete=False), "older copy"),
        (markers(a=[(9, OTHERS)], b=[(5, OURS)]), ""),
        (markers(a=[(9, OTHERS)], b=[]), "does not belong to these stores: a know"),
        (markers(a=[(9, OTHERS)], b=[], complete=False), ""),
    ],
)
def test_which_markers_fence_a_manifest(found: Markers, reason: str) -> None:
    told = reason_to_fence(Epoch(identity=OURS, number=5, moved_ms=0), found)
    assert reason in told
    assert bool(told) == bool(reason)


def test_only_a_marker_is_taken_for_one() -> None:
    epoch = Epoch(identity=OURS, number=7, moved_ms=0)
    keyring = Keyring(FileRootKey(bytes(32)))
    name = marker_name(keyring, epoch, "elm")
    assert parse_marker(name) == (7, OURS, keyring.prove_epoch(7, OURS), keyring.mark_store(OURS, "elm"))
    assert keyring.mark_store(OURS, "elm") != keyring.mark_store(OURS, "fir") != keyring.mark_store(OTHERS, "fir")
    for other in ("epoch/7-" + OURS, name[:-1], name + "0", f"x/{name}", f"epoch/{7:020d}-{OURS}", "ab/" + "ab" * 16 + "-00"):
        assert parse_marker(other) is None


@pytest.mark.parametrize("number", [3, 2**62, 2**63, 10**20 - 1])
@pytest.mark.parametrize("proof", ["0" * 32, "of epoch 1"])
async def test_a_marker_that_a_provider_makes_up_stops_nobody_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int, proof: str
) -> None:
    async with laboratory(tmp_path) as lab:
        epoch = await lab.services.manifest.find_epoch()
        if proof != "0" * 32:
            proof = lab.services.keyring.prove_epoch(1, epoch.identity)
        await lab.stores["elm"].put(ShardName(f"epoch/{number:020d}-{epoch.identity}-{proof}-{proof}"), [b"made up"])
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x")
        await lab.services.epoch.move()
        assert (await lab.services.manifest.find_epoch()).number == 3
        told = [record.getMessage() for record in caplog.records if "made" in record.getMessage() or "no server has" in record.getMessage()]
        assert told == ["the stores elm show markers of this manifest that no server has written: they are ignored"]


async def test_a_made_up_marker_does_not_hinder_the_remedy_for_a_true_one(old_copy: Path) -> None:
    async with laboratory(old_copy) as lab:
        identity = (await lab.services.manifest.find_epoch()).identity
        await lab.stores["elm"].put(ShardName(f"epoch/{10**20 - 1:020d}-{identity}-{'0' * 32}-{'0' * 32}"), [b"made up"])
        assert (await lab.services.epoch.accept()).number == 2 + LEAP + 1
        await lab.put("k", b"x")


async def test_a_store_that_hid_what_it_knew_while_a_copy_was_accepted_stops_nobody_later(old_copy: Path) -> None:
    async with laboratory(old_copy) as lab:
        identity = (await lab.services.manifest.find_epoch()).identity
        await lab.services.epoch.accept()
        hidden = Epoch(identity=identity, number=1_000_000, moved_ms=0)
        await lab.stores["elm"].put(marker_name(lab.services.keyring, hidden, "elm"), [b"of a newer manifest, as it went on"])
    async with laboratory(old_copy) as lab:
        await lab.put("k", b"x")


async def test_a_store_that_lists_markers_without_end_holds_nobody_up(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        listed = 0

        async def endless(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
            nonlocal listed
            while prefix == PREFIX:
                listed += 1
                yield ShardName(f"epoch/{listed:020d}-{OTHERS}-{OTHERS}-{OTHERS}"), 1

        lab.stores["elm"].list = endless  # type: ignore[method-assign]
        await lab.services.epoch.move()
        await lab.put("k", b"x")
        assert listed <= 2 * NAMES


# Stores that have changed places


def swap(data: Path, *stores: str) -> None:
    """Give each of these stores the bucket of the next one, as a configuration may. In a bucket nobody has written the store's name."""
    places = [data / "stores" / store for store in stores]
    names = [(place / ".shardgate-store").read_bytes() for place in places]
    for place in places:
        place.rename(place.with_suffix(".moving"))
    for place, after in zip(places, [*places[1:], places[0]], strict=True):
        after.with_suffix(".moving").rename(place)
    for place, name in zip(places, names, strict=True):
        (place / ".shardgate-store").write_bytes(name)


@pytest.mark.parametrize("stores", [("elm", "fir"), ("elm", "fir", "alder")])
async def test_stores_that_have_changed_places_are_refused_until_they_are_put_back(tmp_path: Path, stores: tuple[str, ...]) -> None:
    async with laboratory(tmp_path) as lab:
        await put_many(lab, "k", 3)
        epoch = await number(lab)
    swap(tmp_path, *stores)
    with pytest.raises(ConfigError, match=r"stores\.elm.*store elm is at the place of fir.*put each store's place .* back"):
        async with laboratory(tmp_path):
            pass
    with pytest.raises(ConfigError):
        async with open_services(laboratory_config(tmp_path)):
            pass
    for _ in stores[1:]:
        swap(tmp_path, *stores)
    async with laboratory(tmp_path) as lab:
        assert await number(lab) == epoch + 1
        assert await lab.get("k2") == b"k2" * 100
        assert (await lab.services.manifest.count_damage()).by_store == {}


async def test_stores_that_change_places_under_a_running_server_are_told(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        stores = lab.stores["elm"], lab.stores["fir"]
        stores[0].inner, stores[1].inner = stores[1].inner, stores[0].inner
        with pytest.raises(ConfigError, match="store elm is at the place of fir"):
            await lab.services.epoch.move()


async def test_a_store_that_shows_anothers_mark_stops_nobody_while_that_shows_its_own(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        for name in await markers_in(lab, "elm"):
            await lab.stores["elm"].delete(ShardName(name))
        await lab.stores["elm"].put(await own_marker(lab, "fir"), [b"copied"])
        await lab.services.epoch.move()
        await lab.put("k", b"x")


async def test_a_store_that_was_given_another_name_is_no_swap(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.stores["elm"].put(await own_marker(lab, "gum"), [b"as it was called before"])
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x")


# A store that has lost its marker


async def test_a_store_that_was_emptied_is_scrubbed_at_once(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await put_many(lab, "k", 3)
        async for name, _ in lab.stores["elm"].list():
            await lab.stores["elm"].inner.delete(name)
        lab.clock.advance(61)
        before = lab.stores["fir"].calls["list"]
        await lab.services.epoch.move()
        asked = lab.worker("scrub-asked")
        assert not (await asked.step()).trouble
        assert (await lab.services.manifest.count_damage()).by_store == {("elm", "missing"): 3}
        assert lab.stores["fir"].calls["list"] == before + 2, "its markers were looked at and the old one deleted, no more"
        assert (await asked.step()).idle
        assert await markers_in(lab, "elm") == [await own_marker(lab)]


async def test_a_server_at_rest_looks_for_its_markers_now_and_then(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        keeper = lab.worker("epoch")
        for name in await markers_in(lab, "elm"):
            await lab.stores["elm"].delete(ShardName(name))
        await keeper.step()
        assert await wanted(lab.services.manifest) == ()
        lab.clock.advance(LOOK_SECONDS)
        await keeper.step()
        assert await wanted(lab.services.manifest) == ("elm",)


async def test_a_store_that_hides_its_marker_or_takes_none_is_not_scrubbed_all_the_time(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        for name in await markers_in(lab, "elm"):
            await lab.stores["elm"].delete(ShardName(name))
        lab.stores["elm"].full = True
        lab.clock.advance(61)
        await lab.services.epoch.move()
        await lab.worker("scrub-asked").step()
        for _ in range(3):
            lab.clock.advance(61)
            await lab.services.epoch.move()
            assert await wanted(lab.services.manifest) == ()


async def test_a_store_that_does_not_list_is_scrubbed_later(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await ask_scrub(lab.services.manifest, ["elm", "gone"])
        lab.stores["elm"].down = True
        asked = lab.worker("scrub-asked")
        progress = await asked.step()
        assert "elm did not list" in progress.trouble
        assert asked.idle_seconds == RETRY_SECONDS
        assert await wanted(lab.services.manifest) == ("elm",)
        lab.stores["elm"].down = False
        lab.clock.advance(RETRY_SECONDS)
        assert not (await asked.step()).trouble
        assert await wanted(lab.services.manifest) == ()


async def test_stores_that_no_server_has_marked_yet_have_lost_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        async with open_services(laboratory_config(tmp_path)) as services:
            assert await wanted(services.manifest) == ()
    assert "have lost" not in caplog.text


async def test_a_worker_that_looks_while_another_is_about_to_mark_the_stores_first_raises_no_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with laboratory(tmp_path) as lab:
        await put_many(lab, "k", 3)
        for store in ("elm", "fir"):
            for name in await markers_in(lab, store):
                await lab.stores[store].delete(ShardName(name))
        await lab.services.manifest.move_epoch(now_ms=lab.clock.now_ms())
        await lab.services.epoch.compare()
        assert await wanted(lab.services.manifest) == ()
        assert "have lost" not in caplog.text
        lab.clock.advance(LOOK_SECONDS)
        await lab.services.epoch.compare()
        assert set(await wanted(lab.services.manifest)) == {"elm", "fir"}
