"""The byte budget: bounded, in turn, and never lost. Time is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.engine.memory.budget import SMALL_SIZE, SOON_SECONDS, STALL_SECONDS, Budget
from proxy.engine.memory.claims import Claim, can_all_finish
from proxy.engine.memory.grant import Grant
from proxy.errors import BudgetExhausted
from tests.leaping import leap, stand_still

pytestmark = pytest.mark.leaping
LARGE = 3 * SMALL_SIZE
CAPACITY = 8 * LARGE
EIGHTH = CAPACITY // 8


def budget(*, wait_seconds: float = 60, patience_seconds: float = 60) -> Budget:
    return Budget(CAPACITY, wait_seconds=wait_seconds, patience_seconds=patience_seconds)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def ask(shared: Budget, size: int) -> asyncio.Task[Grant]:
    """Ask for memory; the task is done if it was there."""
    asked = asyncio.create_task(shared.acquire(size, owner="t"))
    await settle()
    return asked


async def test_who_is_cancelled_while_others_give_back_disturbs_nobody_and_keeps_nothing() -> None:
    shared = budget()
    held = await shared.acquire(CAPACITY, owner="t")
    waiting = await ask(shared, LARGE)
    waiting.cancel()  # it does not run before the memory comes free
    held.release()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert shared.held_bytes == 0


async def test_large_requests_get_their_turn_in_the_order_they_came() -> None:
    shared = budget()
    held = [await shared.acquire(LARGE, owner="t") for _ in range(7)]
    order: list[int] = []

    async def wait(number: int, size: int) -> None:
        await shared.acquire(size, owner="t")
        order.append(number)

    waiting = [asyncio.create_task(wait(number, size)) for number, size in enumerate((2 * LARGE, LARGE, LARGE))]
    await settle()
    held.pop().release()
    await settle()
    assert order == []  # the first of them needs more, and is not overtaken
    for granted in held:
        granted.release()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]


async def test_who_was_cancelled_in_the_same_instant_is_not_served() -> None:
    shared = budget()
    held = await shared.acquire(shared.largest_bytes, owner="t")
    gone, next_one = await ask(shared, LARGE), await ask(shared, LARGE)

    gone.cancel()
    held.release()  # before the cancelled one runs again
    await settle()

    assert gone.cancelled()
    (await next_one).release()
    assert shared.held_bytes == 0


async def test_small_requests_pass_the_large_ones_that_wait() -> None:
    shared = budget()
    held = [await shared.acquire(LARGE, owner="t") for _ in range(7)]
    waiting = await ask(shared, LARGE)
    assert not waiting.done()
    small = await shared.acquire(SMALL_SIZE, owner="t")
    assert shared.held_bytes == 7 * LARGE + SMALL_SIZE
    small.release()
    held[0].release()
    assert (await waiting).size_bytes == LARGE


async def test_small_requests_that_never_cease_do_not_starve_a_large_one() -> None:
    shared = budget(patience_seconds=0)
    held = [await shared.acquire(SMALL_SIZE, owner="t") for _ in range(CAPACITY // SMALL_SIZE)]
    large = await ask(shared, 4 * LARGE)
    small = [await ask(shared, SMALL_SIZE) for _ in range(100)]
    for granted in held[: (4 * LARGE) // SMALL_SIZE]:
        granted.release()
        await settle()
    assert large.done()
    assert not any(asked.done() for asked in small)
    for granted in held:
        granted.release()
    await settle()
    assert sum(asked.done() for asked in small) == (CAPACITY - 4 * LARGE) // SMALL_SIZE  # nobody large waits: all that is free is theirs
    for asked in small:
        asked.cancel()


async def test_the_largest_request_is_served_while_small_ones_use_their_eighth() -> None:
    shared = budget(patience_seconds=0)
    filler = await shared.acquire(LARGE, owner="t")
    huge = await ask(shared, CAPACITY)
    small = [await ask(shared, SMALL_SIZE) for _ in range(10)]
    assert sum(asked.done() for asked in small) == EIGHTH // SMALL_SIZE
    filler.release()
    assert (await huge).size_bytes == CAPACITY - EIGHTH
    assert shared.held_bytes == CAPACITY
    for asked in small:
        asked.cancel()


async def test_large_requests_that_wait_for_long_do_not_starve_small_ones() -> None:
    shared = budget(patience_seconds=0)
    held = [await shared.acquire(LARGE, owner="t") for _ in range(7)]
    waiting = [await ask(shared, LARGE) for _ in range(5)]
    for _ in range(50):
        small = [await ask(shared, SMALL_SIZE) for _ in range(EIGHTH // SMALL_SIZE)]
        assert all(asked.done() for asked in small)
        assert not any(asked.done() for asked in waiting)
        for asked in small:
            asked.result().release()
    for granted in held:
        granted.release()
    await asyncio.gather(*waiting)


async def test_parts_of_a_large_grant_count_as_large_when_they_come_back() -> None:
    shared = budget(patience_seconds=0)
    parts = await shared.acquire(LARGE, owner="t")
    held = [await shared.acquire(LARGE, owner="t") for _ in range(6)]
    waiting = await ask(shared, 2 * LARGE)
    parts.release(SMALL_SIZE)
    parts.release(SMALL_SIZE)
    small = [await ask(shared, SMALL_SIZE) for _ in range(10)]
    assert sum(asked.done() for asked in small) == EIGHTH // SMALL_SIZE
    parts.release()
    held[0].release()
    assert (await waiting).size_bytes == 2 * LARGE
    for asked in small:
        asked.cancel()


async def test_small_requests_are_bounded_too() -> None:
    shared = budget(wait_seconds=0.01)
    for _ in range(CAPACITY // SMALL_SIZE):
        await shared.acquire(SMALL_SIZE, owner="t")
    with pytest.raises(BudgetExhausted):
        await shared.acquire(1, owner="t")
    assert shared.held_bytes == CAPACITY


async def test_one_request_larger_than_all_runs_alone() -> None:
    shared = budget()
    granted = await shared.acquire(10 * CAPACITY, owner="t")
    assert granted.size_bytes == CAPACITY - EIGHTH
    granted.release()
    assert shared.held_bytes == 0


@pytest.mark.parametrize("capacity", [1, SMALL_SIZE // 2, 2 * SMALL_SIZE, 3 * SMALL_SIZE])
async def test_the_smallest_budgets_serve_everybody_in_turn(capacity: int) -> None:
    shared = Budget(capacity, wait_seconds=60, patience_seconds=0)
    for size in (LARGE, SMALL_SIZE, LARGE, 1):
        granted = await shared.acquire(size, owner="t")
        assert shared.held_bytes <= capacity
        asked = await ask(shared, SMALL_SIZE)
        granted.release()
        (await asked).release()
    assert shared.held_bytes == 0


async def test_bytes_are_given_back_once() -> None:
    shared = budget()
    granted = await shared.acquire(LARGE, owner="t")
    granted.keep(100)
    assert shared.held_bytes == 100
    granted.release(60)
    granted.keep(70)
    granted.release(60)
    assert shared.held_bytes == 0
    granted.release()
    assert shared.held_bytes == 0


@pytest.mark.parametrize("granted_meanwhile", [False, True])
async def test_who_gives_up_waiting_leaves_nothing_held(granted_meanwhile: bool) -> None:
    shared = budget()
    held = await shared.acquire(CAPACITY, owner="t")
    waiting = asyncio.create_task(shared.acquire(LARGE, owner="t"))
    behind = asyncio.create_task(shared.acquire(LARGE, owner="t"))
    await settle()
    if granted_meanwhile:
        held.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not granted_meanwhile:
        held.release()
    (await behind).release()
    assert shared.held_bytes == 0


async def test_small_requests_go_on_when_the_large_one_they_waited_for_gives_up() -> None:
    shared = budget(patience_seconds=0)
    held = [await shared.acquire(LARGE, owner="t") for _ in range(6)]
    large = await ask(shared, 2 * LARGE)
    small = [await ask(shared, SMALL_SIZE) for _ in range(5)]
    assert sum(asked.done() for asked in small) == EIGHTH // SMALL_SIZE
    large.cancel()
    await settle()
    assert all(asked.done() for asked in small)
    assert len(held) == 6


async def fill(shared: Budget, claim: int, step: int, *, owner: str = "t", idle_seconds: float = 60) -> int:
    """Fill a grant step by step, as a body's bytes arrive; give all back, and return how much it was."""
    grant = shared.claim(claim, owner=owner)
    try:
        async with grant.filling(idle_seconds=idle_seconds):
            for size in range(step, claim + step, step):
                await grant.grow(size)
                assert shared.held_bytes <= shared.capacity_bytes
                await asyncio.sleep(0)
        return grant.size_bytes
    finally:
        grant.release()


async def stall(shared: Budget, claim: int, size: int, *, owner: str = "t", idle_seconds: float = 60) -> None:
    """Hold a part of a claim, and wait for the rest for ever."""
    grant = shared.claim(claim, owner=owner)
    try:
        async with grant.filling(idle_seconds=idle_seconds):
            await grant.grow(size)
            await asyncio.Event().wait()
    finally:
        grant.release()


async def test_a_grant_grows_as_far_as_its_claim() -> None:
    shared = budget()
    grant = shared.claim(LARGE, owner="t")
    assert shared.held_bytes == 0
    async with grant.filling():
        for size in (1, 100, 100, LARGE - 1, LARGE, 2 * LARGE):
            await grant.grow(size)
            assert shared.held_bytes == grant.size_bytes == min(size, LARGE)
        await grant.grow(5)
        assert grant.size_bytes == LARGE
    grant.release()
    assert shared.held_bytes == 0


async def test_what_lies_ready_is_called_back_for_once_another_tenant_lacks_its_share() -> None:
    shared = budget(patience_seconds=0)
    ready = [await shared.acquire(SMALL_SIZE, owner="rich") for _ in range(CAPACITY // SMALL_SIZE)]
    called_back: list[Grant] = []

    def give_up(grant: Grant) -> None:
        called_back.append(grant)
        grant.leave_ready()
        grant.release()

    for grant in ready:
        grant.lie_ready(partial(give_up, grant))
    granted = await shared.acquire(SMALL_SIZE, owner="poor")
    assert called_back
    assert len(called_back) < len(ready)  # no more than is wanted, and the youngest
    assert called_back == ready[-1 : -len(called_back) - 1 : -1]
    for grant in (granted, *ready):
        grant.leave_ready()
        grant.release()
    assert shared.held_bytes == 0


async def test_nothing_is_granted_at_once_while_others_wait() -> None:
    shared = Budget(CAPACITY + 1, wait_seconds=60)
    held = shared.claim(SMALL_SIZE, owner="t")
    assert held.grow_at_once()
    while shared.claim(SMALL_SIZE, owner="t").grow_at_once():
        pass
    waiting = await ask(shared, SMALL_SIZE)
    assert not shared.claim(1, owner="t").grow_at_once()
    held.release()
    assert (await waiting).size_bytes == SMALL_SIZE
    assert shared.claim(1, owner="t").grow_at_once()


async def test_a_small_claim_is_held_whole_or_not_at_all() -> None:
    shared = budget()
    grant = shared.claim(SMALL_SIZE, owner="t")
    await grant.grow(1)
    assert shared.held_bytes == SMALL_SIZE


async def test_a_part_is_not_granted_if_the_rest_could_never_be() -> None:
    shared = budget()
    first, second = shared.claim(CAPACITY, owner="t"), shared.claim(CAPACITY, owner="t")
    async with first.filling(), second.filling():
        await first.grow(LARGE)
        waiting = asyncio.create_task(second.grow(1))
        await settle()
        assert not waiting.done()
        await first.grow(CAPACITY)  # so this one can finish
        assert first.size_bytes == CAPACITY - EIGHTH
        first.release()
        await waiting
    second.release()
    assert shared.held_bytes == 0


async def test_nobody_begins_before_there_is_memory_for_those_who_fill_fast() -> None:
    shared = budget()
    filling = [shared.claim(3 * LARGE, owner="t") for _ in range(4)]
    begun: list[int] = []

    async def begin(number: int) -> None:
        async with filling[number].filling():
            await filling[number].grow(LARGE)
            begun.append(number)
            await filling[number].grow(3 * LARGE)
            await asyncio.sleep(1)
        filling[number].release()

    beginning = [asyncio.create_task(begin(number)) for number in range(4)]
    await settle()
    assert begun == [0, 1, 2]  # the third has a part of what it needs, and is the only one
    assert [grant.size_bytes for grant in filling] == [3 * LARGE, 3 * LARGE, LARGE, 0]
    await asyncio.gather(*beginning)
    assert shared.held_bytes == 0


@pytest.mark.parametrize("count", [3, 30])
async def test_those_who_fill_slowly_have_nobody_wait_for_what_they_may_need(count: int) -> None:
    shared = budget()
    slow = [asyncio.create_task(stall(shared, 2 * LARGE, SMALL_SIZE // count)) for _ in range(count)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(fill(shared, 6 * LARGE, LARGE), SOON_SECONDS) == 6 * LARGE
    for task in slow:
        task.cancel()


async def test_a_tenant_that_has_its_share_left_begins_at_once() -> None:
    shared = budget()
    many = [asyncio.create_task(stall(shared, 4 * LARGE, 2 * LARGE, owner="many")) for _ in range(2)]
    await settle()
    one, another = shared.claim(3 * LARGE, owner="one"), shared.claim(3 * LARGE, owner="many")
    async with one.filling(), another.filling():
        assert not another.grow_at_once()
        await asyncio.wait_for(one.grow(1), 0.001)
    one.release()
    for task in many:
        task.cancel()


async def test_a_client_that_waits_for_us_does_not_idle() -> None:
    shared = Budget(CAPACITY, wait_seconds=60)
    grant = shared.claim(5 * LARGE, owner="t")
    async with grant.filling(idle_seconds=1):
        await grant.grow(4 * LARGE)
        waiting = asyncio.create_task(fill(shared, 5 * LARGE, 5 * LARGE))
        with grant.at_work():
            await asyncio.sleep(10)
        await asyncio.sleep(0.5)
        assert not grant.is_revoked
        await grant.grow(5 * LARGE)
    grant.release()
    assert await waiting == 5 * LARGE


@given(
    claims=st.lists(st.tuples(st.integers(1, 2 * CAPACITY), st.integers(SMALL_SIZE // 4, CAPACITY), st.sampled_from("abc")), max_size=30)
)
@settings(deadline=None, max_examples=60)
def test_all_who_grow_at_once_come_to_an_end(claims: list[tuple[int, int, str]]) -> None:
    async def run() -> None:
        shared = Budget(CAPACITY, wait_seconds=60, press_seconds=60)  # nobody is revoked
        filled = await asyncio.gather(*(fill(shared, claim, step, owner=owner) for claim, step, owner in claims))
        assert filled == [min(claim, CAPACITY - EIGHTH) for claim, _, _ in claims]
        assert shared.held_bytes == 0

    leap(asyncio.wait_for(run(), 20))


async def test_claims_that_idle_do_not_count() -> None:
    shared = Budget(CAPACITY, wait_seconds=60, press_seconds=60)
    idle = [asyncio.create_task(stall(shared, CAPACITY, LARGE, idle_seconds=0)) for _ in range(2)]
    await settle()
    assert await asyncio.wait_for(fill(shared, 5 * LARGE, LARGE), 10) == 5 * LARGE
    for task in idle:
        task.cancel()


@pytest.mark.parametrize("owner", ["t", "other"])
async def test_what_is_idle_is_revoked_for_those_who_wait(owner: str) -> None:
    shared = Budget(CAPACITY, wait_seconds=60, press_seconds=0)
    idle = [asyncio.create_task(stall(shared, 2 * LARGE, LARGE, idle_seconds=0)) for _ in range(7)]
    await settle()
    assert await fill(shared, 2 * LARGE, LARGE, owner=owner) == 2 * LARGE
    outcomes = await asyncio.gather(*(asyncio.wait_for(task, 0.01) for task in idle), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(BudgetExhausted) == 2  # no more than were needed


async def test_a_server_that_stands_still_does_not_take_its_clients_for_idle() -> None:
    shared = Budget(CAPACITY, wait_seconds=60, press_seconds=0)
    filling = [asyncio.create_task(stall(shared, 2 * LARGE, LARGE, idle_seconds=STALL_SECONDS)) for _ in range(7)]
    await settle()
    waiting = asyncio.create_task(fill(shared, 2 * LARGE, LARGE))
    await asyncio.sleep(0)
    stand_still(STALL_SECONDS)  # as a listing that takes long would
    await settle()
    assert not any(task.done() for task in filling)
    for task in (*filling, waiting):
        task.cancel()


async def test_who_has_waited_for_long_is_not_taken_for_idle_when_the_memory_comes() -> None:
    shared = Budget(CAPACITY, wait_seconds=60)
    idle = asyncio.create_task(stall(shared, 4 * LARGE, LARGE, idle_seconds=2))  # once it idles, there is memory for who waits
    await settle()
    waiting = shared.claim(7 * LARGE, owner="t")
    async with waiting.filling(idle_seconds=1):
        await waiting.grow(3 * LARGE)
        behind = asyncio.create_task(fill(shared, 7 * LARGE, 7 * LARGE))  # for this one others are looked for who idle
        await waiting.grow(5 * LARGE)
        await settle()
        assert not waiting.is_revoked
        await waiting.grow(7 * LARGE)
        with pytest.raises(BudgetExhausted):
            await idle
        waiting.release()
    assert await behind == 7 * LARGE


@pytest.mark.parametrize(("owner", "stays"), [("many", True), ("new", False)])
async def test_what_is_idle_within_a_share_is_not_revoked_for_a_tenant_that_has_its_own(owner: str, stays: bool) -> None:
    shared = Budget(CAPACITY, wait_seconds=0.05, press_seconds=0.001)
    held = await shared.acquire(5 * LARGE, owner="many")
    idle = asyncio.create_task(stall(shared, 2 * LARGE, LARGE, owner="one", idle_seconds=0))
    await settle()

    with suppress(BudgetExhausted):
        (await shared.acquire(2 * LARGE, owner=owner)).release()

    assert idle.done() is not stays
    idle.cancel()
    await asyncio.gather(idle, return_exceptions=True)
    held.release()
    assert shared.held_bytes == 0


async def test_of_those_who_cannot_all_finish_the_youngest_of_the_tenant_that_holds_most_gives_way() -> None:
    shared = Budget(CAPACITY, wait_seconds=60, patience_seconds=0, press_seconds=0.001)
    claims = [("many", 4 * LARGE), ("many", 4 * LARGE), ("one", 2 * LARGE)]
    grants = [shared.claim(size, owner=owner) for owner, size in claims]
    begun = asyncio.Barrier(len(grants))

    async def hold(grant: Grant, first: int) -> None:
        async with grant.filling(idle_seconds=0):
            await grant.grow(first)  # one after the other each seems to idle: what it may still want does not count
            await begun.wait()
            await grant.grow(grant.claim_bytes)

    holding = [asyncio.create_task(hold(grant, size)) for grant, size in zip(grants, (3 * LARGE, 3 * LARGE, LARGE), strict=True)]
    for task, grant in zip(holding, grants, strict=True):
        task.add_done_callback(lambda _, grant=grant: grant.release())
    outcomes = await asyncio.gather(*holding, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [type(None), BudgetExhausted, type(None)]
    assert shared.held_bytes == 0


async def test_what_is_idle_stays_while_nobody_waits() -> None:
    shared = Budget(CAPACITY, wait_seconds=60, press_seconds=0)
    idle = asyncio.create_task(stall(shared, CAPACITY, LARGE, idle_seconds=0))
    assert await fill(shared, 2 * LARGE, LARGE) == 2 * LARGE
    await settle()
    assert not idle.done()
    idle.cancel()


async def test_a_tenant_alone_may_have_all_and_beside_others_its_share() -> None:
    shared = Budget(CAPACITY, wait_seconds=60, patience_seconds=0, press_seconds=0)
    greedy = [asyncio.create_task(stall(shared, LARGE, LARGE, owner="greedy")) for _ in range(7)]
    await settle()
    assert shared.held_bytes == 7 * LARGE
    modest = [asyncio.create_task(stall(shared, LARGE, LARGE, owner="modest")) for _ in range(7)]
    await asyncio.wait(greedy[4:])
    for _ in range(100):
        await settle()
    kept = [not task.done() for task in greedy]
    assert kept == [True] * 4 + [False] * 3  # the youngest went; four and an eighth of a budget of eight are half of it
    assert isinstance(greedy[-1].exception(), BudgetExhausted)
    assert shared.held_bytes == 7 * LARGE
    for task in (*greedy, *modest):
        task.cancel()


async def press(shared: Budget, *owners: str) -> list[asyncio.Task[None]]:
    """Let each of the owners ask for a large grant, and the budget be pressed again and again; return the asking."""
    asking = [asyncio.create_task(stall(shared, LARGE, LARGE, owner=owner)) for owner in owners]
    for _ in range(100):
        await settle()
    return asking


async def test_what_others_hold_beyond_their_share_is_left_to_them_for_a_moment() -> None:
    shared = Budget(CAPACITY, wait_seconds=60, patience_seconds=60, press_seconds=0)
    greedy = await press(shared, *["greedy"] * 7)
    modest = await press(shared, "modest")
    assert not any(task.done() for task in (*greedy, *modest))
    assert shared.held_bytes == 7 * LARGE
    for task in (*greedy, *modest):
        task.cancel()


async def test_who_has_his_share_takes_nothing_of_others() -> None:
    shared = Budget(CAPACITY, wait_seconds=60, patience_seconds=0, press_seconds=0)
    third = await shared.acquire(SMALL_SIZE, owner="third")  # so that a share is less than three of eight
    others = await press(shared, *["much"] * 4, *["enough"] * 3)
    assert shared.held_bytes == 7 * LARGE + SMALL_SIZE
    asking = await press(shared, "enough")
    assert not any(task.done() for task in (*others, *asking))
    third.release()
    for task in (*others, *asking):
        task.cancel()


async def test_who_waits_for_a_tenant_with_less_goes_first() -> None:
    shared = budget()
    held = [await shared.acquire(LARGE, owner="greedy") for _ in range(7)]
    order: list[str] = []

    async def wait(owner: str) -> None:
        await shared.acquire(LARGE, owner=owner)
        order.append(owner)

    waiting = [asyncio.create_task(wait(owner)) for owner in ("greedy", "greedy", "modest")]
    await settle()
    for granted in held[:3]:
        granted.release()
        await settle()
    await asyncio.gather(*waiting)
    assert order == ["modest", "greedy", "greedy"]


async def test_a_timeout_of_another_is_not_taken_for_a_revocation() -> None:
    grant = budget().claim(LARGE, owner="t")
    with pytest.raises(TimeoutError, match="another"):
        async with grant.filling():
            raise TimeoutError("another")


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5), st.integers(0, 60))
@example([(1, 3), (1, 5)], 5)  # the first gives back what it held, and nothing else: 4 are free for the second, who misses 5
def test_claims_can_finish_if_some_order_lets_them(claims: list[tuple[int, int]], capacity: int) -> None:
    def finishes(order: Iterable[tuple[int, int]]) -> bool:
        free = capacity - sum(held for held, _ in claims)
        for held, missing in order:
            if missing > free:
                return False
            free += held
        return True

    assert can_all_finish([Claim(*claim) for claim in claims], capacity) == any(map(finishes, permutations(claims)))
