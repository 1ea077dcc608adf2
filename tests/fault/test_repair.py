"""Repair makes good what is wrong: urgent first, within the policy at every instant, whoever else is at it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.format import is_shard_name, shard_name
from proxy.codec.geometry import Scheme
from proxy.config import Config, RepairConfig
from proxy.engine.moving.moving import ShardMover
from proxy.engine.placing.placement import Policy
from proxy.engine.repair.audit import load_placement
from proxy.engine.repair.brake import rebuild_lost
from proxy.engine.repair.plan import PATIENCE_SECONDS
from proxy.engine.repair.segment import LONGEST_BACKOFF_SECONDS, SOON_SECONDS
from proxy.engine.repair.strays import AT_REST_SECONDS
from proxy.engine.workers import Progress, Runner
from proxy.errors import BudgetExhausted
from proxy.manifest.damage import Damage, DamageKind
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import Job, ObjectKey, Segment, VersionId
from proxy.stores.protocol import ShardName
from proxy.upkeep import make_workers
from tests.laboratory import Laboratory, laboratory, stored

DATA = os.urandom(700_000)
HOUR = 3600.0


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000, background_mib_per_second=100_000) as running:
        yield running


async def repair(lab: Laboratory, *, after: float = HOUR + 1) -> Progress:
    """Let time pass, then let the worker do all that it can do now."""
    lab.clock.advance(after)
    done = Progress(idle=True)
    while True:
        progress = await lab.worker("repair").step()
        await lab.settled()
        if progress.idle:
            return done
        done = progress if progress.done or progress.trouble else done


async def audit(lab: Laboratory) -> None:
    """Let the audit see every extent."""
    await lab.worker("audit").step()


async def report(lab: Laboratory, index: int, kind: DamageKind) -> None:
    extent, segment = await stored(lab)
    generation = segment.generations[index] if segment.generations else 0
    damage = Damage(
        extent_id=extent.id,
        segment_id=segment.id,
        shard_index=index,
        kind=kind,
        store=segment.stores[index],
        generation=generation,
    )
    await lab.services.manifest.report_damage([damage], now_ms=lab.clock.now_ms())


async def spoil(lab: Laboratory, segment: Segment, index: int) -> None:
    """Change a byte of a stored shard for good."""
    store, name = lab.stores[segment.stores[index]].inner, segment.shard_name(index)
    whole = bytearray(await store.get(name))
    whole[100] ^= 1
    await store.delete(name)
    await store.put(name, [bytes(whole)])


async def lose(lab: Laboratory, segment: Segment, *indexes: int) -> None:
    for index in indexes:
        await lab.stores[segment.stores[index]].inner.delete(segment.shard_name(index))


async def damage_left(lab: Laboratory) -> dict[tuple[str, str], int]:
    return dict((await lab.services.manifest.count_damage()).by_store)


async def is_whole(lab: Laboratory, key: str = "k") -> bool:
    """Collect, and tell whether the stores hold the six shards on record and no others."""
    _, segment = await stored(lab, key)
    await lab.collect()
    held = {(name, shard) for name, store in lab.stores.items() async for shard, _ in store.inner.list() if is_shard_name(shard)}
    return held == {(store, segment.shard_name(index)) for index, store in enumerate(segment.stores)}


def now_policy(lab: Laboratory, **changes: object) -> Policy:
    """Change the policy as if the server had been started with another configuration."""
    changed = dataclasses.replace(lab.services.policies["standard"], **changes)  # type: ignore[arg-type]
    for policies in (lab.services.parts.policies, lab.services.engine._policies):
        policies["standard"] = changed  # type: ignore[index]
    return changed


# What is made good


async def test_a_shard_that_a_store_has_lost_is_put_there_again(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    await lose(lab, segment, 0)
    assert await lab.get("k") == DATA
    await lab.settled()
    assert await damage_left(lab) == {(segment.stores[0], "missing"): 1}
    progress = await repair(lab)
    assert (progress.done, progress.remaining, progress.trouble) == (1, 0, "")
    assert progress.size_bytes >= len(DATA)
    _, after = await stored(lab)
    assert (after.stores, after.generations) == (segment.stores, (1, 0, 0, 0, 0, 0))
    assert await is_whole(lab)


async def test_a_forged_shard_is_replaced_and_never_served(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    await spoil(lab, segment, 1)
    assert await lab.get("k") == DATA
    await lab.settled()
    assert await damage_left(lab) == {(segment.stores[1], "forged"): 1}
    await repair(lab)
    assert await damage_left(lab) == {}
    _, after = await stored(lab)
    lab.stores[after.stores[0]].down = lab.stores[after.stores[5]].down = True
    assert await lab.get("k") == DATA, "the new one is needed"


async def test_shards_of_a_dead_store_are_rebuilt_elsewhere_within_the_policy(lab: Laboratory) -> None:
    lab.stores["cedar"].down = True
    for number in range(4):
        await lab.put(str(number), DATA)
    assert await damage_left(lab) == {("cedar", "missing"): 4}
    await repair(lab)
    await repair(lab, after=1)  # once more: the dead one was asked whether it is back
    await repair(lab, after=61)
    assert await damage_left(lab) == {}
    policy = lab.services.policies["standard"]
    for number in range(4):
        _, segment = await stored(lab, str(number))
        assert "cedar" not in segment.stores
        assert segment.missing == ()
        for hand in {hand for store in segment.stores for hand in policy.hands[store]}:
            assert sum(hand in policy.hands[store] for store in segment.stores) < 4
        assert await lab.get(str(number)) == DATA


async def test_a_store_that_was_only_down_gets_its_shards_when_it_is_back(lab: Laboratory) -> None:
    lab.stores["cedar"].down = True
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    await repair(lab, after=PATIENCE_SECONDS / 2)
    assert await damage_left(lab) == {("cedar", "missing"): 1}, "it is waited for"
    lab.stores["cedar"].down = False
    await repair(lab, after=PATIENCE_SECONDS / 4)
    _, after = await stored(lab)
    assert (after.stores, after.missing) == (segment.stores, ())
    assert await is_whole(lab)


async def test_a_promise_that_is_not_kept_waits_for_no_store(lab: Laboratory) -> None:
    lab.stores["cedar"].down = True
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    index = next(index for index, store in enumerate(segment.stores) if store != "cedar")
    await lose(lab, segment, index)
    await report(lab, index, "missing")
    await repair(lab, after=1)
    assert await damage_left(lab) == {("cedar", "missing"): 1}, "the promise is kept again: this one can wait"
    assert (await stored(lab))[1].generations[index] == 1


async def test_what_is_well_after_all_is_left_alone(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    for index, kind in enumerate(("missing", "truncated", "forged", "unreachable", "misplaced", "clumped")):
        await report(lab, index, kind)  # type: ignore[arg-type]
    progress = await repair(lab)
    assert (progress.done, progress.trouble) == (0, "")
    assert await damage_left(lab) == {}
    assert (await stored(lab))[1] == segment


async def test_a_shard_that_was_recorded_as_missing_and_is_there_is_read_again(lab: Laboratory) -> None:
    lab.stores["cedar"].loses_answers = True
    await lab.put("k", DATA)
    lab.stores["cedar"].loses_answers = False
    _, segment = await stored(lab)
    assert [segment.stores[index] for index in segment.missing] == ["cedar"]
    await repair(lab)
    _, after = await stored(lab)
    assert (after.missing, after.generations) == ((), ())


async def test_the_segment_that_can_lose_least_comes_first(lab: Laboratory) -> None:
    order: list[str] = []
    for key, losses in (("a", 1), ("b", 2), ("c", 1)):
        await lab.put(key, DATA)
        _, segment = await stored(lab, key)
        await lose(lab, segment, *range(losses))
        for name in segment.stores:
            lab.stores[name].before = None
        extent, segment = await stored(lab, key)
        found = [
            Damage(extent_id=extent.id, segment_id=segment.id, shard_index=index, kind="missing", store=segment.stores[index])
            for index in range(losses)
        ]
        await lab.services.manifest.report_damage(found, now_ms=lab.clock.now_ms())
    names = {(await stored(lab, key))[1].id: key for key in "abc"}
    rows = await lab.services.manifest.due_repairs(now_ms=lab.clock.now_ms(), limit=9)
    order = [names[row.segment_id] for row in rows]
    assert order == ["b", "a", "c"] or order == ["b", "c", "a"]
    await repair(lab)
    assert await damage_left(lab) == {}


# What changes in the configuration


async def test_a_jurisdiction_that_is_forbidden_is_left_by_copies(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    policy = lab.services.policies["standard"]
    now_policy(lab, stores=tuple(info for info in policy.stores if info.name != "fir"))
    await audit(lab)
    assert await damage_left(lab) == {("fir", "misplaced"): 1}
    for store in lab.stores.values():
        store.calls.clear()
    await repair(lab)
    assert sum(store.calls["get_range"] for store in lab.stores.values()) == 1, "a shard that can be read is copied"
    assert "fir" not in (await stored(lab))[1].stores
    assert await damage_left(lab) == {}
    assert await is_whole(lab)
    assert await lab.get("k") == DATA


async def test_what_the_audit_has_told_already_is_no_step_of_the_manifest_again(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.put("k", DATA)
    policy = lab.services.policies["standard"]
    without_fir = tuple(info for info in policy.stores if info.name != "fir")
    now_policy(lab, stores=without_fir)
    told: list[int] = []

    async def report_damage(damage: Sequence[Damage], *, now_ms: int) -> int:
        told.append(len(damage))
        return await whole(damage, now_ms=now_ms)

    whole = lab.services.parts.manifest.report_damage
    monkeypatch.setattr(lab.services.parts.manifest, "report_damage", report_damage)
    await audit(lab)
    now_policy(lab, stores=policy.stores)
    await lab.put("l", DATA)
    now_policy(lab, stores=without_fir)
    for _ in range(3):
        lab.clock.advance(HOUR)
        await audit(lab)
    assert told == [1, 1]
    assert await damage_left(lab) == {("fir", "misplaced"): 2}


async def test_a_store_that_left_the_configuration_is_rebuilt_from_the_others(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    await _drop_store(lab, "fir")
    await audit(lab)
    assert await damage_left(lab) == {("fir", "unreachable"): 1}
    await repair(lab)
    _, after = await stored(lab)
    assert "fir" not in after.stores
    assert await lab.get("k") == DATA


async def _drop_store(lab: Laboratory, name: str) -> None:
    policy = lab.services.policies["standard"]
    now_policy(lab, stores=tuple(info for info in policy.stores if info.name != name))
    stores = dict(lab.services.fleet.stores)
    dropped = stores.pop(name)
    lab.services.fleet.stores = stores
    await dropped.close()


async def test_what_the_policy_no_longer_says_in_its_scheme_is_counted(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    now_policy(lab, scheme=Scheme(3, 3), storage_classes={})
    await audit(lab)
    found = await load_placement(lab.services.manifest)
    assert found is not None
    assert found.outdated == {"standard": 1}


async def test_a_segment_whose_policy_is_gone_waits_and_says_so(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    await report(lab, 0, "missing")
    lab.services.parts.policies.clear()  # type: ignore[attr-defined]
    progress = await repair(lab)
    assert "standard" in progress.trouble
    assert await damage_left(lab) != {}


# What does not work out


async def test_a_lost_segment_stays_in_the_queue_is_told_and_comes_back_with_its_store(
    lab: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    kept = {index: bytes(await lab.stores[segment.stores[index]].inner.get(segment.shard_name(index))) for index in range(3)}
    await lose(lab, segment, 0, 1, 2)
    for index in range(3):
        await report(lab, index, "missing")
    progress = await repair(lab)
    assert "cannot be read" in progress.trouble
    assert f"segment {segment.id.hex()}" in caplog.text
    assert progress.remaining == 1
    await lab.collect()
    assert await lab.shards() == {segment.shard_name(index) for index in range(3, 6)}, "nothing of it is deleted"
    for index, shard in kept.items():
        await lab.stores[segment.stores[index]].inner.put(segment.shard_name(index), [shard])
    await repair(lab, after=LONGEST_BACKOFF_SECONDS)
    assert await damage_left(lab) == {}
    assert await lab.get("k") == DATA


async def test_what_no_store_takes_is_tried_again_later_and_later(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    await lose(lab, segment, 0)
    await report(lab, 0, "missing")
    for store in lab.stores.values():
        store.full = True
    waits = []
    for _ in range(4):
        progress = await repair(lab, after=LONGEST_BACKOFF_SECONDS)
        assert progress.trouble
        ((row,)) = await lab.services.manifest.due_repairs(now_ms=lab.clock.now_ms() + 10**8, limit=1)
        waits.append(row.due_ms - lab.clock.now_ms())
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]
    for store in lab.stores.values():
        store.full = False
    await repair(lab, after=LONGEST_BACKOFF_SECONDS)
    assert await damage_left(lab) == {}


async def test_strays_are_deleted_once_they_have_come_to_rest(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    segment = await _strayed(lab, drawn=1)
    index = segment.stores.index("cedar")
    await lab.stores["elm"].inner.put(ShardName(shard_name(segment.id, index)), [b"of a put that failed"])
    await lab.stores["fir"].inner.put(ShardName(shard_name(segment.id, index, 1)), [b"of a move before a recovery"])
    under_way = ShardName(shard_name(segment.id, index, 2))
    await lab.stores["fir"].inner.put(under_way, [b"of a move that was drawn since"])
    await repair(lab, after=AT_REST_SECONDS / 2)
    assert (await stored(lab))[1].strays
    await repair(lab, after=AT_REST_SECONDS)
    assert not (await stored(lab))[1].strays
    assert await damage_left(lab) == {}
    assert await lab.stores["fir"].inner.get(under_way)
    await lab.stores["fir"].inner.delete(under_way)
    assert await is_whole(lab)
    assert await lab.get("k") == DATA


async def test_strays_found_before_the_clock_was_set_back_are_waited_for_without_looking_all_the_time(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    await _strayed(lab)
    lab.clock.advance(-2 * 24 * 3600.0)
    await lab.worker("repair").step()
    assert (await lab.worker("repair").step()).idle
    await repair(lab, after=2 * 24 * 3600.0 + AT_REST_SECONDS + 1)
    assert not (await stored(lab))[1].strays


async def test_strays_stay_on_record_while_a_store_that_may_have_one_does_not_answer(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    await _strayed(lab)
    lab.stores["elm"].down = True
    progress = await repair(lab, after=AT_REST_SECONDS + 1)
    assert "may have a shard in a store that does not answer" in progress.trouble
    assert (await stored(lab))[1].strays


async def _strayed(lab: Laboratory, *, drawn: int = 0) -> Segment:
    """Commit the object anew, as a write would have that took a detour; return its segment."""
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    extent, segment = await stored(lab)
    strayed = replace(segment, strays=True, drawn=drawn)
    draft = VersionDraft(
        bucket_id=lab.bucket.id,
        key=ObjectKey("k"),
        id=VersionId("drawn"),
        size=version.size,
        etag=version.etag,
        modified_ms=lab.clock.now_ms(),
        new_layouts=(replace(extent.layout, segments=(strayed,)),),
    )
    await lab.services.manifest.commit_version(draft)
    await lab.services.manifest.split_garbage(before_ms=2**50, limit=100)
    for store in lab.stores:  # the version before was of the same shards
        await lab.services.manifest.finish_garbage(await lab.services.manifest.due_garbage(store, before_ms=2**50, limit=100))
    return strayed


# Others at the same time


async def test_two_repairers_at_once_do_each_segment_once(lab: Laboratory) -> None:
    for number in range(6):
        await lab.put(str(number), DATA)
        extent, segment = await stored(lab, str(number))
        await lose(lab, segment, 0)
        found = Damage(extent_id=extent.id, segment_id=segment.id, shard_index=0, kind="missing", store=segment.stores[0])
        await lab.services.manifest.report_damage([found], now_ms=lab.clock.now_ms())
    other = next(worker for worker in make_workers(lab.services.parts) if worker.name == "repair")
    await asyncio.gather(lab.worker("repair").step(), other.step())
    await repair(lab, after=61)
    assert await damage_left(lab) == {}
    await lab.collect()
    expected = set()
    for number in range(6):
        _, segment = await stored(lab, str(number))
        expected |= {segment.shard_name(index) for index in range(6)}
        assert await lab.get(str(number)) == DATA
    assert await lab.shards() == expected


async def test_a_straggler_that_arrives_during_its_own_repair_leaves_nothing(lab: Laboratory) -> None:
    arrive = asyncio.Event()
    cedar = lab.stores["cedar"]
    inner_put = cedar.inner.put

    async def late(name: str, body: object) -> None:
        if "." not in name:
            await arrive.wait()
        await inner_put(name, body)  # type: ignore[arg-type]

    cedar.inner.put = late  # type: ignore[assignment,method-assign]
    await lab.put_promptly("k", DATA)
    _, segment = await stored(lab)
    index = segment.stores.index("cedar")
    assert segment.missing == (index,)
    lab.clock.advance(HOUR + 1)
    await lab.worker("repair").step()
    _, repaired = await stored(lab)
    assert (repaired.missing, repaired.generations[index]) == ((), 1)
    await lab.run_collector()
    arrive.set()
    await lab.settled()
    assert await is_whole(lab)
    assert await damage_left(lab) == {}
    assert await lab.get("k") == DATA


@pytest.mark.parametrize("how", ["overwritten", "deleted"])
async def test_an_object_that_goes_during_its_repair_leaves_nothing(lab: Laboratory, how: str) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    await lose(lab, segment, 0)
    await report(lab, 0, "missing")
    putting, go_on = asyncio.Event(), asyncio.Event()
    inner_put = lab.stores[segment.stores[0]].inner.put

    async def slowly(name: str, body: object) -> None:
        if "." in name:
            putting.set()
            await go_on.wait()
        await inner_put(name, body)  # type: ignore[arg-type]

    lab.stores[segment.stores[0]].inner.put = slowly  # type: ignore[assignment,method-assign]
    work = asyncio.create_task(lab.worker("repair").step())
    await putting.wait()
    if how == "overwritten":
        await lab.put("k", b"newer")
    else:
        await lab.services.manifest.delete_version(lab.bucket.id, ObjectKey("k"), VersionId("null"), now_ms=lab.clock.now_ms())
    go_on.set()
    await work
    await lab.settled()
    assert await damage_left(lab) == {}
    await lab.collect()
    if how == "overwritten":
        assert await lab.get("k") == b"newer"
        assert await is_whole(lab)
    else:
        assert await lab.shards() == set()


async def test_a_repair_that_is_broken_off_anywhere_goes_on_later(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    steps, ended = 0, False
    while not ended:
        _, segment = await stored(lab)
        await lose(lab, segment, 0)
        await report(lab, 0, "missing")
        work = asyncio.create_task(lab.worker("repair").step())
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = work.done()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await lab.settled()
        await repair(lab)
        assert await damage_left(lab) == {}
        assert await is_whole(lab)
        assert await lab.get("k") == DATA
        steps += 3
    assert steps > 10


@pytest.mark.parametrize("down", ["alder", "cedar", "elm"])
async def test_no_hand_holds_k_shards_at_any_instant(lab: Laboratory, down: str) -> None:
    policy = lab.services.policies["standard"]
    hands: dict[str, set[str]] = {}
    for store, names in policy.hands.items():
        for hand in names:
            hands.setdefault(hand, set()).add(store)
    seen = 0

    def watch(_: str) -> None:
        nonlocal seen
        seen += 1
        for stores in hands.values():
            assert _most_of_one_segment(lab, stores) < 4

    for store in lab.stores.values():
        store.before = watch
    lab.stores[down].down = True
    for number in range(3):
        await lab.put(str(number), DATA)
    await repair(lab)
    lab.stores[down].down = False
    now_policy(lab, stores=tuple(info for info in policy.stores if info.name != "fir"))
    lab.clock.advance(10)
    await audit(lab)
    for _ in range(3):
        await repair(lab, after=LONGEST_BACKOFF_SECONDS)
        await lab.collect()
    watch("end")
    assert await damage_left(lab) == {}
    assert seen > 20
    for number in range(3):
        assert await lab.get(str(number)) == DATA


def _most_of_one_segment(lab: Laboratory, stores: Collection[str]) -> int:
    """Return the most different shards of one segment that lie in some stores, or were sent there and not deleted."""
    shards: dict[str, set[str]] = {}
    for name in stores:
        for shard in _held(lab, name):
            segment, _, index = shard.partition("-")
            shards.setdefault(segment, set()).add(index.partition(".")[0])
    return max((len(indexes) for indexes in shards.values()), default=0)


def _held(lab: Laboratory, name: str) -> set[str]:
    return {str(shard) for shard in lab.stores[name].sent - lab.stores[name].deleted if is_shard_name(shard)}


async def test_a_runner_repairs_by_itself(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    await lose(lab, segment, 0)
    await report(lab, 0, "missing")
    runner = Runner(lab.services.manifest, lab.clock, (), holder="test")
    wait = await runner.turn(lab.worker("repair"))
    assert wait == 0.0
    job: Job = await lab.services.manifest.find_job("repair")
    assert (job.done, job.remaining, job.last_error) == (1, 0, "")
    assert job.size_bytes > len(DATA)


async def test_want_of_memory_is_nobodys_failure(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.put("k", DATA)
    extent, segment = await stored(lab)
    await lab.stores[segment.stores[0]].inner.delete(segment.shard_name(0))
    lost = Damage(extent_id=extent.id, segment_id=segment.id, shard_index=0, kind="missing", store=segment.stores[0])
    await lab.services.manifest.report_damage([lost], now_ms=lab.clock.now_ms())

    async def none_left(*args: object, **kwargs: object) -> None:
        raise BudgetExhausted("clients have it all")

    with monkeypatch.context() as patched:
        patched.setattr(ShardMover, "rebuild", none_left)
        for _ in range(4):
            lab.clock.advance(SOON_SECONDS + 1)
            assert (await lab.worker("repair").step()).trouble == ""
    lab.clock.advance(SOON_SECONDS + 1)
    assert (await lab.worker("repair").step()).done == 1, "it is tried again each minute, and not later and later"


# A store that says that it has lost very much


def with_brake(config: Config) -> Config:
    return replace(config, repair=RepairConfig(brake_shards=3, brake_share=0.0))


@pytest.fixture
async def braking(tmp_path: Path) -> AsyncIterator[Laboratory]:
    limits = {"background_requests_per_second": 1_000_000, "background_mib_per_second": 100_000}
    async with laboratory(tmp_path, adjust=with_brake, **limits) as running:
        yield running


def hide(lab: Laboratory, store: str) -> None:
    """From now on it answers that there is no such object to every read, and takes what is put."""
    lab.stores[store].swaps_with = ShardName("00/nothing")


async def read_all(lab: Laboratory, count: int) -> None:
    for number in range(count):
        assert await lab.get(str(number)) == DATA
    await lab.settled()


async def put_all(lab: Laboratory, count: int) -> None:
    for number in range(count):
        await lab.put(str(number), DATA)


async def report_all(lab: Laboratory, store: str, count: int) -> None:
    """Report, as a scrub would, that a store has none of its shards."""
    found = []
    for number in range(count):
        extent, segment = await stored(lab, str(number))
        index = segment.stores.index(store)
        found.append(
            Damage(
                extent_id=extent.id,
                segment_id=segment.id,
                shard_index=index,
                kind="missing",
                store=store,
                generation=segment.generations[index] if segment.generations else 0,
            )
        )
    await lab.services.manifest.report_damage(found, now_ms=lab.clock.now_ms())


async def test_a_store_that_answers_not_found_to_everything_is_not_rebuilt_unasked(braking: Laboratory) -> None:
    lab = braking
    await put_all(lab, 5)
    hide(lab, "cedar")
    await report_all(lab, "cedar", 5)
    puts = lab.stores["cedar"].calls["put"]
    for _ in range(3):
        progress = await repair(lab)
        assert (progress.done, "5 segments wait for an operator" in progress.trouble) == (0, True)
    assert lab.stores["cedar"].calls["put"] == puts
    (losses,) = await lab.services.manifest.list_losses()
    assert (losses.store, losses.found, losses.state) == ("cedar", 5, "paused")
    await read_all(lab, 5)


async def test_repair_goes_on_by_itself_when_the_shards_are_there_again(braking: Laboratory) -> None:
    lab = braking
    await put_all(lab, 5)
    hide(lab, "cedar")
    await report_all(lab, "cedar", 5)
    await repair(lab)
    lab.stores["cedar"].swaps_with = None
    _, segment = await stored(lab, "0")
    await lose(lab, segment, segment.stores.index("cedar"))  # but for one
    await repair(lab)
    await repair(lab)
    assert await damage_left(lab) == {}
    (losses,) = await lab.services.manifest.list_losses()
    assert (losses.found, losses.state) == (1, "counting")
    assert (await stored(lab, "1"))[1].generations == ()
    assert (await stored(lab, "0"))[1].generations[segment.stores.index("cedar")] == 1


async def test_a_loss_that_an_operator_has_confirmed_is_rebuilt_at_once(braking: Laboratory) -> None:
    lab = braking
    await put_all(lab, 5)
    for number in range(5):
        _, segment = await stored(lab, str(number))
        await lose(lab, segment, segment.stores.index("cedar"))
    await report_all(lab, "cedar", 5)
    await repair(lab)
    assert await rebuild_lost(lab.services.manifest, "birch", now_ms=lab.clock.now_ms()) is None
    assert await rebuild_lost(lab.services.manifest, "cedar", now_ms=lab.clock.now_ms()) is not None
    await repair(lab, after=0)
    assert await damage_left(lab) == {}
    assert all([(await stored(lab, str(number)))[1].generations for number in range(5)])
    await report_all(lab, "cedar", 5)  # what is found the same day needs no other word
    await repair(lab)
    assert [losses.state for losses in await lab.services.manifest.list_losses()] == ["allowed"]


async def test_a_segment_whose_promise_would_break_is_repaired_under_the_brake(braking: Laboratory) -> None:
    lab = braking
    await put_all(lab, 5)
    hide(lab, "cedar")
    await report_all(lab, "cedar", 5)
    _, segment = await stored(lab, "2")
    other = next(index for index, store in enumerate(segment.stores) if store != "cedar")
    await lose(lab, segment, other)
    damage = Damage(
        extent_id=(await stored(lab, "2"))[0].id,
        segment_id=segment.id,
        shard_index=other,
        kind="missing",
        store=segment.stores[other],
    )
    await lab.services.manifest.report_damage([damage], now_ms=lab.clock.now_ms())
    await repair(lab)
    _, after = await stored(lab, "2")
    assert after.generations[other] == 1
    assert await damage_left(lab) == {("cedar", "missing"): 4}


async def test_a_small_loss_is_repaired_unasked(braking: Laboratory) -> None:
    lab = braking
    await put_all(lab, 3)
    for number in range(3):
        _, segment = await stored(lab, str(number))
        await lose(lab, segment, segment.stores.index("cedar"))
    await report_all(lab, "cedar", 3)
    await repair(lab)
    assert await damage_left(lab) == {}
