"""How a body is cut into segments, also one whose end is found only near it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codec.geometry import segment_sizes
from proxy.engine.writing.body import OpenEnded
from proxy.engine.writing.cut import Cut
from proxy.manifest.records import ObjectAttributes, ObjectKey, Segment
from tests.fault.test_recover_labels import read, recovered
from tests.laboratory import BytesBody, Laboratory, laboratory

MIB = 1024 * 1024


class OpenBody(BytesBody, OpenEnded):
    """A body that is known to end in a window before `most` bytes."""

    def __init__(self, data: bytes, *, sure: int, most: int) -> None:
        super().__init__(data)
        self._sure = sure
        self.size_bytes = most
        self.settled = 0

    @property
    def sure_bytes(self) -> int:
        return self._sure

    async def settle(self) -> None:
        self.settled += 1
        self.size_bytes = len(self._data)


def cut_up(body: BytesBody, segment_size: int) -> list[tuple[int, int, int]]:
    """Return number, offset and size of each segment."""

    async def run() -> list[tuple[int, int, int]]:
        cut, found = Cut(body, segment_size), []
        while size := await cut.next_size():
            assert not cut.ended
            found.append((cut.number, cut.offset, size))
            await cut.took(size)
        assert cut.ended
        return found

    return asyncio.run(run())


@given(size=st.integers(0, 100), segment_size=st.integers(1, 40))
def test_a_body_of_known_size_is_cut_into_full_segments_and_the_rest(size: int, segment_size: int) -> None:
    found = cut_up(BytesBody(bytes(size)), segment_size)
    assert [length for _, _, length in found] == list(segment_sizes(size, segment_size))
    assert [(number, offset) for number, offset, _ in found] == [(number, number * segment_size) for number in range(len(found))]


@given(sure=st.integers(0, 100), more=st.integers(0, 20), beyond=st.integers(0, 20), segment_size=st.integers(1, 40))
def test_what_is_surely_there_is_cut_as_if_it_were_all(sure: int, more: int, beyond: int, segment_size: int) -> None:
    body = OpenBody(bytes(sure + more), sure=sure, most=sure + more + beyond)
    found = cut_up(body, segment_size)
    assert [length for _, _, length in found] == [*segment_sizes(sure, segment_size), *segment_sizes(more, segment_size)]
    assert sum(length for _, _, length in found) == body.size_bytes == sure + more
    assert body.settled == 1


@asynccontextmanager
async def stored(tmp_path: Path, body: BytesBody) -> AsyncIterator[tuple[Laboratory, list[Segment]]]:
    async with laboratory(tmp_path) as lab:
        version = await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), body, ObjectAttributes())
        await lab.settled()
        extents = await lab.services.manifest.load_extents([extent.id for extent in version.extents])
        yield lab, [segment for extent in extents for segment in extent.layout.segments]


@pytest.mark.parametrize(
    ("size", "sure", "sizes"),
    [
        (20 * MIB + 7, 20 * MIB, [16 * MIB, 4 * MIB, 7]),
        (20 * MIB, 20 * MIB, [16 * MIB, 4 * MIB]),
        (16 * MIB + 1, 16 * MIB, [16 * MIB, 1]),
        (5, 0, [5]),
        (0, 0, []),
    ],
)
async def test_an_object_of_unknown_size_is_read_and_recovered_byte_for_byte(
    tmp_path: Path, size: int, sure: int, sizes: list[int]
) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    async with stored(tmp_path, OpenBody(data, sure=sure, most=size + 1000)) as (lab, segments):
        assert [segment.size for segment in segments] == sizes
        assert await lab.get("k") == data
        if size > 10:
            assert await lab.get("k", size - 10, 9) == data[-10:-1]
            async with recovered(lab, tmp_path) as (manifest, findings):
                assert findings == ()
                assert await read(lab, manifest, "k") == data
