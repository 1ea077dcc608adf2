"""Which worker the next connection belongs to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from proxy.server.wire.balance import GONE_SECONDS, Board, Share, new_memory


class Clock:
    """A clock that all workers see, in seconds."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> int:
        return int(self.seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _shares(clock: Clock, workers: int) -> list[Share]:
    board = Board.of(workers)
    shares = [Share(board, place, clock_ns=clock) for place in range(workers)]
    for share in shares:
        share.beat()
    return shares


def _hold(share: Share, connections: int) -> None:
    for number in range(connections):
        share.enter(number)


def test_whoever_is_alone_takes_every_connection() -> None:
    share = Share.alone()
    _hold(share, 1000)
    assert share.has_fewest
    assert share.connections == 1000


def test_those_with_the_fewest_may_take_the_next_and_nobody_else(clock: Clock) -> None:
    shares = _shares(clock, 4)
    for share, connections in zip(shares, (3, 1, 2, 1), strict=True):
        _hold(share, connections)
    assert [share.has_fewest for share in shares] == [False, True, False, True]


def test_connections_that_come_one_by_one_are_spread_evenly(clock: Clock) -> None:
    shares = _shares(clock, 3)
    for number in range(12):
        next(share for share in shares if share.has_fewest).enter(number)
    assert [share.connections for share in shares] == [4, 4, 4]


def test_a_connection_that_ends_makes_room_for_the_next(clock: Clock) -> None:
    first, second = _shares(clock, 2)
    _hold(first, 2)
    _hold(second, 2)
    first.leave(0)
    first.leave(0)  # told twice
    assert (first.has_fewest, second.has_fewest) == (True, False)
    assert first.connections == 1


def test_a_worker_that_does_not_tell_the_time_is_not_waited_for(clock: Clock) -> None:
    idle, busy = _shares(clock, 2)
    _hold(busy, 5)
    clock.seconds += GONE_SECONDS
    busy.beat()
    assert not busy.has_fewest
    clock.seconds += 0.001
    assert busy.has_fewest
    idle.beat()
    assert not busy.has_fewest


def test_a_worker_that_withdraws_is_not_waited_for_until_it_is_back(clock: Clock) -> None:
    idle, busy = _shares(clock, 2)
    _hold(busy, 5)
    idle.withdraw()
    assert busy.has_fewest
    idle.enter("it still had")
    assert busy.has_fewest
    idle.beat()
    assert not busy.has_fewest


def test_a_worker_that_has_not_begun_is_not_waited_for(clock: Clock) -> None:
    board = Board.of(2)
    share = Share(board, 1, clock_ns=clock)
    share.beat()
    _hold(share, 1)
    assert share.has_fewest


def test_nothing_stays_of_the_one_whose_place_a_worker_takes(clock: Clock) -> None:
    board = Board.of(2)
    former, other = Share(board, 0, clock_ns=clock), Share(board, 1, clock_ns=clock)
    former.beat()
    other.beat()
    _hold(former, 7)
    Share(board, 0, clock_ns=clock).beat()
    other.enter("one")
    assert not other.has_fewest


OTHER = """
import sys
from proxy.server.wire.balance import *
share = Share(Board.shared(int(sys.argv[1])), 1)
share.beat()
share.enter("one")
"""


@pytest.fixture
def memory() -> Iterator[int]:
    file = new_memory(2)
    yield file
    os.close(file)


def test_other_processes_see_what_a_worker_tells(memory: int) -> None:
    share = Share(Board.shared(memory), 0)
    subprocess.run([sys.executable, "-c", OTHER, str(memory)], pass_fds=[memory], check=True)
    assert Board.shared(memory).connections(1, since_ns=1) == 1
    share.enter("one")
    assert share.has_fewest
