"""The log's head says whether anything was committed, whoever did it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from random import Random

import pytest

from proxy.manifest.sqlite import log_head, room
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.log_head import HEAD_SIZE, LogHead
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "m.sqlite")) as made:
        made.execute("CREATE TABLE fact (value INTEGER)")
    with closing(connect(tmp_path / "m.sqlite", busy_seconds=5)) as opened:
        opened.execute("INSERT INTO fact VALUES (7)")
        yield opened


def found(path: Path) -> LogHead:
    head = LogHead.find(path / "m.sqlite")
    assert head is not None
    return head


def test_it_is_the_same_until_something_is_committed(connection: sqlite3.Connection, tmp_path: Path) -> None:
    log = found(tmp_path)
    before = log.read()
    assert before is not None
    connection.execute("SELECT value FROM fact").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE fact SET value = 8")
    assert log.read() == before, "nothing is committed yet"
    connection.execute("ROLLBACK")
    assert log.read() == before
    connection.execute("UPDATE fact SET value = 8")
    assert log.read() not in {before, None}


def test_every_commit_gives_another_one_also_when_the_log_begins_anew(connection: sqlite3.Connection, tmp_path: Path) -> None:
    log = found(tmp_path)
    heads = [log.read()]
    for number in range(20):
        connection.execute("UPDATE fact SET value = ?", (number % 2,))
        heads.append(log.read())
        if number % 5 == 4:
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert None not in heads
    assert len(set(heads)) == 21


def test_a_commit_of_another_process_is_seen(connection: sqlite3.Connection, tmp_path: Path) -> None:
    log = found(tmp_path)
    before = log.read()
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('UPDATE fact SET value = 9'); c.commit()"
    subprocess.run([sys.executable, "-c", program, tmp_path / "m.sqlite"], check=True, timeout=PATIENCE_SECONDS)
    assert log.read() not in {before, None}
    assert connection.execute("SELECT value FROM fact").fetchone() == (9,)


def test_to_find_and_to_read_it_opens_nothing(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """A descriptor more would be closed some day, and with it went SQLite's locks."""
    before = sorted(os.listdir("/proc/self/fd"))
    found(tmp_path).read()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert connection.execute("SELECT value FROM fact").fetchone() == (7,)


def test_there_is_none_where_who_reads_does_not_see_at_once_what_memory_holds(
    connection: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read once would be good for ever, and whoever was let in."""
    assert LogHead.find(tmp_path / "m.sqlite") is not None
    monkeypatch.setattr(log_head, "mmap", partial(mmap, access=ACCESS_COPY))  # memory of one's own, which the file never gets
    assert LogHead.find(tmp_path / "m.sqlite") is None
    assert connection.execute("SELECT value FROM fact").fetchone() == (7,)


def test_on_a_full_disk_nothing_is_tried(connection: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To write to a mapped file that the disk has no room for is a signal that ends the process."""
    monkeypatch.setattr(room, "KEPT_BYTES", 1 << 62)
    monkeypatch.setattr(log_head, "mmap", None)
    assert LogHead.find(tmp_path / "m.sqlite") is None


def test_there_is_none_where_nobody_is_connected(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "m.sqlite")) as made:
        made.execute("CREATE TABLE fact (value INTEGER)")
    assert LogHead.find(tmp_path / "m.sqlite") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda twice: twice[:HEAD_SIZE] + bytes([twice[HEAD_SIZE] ^ 1]) + twice[HEAD_SIZE + 1 :],  # one copy is written, the other not yet
        lambda twice: bytes(2 * HEAD_SIZE),  # it is being recovered
        lambda twice: twice[: HEAD_SIZE - 1],
        lambda twice: (b"\x01" + twice[1:HEAD_SIZE]) * 2,  # of another format
    ],
)
def test_one_that_cannot_be_relied_on_is_none(connection: sqlite3.Connection, tmp_path: Path, spoil: object) -> None:
    whole = found(tmp_path)
    with open(tmp_path / "copy", "w+b", buffering=0) as file:
        twice = os.pread(whole._descriptor, 2 * HEAD_SIZE, 0)
        file.write(twice)
        assert LogHead(file.fileno()).read() == whole.read() is not None
        file.truncate(0)
        file.seek(0)
        file.write(spoil(twice))
        assert LogHead(file.fileno()).read() is None


@pytest.fixture
def large(connection: sqlite3.Connection) -> sqlite3.Connection:
    """With another table, of more pages than a commit writes."""
    connection.execute("CREATE TABLE other (number INTEGER PRIMARY KEY, value TEXT)")
    connection.executemany("INSERT INTO other VALUES (?, ?)", [(number, "x" * 1000) for number in range(400)])
    return connection


def page_of_fact(connection: sqlite3.Connection) -> int:
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'fact'").fetchone()
    return int(page)


def read(log: LogHead) -> bytes:
    head = log.read()
    assert head is not None
    return head


def test_it_tells_whether_a_page_was_written(large: sqlite3.Connection, tmp_path: Path) -> None:
    log, page = found(tmp_path), page_of_fact(large)
    before = read(log)
    large.execute("UPDATE other SET value = 'y' WHERE number = 7")
    assert not log.may_have_written(page, before, read(log))
    large.execute("UPDATE fact SET value = 8")
    after = read(log)
    assert log.may_have_written(page, before, after)
    large.execute("UPDATE other SET value = 'z' WHERE number = 7")
    assert not log.may_have_written(page, after, read(log))


def test_no_write_of_a_page_is_missed_however_long_the_log_is(large: sqlite3.Connection, tmp_path: Path) -> None:
    """The index says it of 4,096 frames in one place, and of the next ones elsewhere. The log begins anew behind 8,000."""
    log, page, chance = found(tmp_path), page_of_fact(large), Random(1)
    kept, value, told = read(log), 7, 0
    for number in range(3000):
        rows = [(str(number), chance.randrange(400)) for _ in range(chance.randrange(8))]
        large.execute("BEGIN IMMEDIATE")
        large.executemany("UPDATE other SET value = ? WHERE number = ?", rows)
        if chance.random() < 0.1:
            large.execute("UPDATE fact SET value = value + 1")
        large.execute("COMMIT")
        if chance.random() < 0.5 and (head := read(log)) != kept:
            (now,) = large.execute("SELECT value FROM fact").fetchone()
            is_untouched = not log.may_have_written(page, kept, head)
            assert not is_untouched or now == value
            told += is_untouched
            kept, value = head, now
    assert told > 1000


def test_a_write_behind_the_end_of_a_part_of_the_index_is_not_missed(large: sqlite3.Connection, tmp_path: Path) -> None:
    log, page = found(tmp_path), page_of_fact(large)
    number = 0
    while frames(before := read(log)) < 4040:
        number += 1
        large.execute("UPDATE other SET value = ? WHERE number < 40", (str(number),))
    large.execute("UPDATE other SET value = 'y' WHERE number < 150")
    assert frames(before) < 4062 < frames(read(log)), "as many are told of in the first part"
    assert log.may_have_written(1_000_000, before, read(log)), "nobody looks at two parts"
    large.execute("UPDATE fact SET value = 8")
    assert log.may_have_written(page, before, read(log))


def frames(head: bytes) -> int:
    return int.from_bytes(head[16:20], sys.byteorder)


def test_what_a_log_held_that_has_begun_anew_is_not_known(large: sqlite3.Connection, tmp_path: Path) -> None:
    log, page = found(tmp_path), page_of_fact(large)
    large.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    large.execute("UPDATE other SET value = 'y' WHERE number = 7")
    before = read(log)
    large.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    large.execute("UPDATE fact SET value = 8")  # the first frame, where the other one was
    for number in range(5):
        large.execute("UPDATE other SET value = 'z' WHERE number = ?", (number,))
    assert log.may_have_written(page, before, read(log))


def test_a_commit_that_may_have_moved_all_pages_may_have_written_each(large: sqlite3.Connection, tmp_path: Path) -> None:
    """What was on a page is on another one after VACUUM, also where the database has become too short for the first."""
    log, page = found(tmp_path), page_of_fact(large)
    before = read(log)
    large.execute("VACUUM")
    assert log.may_have_written(page, before, read(log))
    assert log.may_have_written(1_000_000, before, read(log))


def test_while_somebody_commits_nothing_is_known(large: sqlite3.Connection, tmp_path: Path) -> None:
    """The log may begin anew between two looks, and the numbers be those of other frames."""
    log, page = found(tmp_path), page_of_fact(large)
    before = read(log)
    large.execute("UPDATE other SET value = 'y' WHERE number = 7")
    head = read(log)
    assert not log.may_have_written(page, before, head)
    large.execute("UPDATE other SET value = 'z' WHERE number = 7")
    assert log.may_have_written(page, before, head)
