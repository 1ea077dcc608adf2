"""How much one store may list, by what the others list."""

from __future__ import annotations

import asyncio

import pytest

from proxy.engine.recover.bounds import FEW, TIMES, ListingBounds, ListsTooMuch
from tests.patience import PATIENCE_SECONDS


async def test_a_store_may_list_many_times_as_much_as_any_other_and_some_more() -> None:
    bounds = ListingBounds(["elm", "fir", "oak"])
    await bounds.reached("fir", 1000)
    await bounds.reached("elm", FEW + TIMES * 1000)


async def test_one_that_is_far_ahead_waits_until_another_has_come_further() -> None:
    bounds = ListingBounds(["elm", "fir", "oak"])
    waiting = asyncio.create_task(bounds.reached("elm", FEW + TIMES))
    await bounds.ended("oak", 0)
    assert not waiting.done()
    await bounds.reached("fir", 1)
    await waiting


async def test_one_that_lists_on_when_all_others_have_ended_is_given_up() -> None:
    bounds = ListingBounds(["elm", "fir", "oak"])
    waiting = asyncio.create_task(bounds.reached("elm", FEW + TIMES * 7 + 1))
    await bounds.ended("oak", 7)
    await bounds.ended("fir")
    with pytest.raises(
        ListsTooMuch, match=r"store elm: it lists more than 1,000,071 names, and no other store more than 7: it makes them up"
    ):
        await waiting


async def test_two_stores_never_wait_for_each_other() -> None:
    bounds = ListingBounds(["elm", "fir"])
    async with asyncio.timeout(PATIENCE_SECONDS):
        for step in range(1, 50):
            await asyncio.gather(bounds.reached("elm", step * FEW), bounds.reached("fir", step * FEW))


async def test_a_listing_that_is_begun_anew_holds_nobody_up() -> None:
    bounds = ListingBounds(["elm", "fir", "oak"])
    await bounds.reached("fir", 500)
    await bounds.reached("fir", 1)
    await bounds.reached("elm", FEW + TIMES * 500)


async def test_the_only_store_of_a_policy_and_the_only_one_at_all_have_no_bound() -> None:
    await ListingBounds(["elm", "fir"], unbounded=["elm"]).reached("elm", 10**12)
    await ListingBounds(["elm"]).reached("elm", 10**12)
