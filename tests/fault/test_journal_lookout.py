"""Two servers on two copies of one manifest find each other when they write the journal, and at most one of them goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.codec.format import JOURNAL_PREFIX, CopyName
from proxy.engine.journal import lookout
from proxy.errors import ManifestFenced, StoreUnavailable
from proxy.services import Services
from proxy.stores.protocol import ShardName
from tests.fault.journal_child import KEPT
from tests.fault.test_journal_fence import two_manifests
from tests.faulty_store import FaultyStore
from tests.laboratory import Laboratory, laboratory

STORES = ("alder", "birch", "cedar", "dogwood", "elm", "fir")


class OddLists(FaultyStore):
    """A store that lists what it likes of the journal."""

    hides = False  # what others have put
    refuses = False
    hangs = False
    invented: tuple[ShardName, ...] = ()
    lists = 0  # that were asked for of the journal

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        if prefix.startswith(JOURNAL_PREFIX):
            self.lists += 1
            if self.refuses:
                raise StoreUnavailable(self.info.name, "lists nothing on purpose")
            if self.hangs:
                await asyncio.Event().wait()
            for name in self.invented:
                if name.startswith(prefix):
                    yield name, 1000
        async for name, size in super().list(prefix):
            if not self.hides or name in self.sent or not name.startswith(JOURNAL_PREFIX):
                yield name, size


def oddly(services: Services) -> dict[str, OddLists]:
    """Put a store that can be broken below limits and health, where a provider is."""
    stores: dict[str, OddLists] = {}
    for name, observed in services.fleet.stores.items():
        limited = observed._inner  # type: ignore[attr-defined]  # of the laboratory's fleet
        stores[name] = limited._inner = OddLists(limited._inner)
    return stores


async def change(services: Services, text: str) -> bool:
    """Make one change that waits for the journal; return whether it was acknowledged."""
    try:
        await services.manifest.put_bucket_setting(1, "cors", text)
        assert services.journal is not None
        await services.journal.flusher.stored()
    except ManifestFenced:
        return False
    return True


async def fenced(services: Services) -> bool:
    return bool((await services.manifest.find_epoch()).fence)


@pytest.mark.parametrize("first", [0, 1])
async def test_of_two_servers_at_most_one_acknowledges_a_second_change(tmp_path: Path, first: int) -> None:
    async with two_manifests(tmp_path) as (one, two, _):
        for services in (one, two):
            await change(services, f"first of {id(services)}")
        sooner, later = (one, two) if first == 0 else (two, one)
        assert await change(sooner, "sooner")
        assert not await change(later, "later")
        assert await fenced(later)
        assert await change(sooner, "again")


async def test_of_two_that_write_at_the_same_time_at_most_one_goes_on(tmp_path: Path) -> None:
    async with two_manifests(tmp_path) as (one, two, _):
        await asyncio.gather(change(one, "a"), change(two, "b"))
        acknowledged = await asyncio.gather(change(one, "c"), change(two, "d"))
        assert sum(acknowledged) <= 1
        assert sum([await fenced(one), await fenced(two)]) >= 1


async def test_a_copy_that_has_noted_less_does_not_acknowledge_anything(tmp_path: Path) -> None:
    async with two_manifests(tmp_path) as (one, two, _):
        for number in range(3):
            assert await change(one, str(number))
        assert not await change(two, "x")
        assert not await change(two, "y")
        assert await change(one, "z")


async def test_who_waits_is_told_the_reason_and_the_remedy_at_once(tmp_path: Path) -> None:
    async with two_manifests(tmp_path) as (one, two, _):
        for number in range(3):
            await change(one, str(number))
        await two.manifest.put_bucket_setting(1, "cors", "x")
        with pytest.raises(ManifestFenced, match=r"older copy: its journal .* shardgate recover --resume"):
            await two.journal.flusher.stored()  # type: ignore[union-attr]  # one is kept
        with pytest.raises(ManifestFenced):
            await two.manifest.put_bucket_setting(1, "cors", "y")


@pytest.mark.parametrize("down", STORES)
async def test_they_find_each_other_with_a_store_down(tmp_path: Path, down: str) -> None:
    async with two_manifests(tmp_path) as (one, two, _):
        for services in (one, two):
            oddly(services)[down].down = True
            await change(services, f"first of {id(services)}")
        assert await change(one, "second") + await change(two, "second") == 1


@pytest.mark.parametrize("hiding", STORES)
async def test_a_store_that_hides_the_others_segments_hides_them_until_the_next(tmp_path: Path, hiding: str) -> None:
    async with two_manifests(tmp_path) as (one, two, _):
        for services in (one, two):
            oddly(services)[hiding].hides = True
            await change(services, f"first of {id(services)}")
        seconds = [await change(services, "second") for services in (one, two)]
        thirds = [await change(services, "third") for services in (one, two)]
        assert seconds[0]
        assert thirds == [True, False]


@pytest.mark.parametrize("silence", ["refuses", "hangs"])
async def test_another_store_is_asked_for_one_that_does_not_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silence: str) -> None:
    monkeypatch.setattr(lookout, "LOOK_SECONDS", 0.2)
    async with two_manifests(tmp_path) as (one, two, _):
        number = (await one.manifest.journal_position()).number
        for services in (one, two):
            stores = oddly(services)
            for turn in (2, 3):  # whose turn it is at the second change, and who is asked after that
                setattr(stores[STORES[(number + turn) % 6]], silence, True)
            await change(services, f"first of {id(services)}")
        assert await change(one, "second") + await change(two, "second") == 1


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, journal=KEPT) as opened:
        await opened.put("settled", b"")
        yield opened


async def test_nothing_is_acknowledged_if_no_store_lists(lab: Laboratory) -> None:
    flusher = lab.services.journal.flusher  # type: ignore[union-attr]  # one is kept
    stores = oddly(lab.services)
    for store in stores.values():
        store.refuses = True
    before = await lab.services.manifest.journal_position()
    await lab.services.manifest.put_bucket_setting(1, "cors", "x")
    await flusher.flush()
    assert "no store lists journal segment" in flusher.trouble
    assert (await lab.services.manifest.journal_position()).number == before.number
    for store in stores.values():
        store.refuses = False
    assert await change(lab.services, "y")


async def test_a_flush_costs_one_listing_and_none_if_nothing_has_changed(lab: Laboratory) -> None:
    stores = oddly(lab.services)
    for number in range(6):
        assert await change(lab.services, str(number))
    assert [store.lists for store in stores.values()] == [1] * 6
    await lab.services.journal.flusher.flush()  # type: ignore[union-attr]  # one is kept
    await lab.get("settled")
    assert sum(store.lists for store in stores.values()) == 6


async def test_names_that_a_store_makes_up_stop_nobody(lab: Laboratory) -> None:
    stores = oddly(lab.services)
    identity = (await lab.services.manifest.find_epoch()).identity
    number = (await lab.services.manifest.journal_position()).number
    numbers = range(number + 1, number + 20)
    stores["cedar"].invented = tuple(
        ShardName(str(CopyName(JOURNAL_PREFIX, identity, made_up, b"s" * 16, index))) for made_up in numbers for index in range(6)
    )
    for made_up in range(12):
        assert await change(lab.services, str(made_up))
    assert not await fenced(lab.services)
    asked = [store.lists for name, store in stores.items() if name != "cedar"]
    assert stores["cedar"].lists < min(asked) + 3, "it is asked last from then on"


async def test_a_store_that_lists_without_end_is_passed_over(lab: Laboratory) -> None:
    stores = oddly(lab.services)
    identity = (await lab.services.manifest.find_epoch()).identity
    number = (await lab.services.manifest.journal_position()).number
    for store in list(stores.values())[:5]:
        store.invented = (ShardName(f"j/{identity}/{number + 1:020d}-x"),) * 2000
    assert await change(lab.services, "x")
    assert sum(store.lists for store in stores.values()) <= 6
