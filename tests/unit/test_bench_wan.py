"""The bench over distant stores: its bucket, what it takes for met, and that both sides of a comparison take turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from typing import cast

import pytest
from rich.console import Console

from bench.wan import campaign
from bench.wan.aims import ENOUGH, Aim, aim_of, compare
from bench.wan.bucket import Bucket, BucketServer
from bench.wan.campaign import Comparison, Findings, Scale
from bench.wan.far import FarSide
from bench.wan.operations import FIRST, GET_64K, PUT_64K, Client, Measured, Operation
from bench.wan.side import Side
from bench.wan.table import as_json, table
from bench.workloads import MIB


def _asked(server: BucketServer, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    head = f"{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = b"".join(server.feed(head + body))
    told, _, content = answer.partition(b"\r\n\r\n")
    return int(told.split(b" ")[1]), content


@pytest.fixture
def filled() -> BucketServer:
    server = BucketServer(Bucket())
    for key in ("a", "folder/1", "folder/2", "z"):
        assert _asked(server, "PUT", f"/bucket/{key}", b"12")[0] == 200
    return server


def test_a_listing_with_a_delimiter_shows_folders_once_and_goes_on_behind_them(filled: BucketServer) -> None:
    _, first = _asked(filled, "GET", "/bucket?list-type=2&delimiter=%2F&max-keys=2")
    assert b"<Key>a</Key>" in first
    assert first.count(b"<CommonPrefixes><Prefix>folder/</Prefix></CommonPrefixes>") == 1
    assert b"<NextContinuationToken>folder/</NextContinuationToken>" in first
    _, rest = _asked(filled, "GET", "/bucket?list-type=2&delimiter=%2F&max-keys=2&continuation-token=folder%2F")
    assert b"<Key>z</Key>" in rest
    assert b"folder" not in rest


def test_a_listing_without_a_delimiter_shows_every_object_below_the_prefix(filled: BucketServer) -> None:
    _, listing = _asked(filled, "GET", "/bucket?list-type=2&prefix=folder%2F")
    assert (listing.count(b"<Key>"), listing.count(b"<CommonPrefixes>")) == (2, 0)


@pytest.mark.parametrize(("target", "status"), [("/bucket/a", 200), ("/bucket/missing", 404), ("/bucket", 200)])
def test_the_answer_to_a_head_has_no_body(filled: BucketServer, target: str, status: int) -> None:
    assert _asked(filled, "HEAD", target) == (status, b"")


def _measured(*milliseconds: float, first: Sequence[float] = (1.0,) * FIRST) -> Measured:
    return Measured(latencies=[one / 1000 for one in (*first, *milliseconds)], requests=1.0)


def test_the_first_ten_count_for_no_ratio() -> None:
    slow_at_first = _measured(*[10.0] * ENOUGH, first=[900.0] * FIRST)
    ratios = compare(slow_at_first, _measured(*[10.0] * ENOUGH))
    assert (ratios.p50, ratios.p99) == (pytest.approx(1.0), pytest.approx(1.0))


def test_it_is_told_how_many_operations_it_took_to_adapt() -> None:
    assert _measured(*[10.0] * 50, first=[10, 300, 10, 300, 10, 10, 10, 10, 10, 10]).adapted_after(0.1) == 4
    assert _measured(*[10.0] * 50, first=[10] * FIRST).adapted_after(0.1) == 0


@pytest.mark.parametrize(
    ("half", "rare", "verdict"),
    [(10.0, 14.0, "met"), (10.0, 16.0, "missed"), (12.0, 14.0, "missed")],
)
def test_an_aim_is_met_where_all_of_it_is(half: float, rare: float, verdict: str) -> None:
    measured = _measured(*[half] * 95, *[rare] * 5)
    assert compare(measured, _measured(*[10.0] * ENOUGH)).verdict(Aim(1.1, 1.5)) == verdict


def test_the_p99_of_a_few_requests_is_not_judged() -> None:
    few = _measured(*[10.0] * (ENOUGH - 2), 500.0)
    assert compare(few, _measured(*[10.0] * ENOUGH)).verdict(Aim(1.1, 1.5)) == "met"


def test_where_there_is_no_aim_there_is_no_verdict() -> None:
    measured = _measured(*[10.0] * ENOUGH)
    assert compare(measured, measured).verdict(aim_of("slow + dead", GET_64K.name)) == ""


def _findings() -> Findings:
    healthy, direct = _measured(*[12.0] * ENOUGH), _measured(*[10.0] * 95, *[30.0] * 5)
    late = _measured(*[17.0] * ENOUGH, first=[300.0] * FIRST)
    comparisons = [Comparison("healthy", {GET_64K.name: healthy}, {GET_64K.name: direct})]
    comparisons.append(Comparison("slow", {GET_64K.name: late}, {GET_64K.name: healthy}))
    return Findings(comparisons=comparisons, large_bytes=256 * MIB, large={"up": 3.4, "down, one stream": 9.0})


def test_the_table_tells_what_is_met_and_what_is_missed() -> None:
    console = Console(width=200, record=True, file=StringIO())
    console.print(table(_findings()))
    rows = [line.split("│") for line in console.export_text().splitlines() if line.startswith("│")]
    told = [(row[1].strip(), row[2].strip(), row[6].strip(), row[12].strip()) for row in rows if row[2].strip()]
    assert told == [
        (GET_64K.name, "1.20", "met", ""),
        (GET_64K.name, "1.42", "missed", str(FIRST)),
        ("up", "1.01", "met", ""),
        ("down, one stream", "4.02", "missed", ""),
    ]


def test_the_raw_results_have_every_latency_of_both_sides() -> None:
    raw = json.loads(as_json(_findings()))
    slow = raw["comparisons"][1]["operations"][GET_64K.name]
    assert (round(slow["p50 ratio"], 2), slow["p50 aim"], slow["aims"]) == (1.42, 1.1, "missed")
    assert [len(slow[side]["latencies"]) for side in ("measured", "beside")] == [FIRST + ENOUGH] * 2


class _Lines:
    """Counts a request for each operation that a client has done."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def requests(self) -> dict[str, int]:
        return {name: sum(side == name for side, _ in self.done) for name in ("troubled", "healthy")}


class _Client:
    def __init__(self, name: str, lines: _Lines) -> None:
        self._name = name
        self._lines = lines

    def fill(self, operation: Operation) -> None:
        """There is nothing to read."""

    def run(self, operation: Operation, *, seconds: float) -> tuple[list[float], list[str]]:
        self._lines.done.append((self._name, operation.name))
        return [seconds + len(self._lines.done)], []


def _sides(lines: _Lines) -> list[Side]:
    return [Side(cast(Client, _Client(name, lines)), cast(FarSide, lines), [name]) for name in ("troubled", "healthy")]


def test_both_sides_of_a_comparison_take_turns_after_the_change_and_neither_is_always_the_first() -> None:
    lines = _Lines()
    scale = Scale(4, 0.5, 0.1, MIB, 1, (), (GET_64K, PUT_64K))

    def change() -> None:
        lines.done.clear()

    troubled, healthy = _sides(lines)
    found = campaign.compare_sides("slow", troubled, healthy, scale.troubled, scale, change)
    firsts = [side for side, _ in lines.done[::2]]
    assert all({one[0], other[0]} == {"troubled", "healthy"} for one, other in zip(lines.done[::2], lines.done[1::2], strict=True))
    assert firsts.count("troubled") == firsts.count("healthy") == scale.rounds
    assert len(found.measured[GET_64K.name].latencies) == scale.rounds
    assert list(found.measured[GET_64K.name].latencies) == sorted(found.measured[GET_64K.name].latencies)
    assert found.measured[GET_64K.name].requests == found.beside[GET_64K.name].requests == 1.0


def test_a_few_operations_can_be_measured_for_longer() -> None:
    scale = campaign.narrowed(campaign.FULL, 40, ["GET 64 KiB"])
    assert (scale.rounds, list(scale.healthy), list(scale.troubled)) == (40, [GET_64K], [GET_64K])
    assert campaign.narrowed(campaign.FULL, None, None) == campaign.FULL


def test_an_operation_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no such operation: GET 1 TiB\. There are: GET 4 KiB;"):
        campaign.narrowed(campaign.FULL, None, ["GET 1 TiB"])
