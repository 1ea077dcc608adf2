"""What operators do in the state machine: they leave stores, move buckets to another policy, and recover a manifest that is lost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from proxy.manifest.campaigns import Order
from tests.fault.machine.manifest_file import Copy
from tests.fault.machine.operators import Operator, Wish
from tests.fault.machine.providers import PASSING, mend
from tests.fault.machine.setting import PLAIN, POLICIES, STORES, VERSIONED
from tests.fault.machine.world import World

stores = st.sampled_from(STORES)
turns = st.integers(0, 40)
kills = st.lists(st.integers(0, 150), max_size=2)
orders: st.SearchStrategy[Order] = st.sampled_from(("pause", "resume", "cancel"))
wishes = st.one_of(
    st.builds(Wish, st.just("drain"), store=stores),
    st.builds(Wish, st.just("drain"), store=stores),
    st.builds(Wish, st.just("replace"), store=stores, new_store=stores),
    st.builds(Wish, st.just("rebalance")),
    st.builds(Wish, st.just("policy"), bucket=st.sampled_from((PLAIN, VERSIONED)), policy=st.sampled_from(POLICIES)),
)
# That are the store's, and not what it holds: a recovery has to get along with one such store.
FAULTS_OF_ONE = ("down", "rejects", "truncates", "flips bits", "answers with another", "lists late", "refuses deletes")


class OperatorRules(RuleBasedStateMachine):
    """Rules of the machine; see there."""

    world: World
    unreliable: str
    unknown: set[str]
    old_copies: list[Copy]

    # Campaigns: the workers carry them out as time passes

    @rule(wish=wishes, turns=turns)
    def begin_a_campaign(self, wish: Wish, turns: int) -> None:
        self._command(lambda operator: operator.begin(wish))
        self.world.run(turns)

    @rule(which=st.integers(0, 9), order=orders, turns=turns)
    def give_an_order_to_a_campaign(self, which: int, order: Order, turns: int) -> None:
        self._command(lambda operator: operator.order(which, order))
        self.world.run(turns)

    @rule(turns=turns)
    def ask_for_a_checkpoint(self, turns: int) -> None:
        self._command(lambda operator: operator.ask_for_a_checkpoint())
        self.world.run(turns)

    # Recovery

    @rule(kills=kills, fault=st.none() | st.sampled_from(FAULTS_OF_ONE))
    def lose_the_manifest(self, kills: list[int], fault: str | None) -> None:
        """The disk of the manifest is gone, with all processes. One store may be gone, too: the one that may have lost something."""
        self._recover(None, kills, fault)

    @precondition(lambda self: self.old_copies)
    @rule(which=st.integers(0, 9), kills=kills, fault=st.none() | st.sampled_from(FAULTS_OF_ONE))
    def go_on_from_an_old_copy(self, which: int, kills: list[int], fault: str | None) -> None:
        """The manifest comes back from a backup, and catches up."""
        copy = self.old_copies[which % len(self.old_copies)]
        if self.world.stores_are_ahead_of(copy):
            self._recover(copy, kills, fault)

    def _recover(self, copy: Copy | None, kills: list[int], fault: str | None) -> None:
        for store in self.world.stores.values():
            mend(store)
        if fault is not None:
            PASSING[fault](self.world.stores[self.unreliable], self.world.chance)
        self.world.look_at_the_journal()
        self.world.lose_the_manifest(copy, kills=kills)
        self.unknown.update(STORES)  # of what was under way, or had failed
        mend(self.world.stores[self.unreliable])
        self.world.started()

    def _command(self, give: Callable[[Operator], Coroutine[object, object, object]]) -> None:
        if serving := self.world.serving():
            process = self.world.chance.choice(serving)
            assert process.services is not None
            self.world.begin(process, give(Operator(process.services)))
