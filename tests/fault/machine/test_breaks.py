"""The machine finds each break that is made on purpose: one that finds nothing would prove nothing. `make breaks` runs this.

Examples bound it, and no clock: the same ones are tried each time. A break counts as found only if the same examples find nothing without
it. A fault that the whole has, too, would else be taken for the break in each of them, and nobody would hear of it.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from tests.fault.machine.breaks import BREAKS, IN_RECOVERY, IN_RECOVERY_OF_PACKS, OVER_PACKS, Break
from tests.fault.machine.history import Place
from tests.fault.machine.judge import Judge
from tests.fault.machine.rules import Act, Machine, acknowledges, places, seeds, stores, turns
from tests.fault.machine.setting import PLACES, PLAIN, Acknowledge
from tests.fault.machine.world import World, fresh_installation

asked_for = pytest.mark.skipif("SHARDGATE_BREAKS" not in os.environ, reason="may take hours: make breaks")
pytestmark = pytest.mark.timeout(0)

EXAMPLES = 400
WHOLE: Counter[type[Machine]] = Counter()  # in how many examples each machine has found nothing without a break


class Enough(Exception):
    """As many examples as were wanted have come to their end."""


class RecoveringMachine(Machine):
    """The machine with fewer rules, so that the manifest is lost more often, and soon after something was done."""

    break_a_store = mend_a_store = mend_all_stores = None
    make_it_lose_what_it_acknowledges = lose_what_it_holds = None
    suspend_a_process_for_a_while = serve_an_old_copy_for_a_while = stop = None
    begin_a_campaign = give_an_order_to_a_campaign = None


class PackingMachine(Machine):
    """The machine with small objects, all of which are packed, and with fewer rules."""

    serve_an_old_copy_for_a_while = look_through = None
    begin_a_campaign = give_an_order_to_a_campaign = None

    @initialize(seed=seeds, unreliable=stores, acknowledge=acknowledges)
    def begin(self, seed: int, unreliable: str, acknowledge: Acknowledge) -> None:
        Machine.begin(self, seed, unreliable, acknowledge, packs=True)

    @rule(sizes=st.lists(st.tuples(places, st.sampled_from((10, 1000, 70_000))), min_size=3, max_size=12), turns=turns)
    def put_many_small_ones(self, sizes: list[tuple[Place, int]], turns: int) -> None:
        self.ask([Act("put", {"place": place, "size": size}) for place, size in sizes], turns)

    @rule(store=stores, fault=st.sampled_from(("flips bits", "answers with another")))
    def read_what_a_store_lies_about(self, store: str, fault: str) -> None:
        self.put_many_small_ones([(place, 1000) for place in PLACES], turns=40)
        self.world.pass_time(15)
        self.break_a_store(store, fault, turns=0)
        self.read_everything(turns=40)
        self.world.pass_time(15)
        self.mend_a_store(store)

    @rule(down=st.lists(stores, min_size=3, max_size=6, unique=True))
    def put_while_stores_are_down(self, down: list[str]) -> None:
        for store in down:
            self.break_a_store(store, "down", turns=0)
        self.put_many_small_ones([(place, 1000) for place in PLACES], turns=40)
        self.world.pass_time(15)
        self.mend_all_stores()
        self.read_everything(turns=40)


class RecoveringPackingMachine(PackingMachine, RecoveringMachine):
    """Both, where something of a pack is deleted now and then before the manifest is lost."""

    read_what_a_store_lies_about = put_while_stores_are_down = None  # no store fails here

    @rule(deleted=st.sampled_from([place for place in PLACES if place.bucket == PLAIN]))
    def lose_the_manifest_after_a_deletion(self, deleted: Place) -> None:
        self.put_many_small_ones([(place, 1000) for place in PLACES for _ in range(2)], turns=40)
        self.world.pass_time(15)
        self.ask([Act("delete", {"place": deleted})], turns=40)
        self.world.pass_time(15)
        self.lose_the_manifest(kills=[], fault=None)


@pytest.mark.parametrize(
    "broken", dict.fromkeys((*BREAKS, *IN_RECOVERY, *OVER_PACKS, *IN_RECOVERY_OF_PACKS)), ids=lambda broken: broken.__name__
)
def test_what_is_to_be_broken_is_still_there(broken: Break) -> None:
    with broken():
        """Whatever it takes away has the name that it had when the break was made."""


@asked_for
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_the_machine_finds_it(broken: Break) -> None:
    find(broken, Machine)


@asked_for
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("broken", IN_RECOVERY, ids=lambda broken: broken.__name__)
def test_the_machine_finds_it_where_the_manifest_is_often_lost(broken: Break) -> None:
    find(broken, RecoveringMachine)


@asked_for
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("broken", OVER_PACKS, ids=lambda broken: broken.__name__)
def test_the_machine_finds_it_in_packs(broken: Break) -> None:
    find(broken, PackingMachine)


@asked_for
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("broken", IN_RECOVERY_OF_PACKS, ids=lambda broken: broken.__name__)
def test_the_machine_finds_it_in_packs_where_the_manifest_is_often_lost(broken: Break) -> None:
    find(broken, RecoveringPackingMachine)


@asked_for
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("faulty", [(Judge, "judge"), (World, "run")], ids=["at the end", "in a rule"])
def test_a_fault_that_the_whole_has_too_is_no_break_that_was_found(faulty: tuple[type, str]) -> None:
    class FaultyMachine(Machine):
        """One that nobody has found whole."""

    with patch.object(*faulty, side_effect=AssertionError("a fault of the whole")), pytest.raises(AssertionError, match="of the whole"):
        find(nullcontext, FaultyMachine)


def find(broken: Break, machine: type[Machine]) -> None:
    fresh_installation()  # made while all is well
    with broken(), counting() as tried, pytest.raises(BaseException) as found:
        try_out(machine)
    assert not isinstance(found.value, NameError | TypeError | AttributeError | pytest.fail.Exception), "mistaken, or broken off"
    if len(tried) > WHOLE[machine]:
        with counting(up_to=len(tried)), pytest.raises(Enough):
            try_out(machine)
        WHOLE[machine] = len(tried)


def try_out(machine: type[Machine]) -> None:
    """Run examples, the same ones each time."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def counting(up_to: int = EXAMPLES + 1) -> Iterator[list[int]]:
    """Yield a list that gets a number with the end of each example. Behind so many, `Enough` is raised."""
    ended: list[int] = []
    teardown = Machine.teardown

    def end(machine: Machine) -> None:
        has_failed = sys.exc_info()[0] is not None  # a rule has, and `Enough` would hide that
        ended.append(len(ended) + 1)
        teardown(machine)
        if len(ended) >= up_to and not has_failed:
            raise Enough

    with patch.object(Machine, "teardown", end):
        yield ended
