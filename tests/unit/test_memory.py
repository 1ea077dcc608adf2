"""Memory: which of it is worth a large page, and that what lies there stays what it was."""

from __future__ import annotations

import mmap
import os
import platform
import re
from pathlib import Path

import pytest

from proxy.memory import LARGE_PAGE_SIZE, PAGE_SIZE, address_of, crowded_large_pages, use_large_pages

PAGES = 8  # large ones: one that is whole lies in it wherever it begins
COLLAPSES = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) >= (6, 1)

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="large pages are asked for by glibc's names, and of Linux")


def mapped() -> mmap.mmap:
    """Return memory of our own that no other shares, and of which nothing is in use."""
    return mmap.mmap(-1, PAGES * LARGE_PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def large_pages_in(memory: mmap.mmap) -> set[int]:
    start = address_of(memoryview(memory))
    return {address for address in crowded_large_pages() if start <= address < start + len(memory)}


def touch(memory: mmap.mmap, *, pages_in_four: int) -> None:
    for page in range(len(memory) // PAGE_SIZE):
        if page % 4 < pages_in_four:
            memory[page * PAGE_SIZE] = page % 251 + 1


def test_memory_in_use_is_worth_large_pages() -> None:
    with mapped() as memory:
        touch(memory, pages_in_four=4)

        found = large_pages_in(memory)

        assert len(found) >= PAGES - 1
        assert all(address % LARGE_PAGE_SIZE == 0 for address in found)


def test_memory_of_which_little_is_in_use_is_left_alone() -> None:
    with mapped() as memory:
        touch(memory, pages_in_four=2)

        assert not large_pages_in(memory)


def test_what_lies_in_large_pages_is_what_it_was() -> None:
    with mapped() as memory:
        touch(memory, pages_in_four=3)
        before = memory[:]

        use_large_pages()

        assert memory[:] == before


@pytest.mark.skipif(not COLLAPSES, reason="Linux makes large pages when asked since 6.1")
def test_what_is_in_memory_is_put_into_large_pages() -> None:
    with mapped() as memory:
        touch(memory, pages_in_four=4)

        use_large_pages()
        large_bytes = large_bytes_at(address_of(memoryview(memory)))

        assert large_bytes > 0


def test_a_file_in_memory_may_have_a_name_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    with open(name, "w+b") as file:
        file.write(bytes(PAGE_SIZE))
        file.flush()
        with mmap.mmap(file.fileno(), PAGE_SIZE), mapped() as memory:
            touch(memory, pages_in_four=4)

            assert large_pages_in(memory)


def test_where_the_system_does_not_say_what_is_in_memory_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", closed)

    assert list(crowded_large_pages()) == []


def large_bytes_at(address: int) -> int:
    """Return how much of the mapping that an address is in lies in large pages."""
    inside = False
    with open("/proc/self/smaps", encoding="utf-8") as maps:
        for line in maps:
            if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
            elif inside and line.startswith("AnonHugePages:"):
                return int(line.split()[1]) * 1024
    return 0
