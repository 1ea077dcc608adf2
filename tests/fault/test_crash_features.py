"""kill -9 at every step of what is done beside writes: settings, rights, lifecycle, and what is delivered elsewhere.

What was or what was to be is there; what a worker had begun, another brings to its end; and nothing is left over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from tests.fault.crash_child import KEPT
from tests.fault.crash_features import DAY, FEATURES, NOW_MS, adjust
from tests.fault.test_crash import check_books, collect, kill
from tests.laboratory import laboratory

End = Literal["before", "after"]  # that nothing has happened, or all of it

# What is acknowledged only when the journal has it is there as soon as it is committed.
JOURNALED: Mapping[str, End] = {
    "before commit 1": "before",
    "after commit 1": "after",
    "at put 1": "after",
    "at put 6": "after",
    "after commit 2": "after",
}


def brought_to_the_end(steps: Iterable[str]) -> Mapping[str, End]:
    """Whatever a worker is killed at, the next one does what is left."""
    return dict.fromkeys(steps, "after")


# By what is interrupted: its steps, each with what there is in the end.
STEPS: Mapping[str, Mapping[str, End]] = {
    "lock": JOURNALED,
    "bucket policy": JOURNALED,
    "bucket ACL": JOURNALED,
    "role": JOURNALED,
    "KMS key": JOURNALED,
    "expiry": brought_to_the_end(["before commit 1", "after commit 2", "before commit 4", "after commit 4", "after commit 9"]),
    "transition": brought_to_the_end(
        ["before commit 1", "at get_range 3", "at put 1", "at put 4", "before commit 10", "after commit 10", "after commit 12"]
    ),
    # A put that was never committed is told to nobody. One that was is told at least once.
    "event": {
        "at put 3": "before",
        "before commit 1": "before",
        **brought_to_the_end(["after commit 1", "before tell 1", "after tell 1", "before commit 3", "after commit 3"]),
    },
    "replication": brought_to_the_end(
        ["before commit 1", "after commit 1", "at put 1", "at put 6", "before commit 2", "after commit 2", "before commit 3"]
    ),
    "inventory": brought_to_the_end(["at put 3", "before commit 1", "after commit 1", "at put 14", "after commit 3", "before commit 5"]),
    "access log": brought_to_the_end(["at put 1", "at put 6", "before commit 1", "after commit 1"]),
}


@pytest.mark.parametrize(("what", "step"), [(what, step) for what, steps in STEPS.items() for step in steps])
async def test_a_change_is_there_or_is_not_and_is_brought_to_its_end(tmp_path: Path, what: str, step: str) -> None:
    kill(tmp_path, what, step)
    feature = FEATURES[what]
    ends = {"before": feature.before, "after": feature.after}
    async with laboratory(tmp_path, now_ms=NOW_MS + 40 * DAY * 1000, journal=KEPT, adjust=adjust) as lab:
        await feature.seen(lab)  # whatever there is, is whole
        await feature.finish(lab)
        assert await feature.seen(lab) == ends[STEPS[what][step]]
        await collect(lab)
        assert await feature.seen(lab) == ends[STEPS[what][step]]
        await check_books(lab, tmp_path, repaired=True)


def test_every_feature_is_interrupted() -> None:
    assert STEPS.keys() == FEATURES.keys()
