"""The machine must find nothing. Longer with SHARDGATE_EXAMPLES=n, as `make breaks` does; what it found once is in `test_scenarios`."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fault.machine.rules import Machine

EXAMPLES = int(os.environ.get("SHARDGATE_EXAMPLES", "10"))
STEPS = 40


@pytest.mark.usefixtures("quiet")
@pytest.mark.timeout(0)
def test_nothing_is_lost_stale_torn_or_left_over_whatever_happens_in_whatever_order() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
