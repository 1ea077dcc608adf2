"""Heavy work takes turns: others run meanwhile, and of those who do heavy work nobody is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.model import load_model
from proxy.server.turns import Turns

MODEL = load_model()


def work(name: str, log: list[str], slices: int = 20) -> Iterator[int]:
    for number in range(slices):
        log.append(name)
        yield number


async def all_of(turns: Turns, name: str, log: list[str]) -> list[int]:
    return [number async for number in turns.each(work(name, log))]


async def test_two_that_work_hard_go_on_by_turns() -> None:
    turns, log = Turns(turn_seconds=0), list[str]()

    both = await asyncio.gather(all_of(turns, "a", log), all_of(turns, "b", log))

    assert both == [list(range(20))] * 2
    assert log.count("a") == log.count("b") == 20
    assert "b" in log[:3]
    assert "aaa" not in "".join(log[:30])


async def test_others_run_while_one_works_hard() -> None:
    turns, log = Turns(turn_seconds=0), list[str]()

    async def other() -> None:
        for _ in range(10):
            log.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(all_of(turns, "a", log), other())

    assert log.index("other") < 3
    assert log[-1] == "a"


async def test_short_work_is_done_in_one_turn() -> None:
    turns, log = Turns(turn_seconds=60), list[str]()

    await asyncio.gather(all_of(turns, "a", log), all_of(turns, "b", log))

    assert log == ["a"] * 20 + ["b"] * 20


async def test_who_is_slow_to_take_what_was_done_keeps_nobody_waiting() -> None:
    turns, log = Turns(turn_seconds=0), list[str]()
    stuck = turns.each(work("stuck", log))
    await anext(stuck)

    assert await all_of(turns, "b", log) == list(range(20))


async def test_a_long_document_is_read_in_turns() -> None:
    document = MODEL.operations["CompleteMultipartUpload"].document
    assert document is not None
    parts = b"".join(b"<Part><PartNumber>%d</PartNumber><ETag>e</ETag></Part>" % number for number in range(1, 10_001))

    read = await Turns(turn_seconds=0).read(document, b"<CompleteMultipartUpload>" + parts + b"</CompleteMultipartUpload>")

    assert read == {"MultipartUpload": {"Parts": [{"PartNumber": number, "ETag": "e"} for number in range(1, 10_001)]}}
    with pytest.raises(S3Error, match="MalformedXML"):
        await Turns().read(document, b"<CompleteMultipartUpload>" + parts)
