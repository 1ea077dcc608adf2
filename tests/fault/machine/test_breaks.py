"""The machine finds each break that is made on purpose: one that finds nothing would prove nothing. `make breaks` runs this."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fault.machine.breaks import BREAKS, Break
from tests.fault.machine.rules import Machine
from tests.fault.machine.world import fresh_installation

pytestmark = [
    pytest.mark.skipif("SHARDGATE_BREAKS" not in os.environ, reason="takes minutes: make breaks"),
    pytest.mark.timeout(1200),
]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_the_machine_finds_it(broken: Break) -> None:
    fresh_installation()  # made while all is well
    with broken(), pytest.raises(BaseException) as found:
        run_state_machine_as_test(
            Machine,
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
