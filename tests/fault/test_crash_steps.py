"""kill -9 at every step of all that changes something: what was or what was to be is there, and nothing is left over for good."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.errors import RecoveryRefused
from proxy.recovering import recover
from tests.fault.crash_child import IN_A_PACK, KEPT, NEW, OLD, PACKED
from tests.fault.test_crash import LATER_MS, check_books, collect, content, delete_everything, kill
from tests.laboratory import laboratory, laboratory_config

# By what is interrupted: its steps, each with what may be under the key afterwards (None: no object).
STEPS: Mapping[str, Mapping[str, set[bytes | None]]] = {
    "complete": {
        "before commit 1": {OLD},
        "after commit 1": {NEW},
        "at put 1": {NEW},  # of its journal segment: it is not acknowledged yet, but visible
        "at put 6": {NEW},
        "before commit 2": {NEW},
        "after commit 2": {NEW},
    },
    "delete": {
        "before commit 1": {OLD},
        "after commit 1": {None},
        "at delete 1": {None},
        "at delete 4": {None},
        "at delete 6": {None},
    },
    "repair": {
        "before commit 1": {OLD},
        "after commit 1": {OLD},
        "at put 1": {OLD},
        "before commit 2": {OLD},
        "after commit 2": {OLD},
    },
    "move": {
        "before commit 1": {OLD},
        "after commit 1": {OLD},
        "at put 1": {OLD},
        "before commit 2": {OLD},
        "after commit 2": {OLD},
        "at delete 1": {OLD},
    },
    "journal flush": {
        "at put 1": {NEW},
        "at put 3": {NEW},
        "at put 6": {NEW},
        "before commit 1": {NEW},
        "after commit 1": {NEW},
    },
    "checkpoint": {
        "before commit 1": {OLD},
        "after commit 1": {OLD},
        "at put 1": {OLD},
        "at put 6": {OLD},
        "at put 12": {OLD},
        "before commit 3": {OLD},
        "after commit 3": {OLD},
    },
}
ACTS = [*STEPS, "delete" + IN_A_PACK]
RECOVERY_STEPS = ("at get 1", "before commit 1", "after commit 1", "before commit 2", "after commit 2", "at put 1", "at put 4")


@pytest.mark.parametrize(("act", "step"), [(act, step) for act in ACTS for step in STEPS[act.removesuffix(IN_A_PACK)]])
async def test_what_was_or_what_was_to_be_is_there_and_nothing_is_left_over(tmp_path: Path, act: str, step: str) -> None:
    kill(tmp_path, act, step)
    what = act.removesuffix(IN_A_PACK)
    async with laboratory(tmp_path, now_ms=LATER_MS, journal=KEPT) as lab:
        assert await content(lab) in STEPS[what][step]
        await collect(lab)
        assert await content(lab) in STEPS[what][step]
        await check_books(lab, tmp_path, repaired=what != "repair")
        await delete_everything(lab)
        assert await lab.shards() == set()


@pytest.mark.parametrize(("act", "data"), [("recover", NEW), ("recover" + IN_A_PACK, PACKED)], ids=["alone", "packed"])
@pytest.mark.parametrize("step", RECOVERY_STEPS)
async def test_a_recovery_that_was_killed_is_made_again_and_finds_everything(tmp_path: Path, act: str, data: bytes, step: str) -> None:
    kill(tmp_path, act, step)
    with suppress(RecoveryRefused):  # it was done, but for telling the stores
        await recover(laboratory_config(tmp_path, journal=KEPT), lambda phase, done, total: None)
    async with laboratory(tmp_path, now_ms=LATER_MS, journal=KEPT) as lab:
        assert await content(lab) == data
        await collect(lab)
        await check_books(lab, tmp_path, repaired=True)
