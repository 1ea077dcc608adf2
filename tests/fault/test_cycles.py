"""What fails is freed at once: cycles are looked for seldom, and each might hold a segment that no budget knows of."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from types import FrameType

import pytest

from proxy.errors import NotEnoughShards
from proxy.manifest.records import ObjectAttributes, ObjectKey
from tests.laboratory import BytesBody, Laboratory, laboratory

SIZE = 1_000_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        await running.put("k", os.urandom(SIZE))
        yield running


@contextmanager
def _cycles() -> Iterator[list[str]]:
    """Yield a list that will have the functions whose frames only a collection would free."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [item.f_code.co_qualname for item in gc.garbage if isinstance(item, FrameType)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _read(lab: Laboratory) -> Awaitable[object]:
    return lab.get("k")


def _write(lab: Laboratory) -> Awaitable[object]:
    return lab.put("other", b"x" * SIZE)


@pytest.mark.parametrize("act", [_read, _write])
@pytest.mark.parametrize("down", [1, 4])
async def test_what_stores_that_are_down_were_sent_is_freed(
    lab: Laboratory, act: Callable[[Laboratory], Awaitable[object]], down: int
) -> None:
    for name in list(lab.stores)[:down]:
        lab.stores[name].down = True
    with _cycles() as found, suppress(NotEnoughShards):
        await act(lab)
    assert found == []


async def test_a_read_of_forged_shards_is_freed(lab: Laboratory) -> None:
    for store in list(lab.stores.values())[:4]:
        store.flips_bits = True
    with _cycles() as found, suppress(NotEnoughShards):
        await lab.get("k")
    assert found == []


async def test_a_write_that_is_broken_off_while_it_is_sealed_is_freed(lab: Laboratory) -> None:
    with _cycles() as found:
        for turns in range(0, 60, 3):
            write = asyncio.ensure_future(lab.put("other", b"x" * (4 * SIZE)))
            for _ in range(turns):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.wait([write])
            del write
    assert found == []


async def test_an_error_that_is_kept_keeps_no_segment(lab: Laboratory) -> None:
    error = ConnectionResetError()

    class Broken(BytesBody):
        async def chunks(self) -> AsyncIterator[bytes]:
            yield self._data[: SIZE // 2]
            raise error

    with pytest.raises(ConnectionResetError):
        await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("other"), Broken(b"x" * SIZE), ObjectAttributes())
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    assert "Writer._fill" in [frame.f_code.co_qualname for frame in frames]
    assert [frame for frame in frames if "sealer" in frame.f_locals] == []
