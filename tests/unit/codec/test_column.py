"""Cells lie one behind the other, in runs of whole pages."""

from __future__ import annotations

import os

import pytest

from proxy.codec.cells import CellCipher
from proxy.codec.column import RUN_SIZE, Column
from proxy.codec.format import CELL_SIZE, TAG_SIZE
from proxy.memory import PAGE_SIZE, address_of

FULL = CELL_SIZE


def cipher(count: int) -> CellCipher:
    return CellCipher(bytes(32), fixed_part=b"fixed", stripe_count=count)


@pytest.mark.parametrize(
    "sizes",
    [[1], [FULL], [FULL, 1], [FULL] * 3, [FULL] * 4, [FULL] * 3 + [FULL - 4 * TAG_SIZE], [FULL] * 64, [FULL] * 63 + [17]],
    ids=lambda sizes: f"{len(sizes)} cells, the last of {sizes[-1]}",
)
def test_cells_are_where_their_geometry_says(sizes: list[int]) -> None:
    seals, cells = cipher(len(sizes)), [os.urandom(size) for size in sizes]
    column = Column(sum(size + TAG_SIZE for size in sizes))

    for stripe, cell in enumerate(cells):
        column.seal(seals, stripe, cell)

    assert b"".join(column.runs) == b"".join(seals.seal(stripe, cell) for stripe, cell in enumerate(cells))


def test_runs_begin_on_pages_and_are_whole_but_the_last() -> None:
    column, seals = Column(9 * (FULL + TAG_SIZE)), cipher(9)
    for stripe in range(9):
        column.seal(seals, stripe, bytes(FULL))

    assert [len(run) for run in column.runs] == [RUN_SIZE, RUN_SIZE, 9 * (FULL + TAG_SIZE) - 2 * RUN_SIZE]
    assert [address_of(run) % PAGE_SIZE for run in column.runs if isinstance(run, memoryview)] == [0, 0, 0]


def test_memory_is_taken_as_cells_come() -> None:
    column, seals = Column(64 * (FULL + TAG_SIZE)), cipher(64)
    column.seal(seals, 0, bytes(FULL))
    assert len(column.runs) == 1


def test_the_only_cell_takes_no_pages() -> None:
    column = Column(4096 + TAG_SIZE)
    column.seal(cipher(1), 0, bytes(4096))
    assert [type(run) for run in column.runs] == [bytes]
