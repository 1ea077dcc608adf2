"""Batches: what is done together leaves the same rows as done one after the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.manifest.drafts import PackedDraft
from proxy.manifest.records import Bucket, GarbageSegment, Version
from proxy.manifest.sqlite import extents, open_sqlite
from proxy.manifest.sqlite.batches import AT_ONCE, distinct_runs, prepare
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.deletions import LatestDeletion, delete_each_latest, delete_latest
from proxy.manifest.sqlite.ledger import queue_garbage
from proxy.manifest.sqlite.packs import commit_pack
from proxy.manifest.sqlite.versions import find_newest, find_version
from tests.contract.conftest import NOW, tenant
from tests.contract.test_manifest import BUCKET, draft
from tests.contract.test_packs import pack_layout

MANY = 3 * AT_ONCE + 5
KEYS = [f"k{number:03}" for number in range(MANY)]
INSTANT = ManualClock(NOW).instant()
_TABLES = {
    "version": "*",
    "extent": "*",
    "pack": "*",
    "garbage": "*",
    "gone": "bucket, key, written",
    "outbox": "DISTINCT tab, a, b, c",  # what is noted; in which order, and how often, does not matter
}


@pytest.fixture
async def made(tmp_path: Path) -> Path:
    path = tmp_path / "m.sqlite"
    async with open_sqlite(path, ManualClock(NOW)) as manifest:
        await manifest.add_tenant(tenant("t"))
        await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))
    return path


def packed(keys: Sequence[str], written: int = 0) -> list[PackedDraft]:
    return [PackedDraft(draft(key, f"v{at}", size=10 + at, written=written and written + at), 1000 * at) for at, key in enumerate(keys)]


def pack(connection: sqlite3.Connection, keys: Sequence[str], number: int = 1, written: int = 0) -> list[Version]:
    drafts = packed(keys, written)
    made = commit_pack(connection, pack_layout(number, [one.draft.size for one in drafts]), drafts, [], INSTANT, NOW)
    return [version for version in made if isinstance(version, Version)]


def deletions(keys: Sequence[str]) -> list[LatestDeletion]:
    return [LatestDeletion(BUCKET, key, f"m{at}", NOW) for at, key in enumerate(keys)]


def rows(connection: sqlite3.Connection) -> dict[str, list[object]]:
    return {table: sorted(connection.execute(f"SELECT {columns} FROM {table}"), key=repr) for table, columns in _TABLES.items()}


def opened(path: Path) -> closing[sqlite3.Connection]:
    connection = connect(path, busy_seconds=1)
    prepare(connection)
    return closing(connection)


def test_a_pack_of_more_than_one_statement_takes_is_committed_whole(made: Path) -> None:
    with opened(made) as connection:
        versions = pack(connection, KEYS)
        assert [version.key for version in versions] == KEYS
        assert find_newest(connection, [(BUCKET, key) for key in KEYS]) == versions


def test_the_newest_of_many_keys_are_those_of_each(made: Path) -> None:
    with opened(made) as connection:
        pack(connection, KEYS[::2])
        connection.execute("UPDATE version SET latest = 0 WHERE key = ?", (KEYS[2].encode(),))  # as while another is promoted
        asked = [*KEYS, "", "\0", "k\0\xe9", KEYS[0]]
        assert find_newest(connection, [(BUCKET, key) for key in asked]) == [find_version(connection, BUCKET, key) for key in asked]


@pytest.mark.parametrize(
    "keys",
    [KEYS, [*KEYS, *KEYS], [KEYS[0], KEYS[0], "none", KEYS[1], KEYS[0], KEYS[1]], KEYS[: MANY // 2], [KEYS[5]], ["none"]],
    ids=["all", "twice", "some twice", "half", "one", "none"],
)
def test_deletions_together_leave_what_each_alone_does(made: Path, tmp_path: Path, keys: list[str]) -> None:
    def each(connection: sqlite3.Connection, those: Sequence[LatestDeletion]) -> list[object]:
        return [delete_latest(connection, one) for one in those]

    def left_by(delete: Callable[[sqlite3.Connection, Sequence[LatestDeletion]], Sequence[object]]) -> object:
        with opened(made) as connection:
            connection.execute("BEGIN")
            pack(connection, KEYS[:20])
            pack(connection, KEYS[20:], 2)
            pack(connection, KEYS[10:30], 3)  # over half of each
            answers = list(delete(connection, deletions(keys)))
            left = rows(connection)
            connection.execute("ROLLBACK")
            return answers, left

    assert left_by(delete_each_latest) == left_by(each)


def test_what_comes_after_a_deletion_is_numbered_above_it(made: Path) -> None:
    """Also where the deletion is another than the first of its key since the journal was written."""
    with opened(made) as connection:
        for number, written in ((1, 5000), (2, 4000), (3, 3000)):
            (version,) = pack(connection, ["a"], number, written)
            assert version.written == 4999 + number
            delete_each_latest(connection, deletions(["a"]))
        ((gone, noted),) = connection.execute("SELECT written, sequence FROM gone")
        assert gone == 5002
        (note,) = connection.execute("SELECT max(o.sequence) FROM outbox o WHERE o.tab = 6 AND o.b = ?", (b"a",)).fetchone()
        assert note <= noted <= connection.execute("SELECT max(sequence) FROM outbox").fetchone()[0]


def test_a_pack_that_is_left_to_the_collector_has_no_slot_in_use(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "SEGMENTS_AT_ONCE", 0)
    with opened(made) as connection:
        pack(connection, KEYS[:3])
        delete_each_latest(connection, deletions(KEYS[:3]))
        assert connection.execute("SELECT refs FROM extent").fetchall() == [(0,)]
        assert connection.execute("SELECT live, slots, dead_since FROM pack").fetchall() == [(0, 0, NOW)]


def test_garbage_that_is_queued_already_is_searched_for(made: Path) -> None:
    """It may lie in other stores by now: what is in the queue does not tell."""
    segments = [GarbageSegment(id=number.to_bytes(16, "big"), stores=("s0", "s1")) for number in range(MANY)]
    with opened(made) as connection:
        queue_garbage(connection, segments[:1], NOW)
        queue_garbage(connection, [replace(one, stores=("s2", "s3")) for one in segments], NOW)
        assert connection.execute("SELECT count(*) FROM garbage WHERE store = '*'").fetchone() == (MANY,)
        assert connection.execute("SELECT count(*) FROM garbage WHERE store = '' AND search").fetchone() == (MANY,)


@pytest.mark.parametrize(("items", "runs"), [("", []), ("abc", ["abc"]), ("aa", ["a", "a"]), ("abcbad", ["abc", "bad"])])
def test_runs_have_different_keys_and_keep_the_order(items: str, runs: list[str]) -> None:
    assert ["".join(run) for run in distinct_runs(items, str)] == runs
