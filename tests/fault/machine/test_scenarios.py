"""What the machine found once, replayed.

A failing seed is worth nothing for long: hypothesis takes no `@example` for a state machine, a saved example is bound to its version, and
with one more rule, or one more step of a proxy, the same seed gives another order. What lasts is the sequence of rules that hypothesis
prints at the end of a failure. Here such sequences are kept, shortened to what the fault needs, and what is left to chance is tried in
several orders. A fault that needs one certain order is kept as a test of what was wrong: it says which order, and fails for no other
reason. These are

- the end of the journal that only k shards were left of: `tests/fault/test_recover.py`,
  `test_the_journal_goes_on_from_an_end_that_survives_a_store_though_its_writer_died_in_the_middle`;
- an end that the next recovery did not find again: there, `test_a_recovery_ends_with_a_journal_segment_...`;
- a moved shard that was lost before a recovery, and never repaired: `tests/contract/test_damage.py`,
  `test_a_moved_shard_that_a_recovery_does_not_find_is_damage`;
- a shard of a move that the journal does not know: `tests/unit/test_recovery_plans.py`,
  `test_what_the_journal_knows_is_held_against_the_listings`.
"""

from __future__ import annotations

import pytest

from tests.fault.machine.history import Place
from tests.fault.machine.operators import Wish
from tests.fault.machine.rules import Act, Machine
from tests.fault.machine.setting import PLAIN, VERSIONED

SEEDS = range(3)
PACKED = (1, 2)  # of these
A, C = Place(PLAIN, "a"), Place(PLAIN, "c/d")
VERSION = Place(VERSIONED, "a")

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.timeout(1800)]


def put(place: Place, size: int = 1000, **told: object) -> Act:
    return Act("put", {"place": place, "size": size, **told})


def delete(place: Place) -> Act:
    return Act("delete", {"place": place})


def begun(seed: int, *, acknowledge: str, unreliable: str = "elm") -> Machine:
    machine = Machine()
    machine.begin(seed=seed, unreliable=unreliable, acknowledge=acknowledge, packs=seed in PACKED)
    return machine


@pytest.mark.parametrize("seed", SEEDS)
def test_a_journal_under_way_when_the_manifest_is_lost_and_then_a_store_that_loses(seed: int) -> None:
    """The last segment of the journal had k shards, and was gone with the next store."""
    machine = begun(seed, acknowledge="all")
    machine.ask([put(A), delete(A), put(C, if_absent=True)], turns=30)
    machine.lose_the_manifest(kills=[65, 28], fault=None)
    machine.ask([put(A, if_absent=True)], turns=40)
    machine.lose_what_it_holds(share=0.6)
    machine.lose_the_manifest(kills=[79, 130], fault=None)
    machine.teardown()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deletion_and_a_put_on_either_side_of_a_clock_that_is_set_back(seed: int) -> None:
    """The put had a lower number than what had been deleted before it, and did not come back."""
    machine = begun(seed, acknowledge="needed")
    machine.ask([put(A), put(VERSION)], turns=40)
    machine.pass_time(seconds=15)
    machine.set_the_clock(days=-1)
    machine.suspend_a_process_for_a_while(which=0, seconds=20, turns=40)
    machine.ask([delete(A), put(A, 70_000)], turns=40)
    machine.go_on(turns=60)
    machine.lose_the_manifest(kills=[], fault=None)
    machine.read_everything(turns=40)
    machine.teardown()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_manifest_that_is_lost_twice_while_shards_move_and_a_store_loses(seed: int) -> None:
    """A shard that had moved was missing, and was not repaired; one that was on its way was not known, and came to be one too many."""
    machine = begun(seed, acknowledge="all", unreliable="cedar")
    machine.ask([put(A, 300_000), put(C, 70_000, storage_class="REDUCED_REDUNDANCY"), put(VERSION)], turns=40)
    machine.pass_time(seconds=15)
    machine.begin_a_campaign(wish=Wish("drain", store="cedar"), turns=40)
    machine.pass_time(seconds=15)
    machine.go_on(turns=100)
    machine.lose_the_manifest(kills=[100], fault=None)
    machine.lose_what_it_holds(share=0.5)
    machine.begin_a_campaign(wish=Wish("policy", bucket=PLAIN, policy="thrifty"), turns=40)
    machine.pass_time(seconds=15)
    machine.lose_the_manifest(kills=[], fault="truncates")
    machine.read_everything(turns=40)
    machine.teardown()


@pytest.mark.parametrize("seed", SEEDS)
def test_an_old_copy_that_catches_up_while_one_store_lies(seed: int) -> None:
    machine = begun(seed, acknowledge="all", unreliable="fir")
    machine.ask([put(A), put(VERSION), put(C)], turns=40)
    machine.copy_the_manifest()
    machine.ask([delete(A), put(VERSION, 70_000), put(C, 300_000)], turns=40)
    machine.pass_time(seconds=70)
    machine.ask_for_a_checkpoint(turns=40)
    machine.pass_time(seconds=70)
    machine.go_on_from_an_old_copy(which=0, kills=[40], fault="answers with another")
    machine.read_everything(turns=40)
    machine.teardown()
