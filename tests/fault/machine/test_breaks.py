"""The machine finds each break that is made on purpose: one that finds nothing would prove nothing. `make breaks` runs this."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fault.machine.breaks import BREAKS, IN_RECOVERY, Break
from tests.fault.machine.rules import Machine
from tests.fault.machine.world import fresh_installation

pytestmark = [
    pytest.mark.skipif("SHARDGATE_BREAKS" not in os.environ, reason="takes minutes: make breaks"),
    pytest.mark.timeout(1200),
]


class RecoveringMachine(Machine):
    """The machine with fewer rules, so that the manifest is lost more often, and soon after something was done."""

    break_a_store = mend_a_store = mend_all_stores = None
    make_it_lose_what_it_acknowledges = lose_what_it_holds = None
    suspend_a_process_for_a_while = serve_an_old_copy_for_a_while = stop = None
    begin_a_campaign = give_an_order_to_a_campaign = None


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_the_machine_finds_it(broken: Break) -> None:
    find(broken, Machine)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("broken", IN_RECOVERY, ids=lambda broken: broken.__name__)
def test_the_machine_finds_it_where_the_manifest_is_often_lost(broken: Break) -> None:
    find(broken, RecoveringMachine)


def find(broken: Break, machine: type[Machine]) -> None:
    fresh_installation()  # made while all is well
    with broken(), pytest.raises(BaseException) as found:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=400,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert not isinstance(found.value, NameError | TypeError | AttributeError), "broken, not mistaken"
