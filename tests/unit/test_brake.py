"""When repair stops believing a store, and when it goes on: a table."""

from __future__ import annotations

import pytest

from proxy.engine.repair.brake import WINDOW_MS, Step, decide
from proxy.manifest.damage import BrakeState, Losses, how_many

NOW = 1_750_000_000_000
JUST_NOW, LONG_AGO, AHEAD = NOW - 1, NOW - WINDOW_MS, NOW + 5000
LIMIT = 10


@pytest.mark.parametrize(
    ("found", "state", "last_ms", "step"),
    [
        (LIMIT, "counting", JUST_NOW, "count"),
        (LIMIT + 1, "counting", JUST_NOW, "pause"),
        (LIMIT + 1, "counting", LONG_AGO, "pause"),  # nobody has looked for a day: it is as much
        (LIMIT, "counting", LONG_AGO, "forget"),
        (LIMIT, "counting", AHEAD, "forget"),  # the clock was set back
        (0, "counting", JUST_NOW, "forget"),
        (LIMIT + 1, "paused", JUST_NOW, "stay paused"),
        (LIMIT + 1, "paused", LONG_AGO, "stay paused"),  # until somebody has looked
        (LIMIT, "paused", JUST_NOW, "go on"),
        (LIMIT + 1, "allowed", JUST_NOW, "count"),
        (0, "allowed", JUST_NOW, "count"),
        (LIMIT + 1, "allowed", LONG_AGO, "forget"),
    ],
)
def test_each_state_has_its_step(found: int, state: BrakeState, last_ms: int, step: Step) -> None:
    losses = Losses(store="elm", since_ms=LONG_AGO, last_ms=last_ms, found=found, state=state)
    assert decide(losses, limit=LIMIT, configured=True, now_ms=NOW) == step


@pytest.mark.parametrize("state", ["counting", "paused", "allowed"])
def test_a_store_that_left_the_configuration_is_forgotten(state: BrakeState) -> None:
    losses = Losses(store="elm", since_ms=JUST_NOW, last_ms=JUST_NOW, found=LIMIT + 1, state=state)
    assert decide(losses, limit=LIMIT, configured=False, now_ms=NOW) == "forget"


def test_of_how_many_is_told_where_it_is_known() -> None:
    assert how_many(1200, 3400) == "1,200 of its 3,400 shards"
    assert how_many(1200, 0) == how_many(1200, 700) == "1,200 shards"
