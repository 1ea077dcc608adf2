"""The bench's own arithmetic: its table, its picture and its bills; and its ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
import typer

from bench import ports, turns
from bench.client import Outcome, Request
from bench.cost import (
    GB,
    JournalUse,
    Load,
    Prices,
    monthly_bills,
    parse_sizes,
    placeholders,
    read_prices,
    replicated_bill,
    shares_of,
)
from bench.measures import Measure, Turn, as_measures
from bench.picture import draw, ratios_of
from bench.report import cells, headers
from bench.servers import Running
from bench.signing import Endpoint
from bench.uses import packed_use, plain_use
from bench.workloads import Scale, Size
from proxy.codec.geometry import Scheme
from proxy.config import load_config
from proxy.policies import make_policies

REPOSITORY = Path(__file__).parents[2]
OURS = Measure(
    target="shardgate", workload="PUT", size="4 KiB", operations=100, operations_per_second=2000.0, megabytes_per_second=8.2, p50_ms=4.0,
    p99_ms=9.0, cpu_seconds_per_gib=1.0, cpu_seconds_per_1000_operations=0.5, peak_rss_mib=100.0, client_cpu_share=0.5,
)  # fmt: skip
THEIRS = replace(OURS, target="rclone", operations_per_second=1000.0, p99_ms=18.0)
TURN = Turn(
    target="shardgate", workload="PUT", size="4 KiB", seconds=1.0, latencies=(0.001,) * 100, moved_bytes=400_000, cpu_seconds=0.05,
    client_cpu_seconds=0.01, peak_rss_bytes=2**20, requests=80,
)  # fmt: skip
POLICY = make_policies(
    load_config(REPOSITORY / "config/multicloud.toml", placeholders((REPOSITORY / "config/multicloud.toml").read_text()))
)["anywhere"]
SCHEME, SEGMENT_SIZE = Scheme(4, 2), 16 * 2**20
LOAD = Load(objects=1_000_000, sizes={16384: 1.0}, puts=300_000, gets=2_000_000, together=16)


def test_a_line_tells_how_shardgate_compares_before_anything_else() -> None:
    line = dict(zip(headers(["rclone"]), cells([THEIRS, OURS], ["rclone"]), strict=True))
    assert (line["workload"], line["× rclone"], line["p99 × rclone"], line["rclone op/s"]) == ("PUT 4 KiB", "2.00", "0.50", "1,000")


def test_a_workload_that_the_yardstick_did_not_do_has_no_ratio() -> None:
    line = dict(zip(headers(["rclone"]), cells([OURS], ["rclone"]), strict=True))
    assert (line["× rclone"], line["op/s"], line["rclone op/s"]) == ("", "2,000", "")


def test_a_line_tells_the_requests_of_stores_where_they_are_counted() -> None:
    group = [replace(THEIRS, requests=2.0), replace(OURS, requests=0.76)]
    line = dict(zip(headers(["rclone"], ["rclone"]), cells(group, ["rclone"], ["rclone"]), strict=True))
    assert (line["requests"], line["rclone requests"]) == ("0.76", "2.00")
    uncounted = dict(zip(headers(["rclone"]), cells([THEIRS, OURS], ["rclone"]), strict=True))
    assert uncounted["requests"] == ""


def test_a_rate_is_the_median_of_the_turns_and_a_percentile_is_of_all_requests() -> None:
    stalled = replace(TURN, seconds=4.0, latencies=(0.001,) * 95 + (0.5,) * 5, peak_rss_bytes=2**21)
    (measure,) = as_measures([TURN, stalled, TURN])
    assert (measure.operations, measure.operations_per_second, measure.megabytes_per_second) == (300, 100.0, 0.4)
    assert (measure.p50_ms, measure.p99_ms) == (1.0, 500.0)
    assert measure.cpu_seconds_per_1000_operations == pytest.approx(0.5)
    assert (measure.requests, measure.peak_rss_mib) == (0.8, 2.0)
    assert measure.client_cpu_share == pytest.approx(0.005)


def test_turns_of_a_server_and_a_workload_are_one_measure() -> None:
    theirs = replace(TURN, target="rclone", requests=None)
    measures = as_measures([TURN, theirs, TURN, theirs, replace(TURN, workload="GET")])
    assert [(one.target, one.workload, one.operations, one.requests) for one in measures] == [
        ("shardgate", "PUT", 200, 0.8),
        ("rclone", "PUT", 200, None),
        ("shardgate", "GET", 100, 0.8),
    ]


def test_servers_take_turns_and_who_begins_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[tuple[str, list[str]]] = []

    def load(server: Running, requests: Sequence[Request], **_: object) -> Outcome:
        targets = [request.head.split(b" ")[1].decode() for request in requests if request.head.startswith(b"DELETE")]
        if targets:
            deleted.append((server.name, [target[-1] for target in targets]))
        return Outcome(seconds=1.0, latencies=[0.001] * len(requests), done=list(range(len(requests))))

    monkeypatch.setattr(turns, "_load", load)
    monkeypatch.setattr("os.sync", lambda: None)  # of the whole machine: it may take long
    size = Size("4 KiB", 4096, 5, 1, turns=2)
    scale = Scale(1, size, replace(size, label="1 MiB"), replace(size, label="64 MiB"), 1.0, 1.0)
    starters = {name: partial(_running, name) for name in ("one", "other")}
    measures = turns.run_rounds(starters, scale, tmp_path, lambda _: None, ["DELETE 4 KiB"])
    assert deleted == [("one", ["0", "1"]), ("other", ["0", "1"]), ("other", ["2", "3", "4"]), ("one", ["2", "3", "4"])]
    assert [(one.target, one.workload, one.operations) for one in measures] == [
        ("one", "PUT", 5), ("other", "PUT", 5), ("one", "DELETE", 5), ("other", "DELETE", 5),
    ]  # fmt: skip


@contextmanager
def _running(name: str, _: Path) -> Iterator[Running]:
    yield Running(name, Endpoint("127.0.0.1", 1, "key", "secret"), os.getpid())


def test_the_picture_has_a_bar_for_each_workload_that_both_did() -> None:
    ratios = ratios_of([OURS.as_dict(), THEIRS.as_dict(), replace(OURS, workload="GET").as_dict()])
    assert ratios == [("PUT 4 KiB", 2.0)]
    picture = draw([*ratios, ("GET <4 KiB>", 0.3)])
    texts = [element.text for element in fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert {"PUT 4 KiB", "2.00", "GET <4 KiB>", "0.30", "1"} <= set(texts)


def test_every_store_of_the_example_has_a_price_with_a_date() -> None:
    lists = read_prices(REPOSITORY / "config/prices.toml")
    assert {info.provider for info in POLICY.stores} <= lists.keys()
    assert all(prices.as_of for prices in lists.values())


def test_shards_and_reads_are_spread_evenly_where_the_policy_has_no_reason_to_do_otherwise() -> None:
    shares = shares_of(POLICY)
    for parts in (shares.shards, shares.data):
        assert sum(parts.values()) == pytest.approx(1)
        assert all(part == pytest.approx(1 / 6, abs=0.03) for part in parts.values())


def test_an_object_of_its_own_costs_all_its_shards_and_one_in_a_pack_its_part_of_them() -> None:
    alone, packed = plain_use({4096: 1.0}, SCHEME, SEGMENT_SIZE), packed_use({4096: 1.0}, SCHEME, SEGMENT_SIZE, together=16, below=131072)
    assert (alone.puts, alone.gets) == (6, 4)
    assert (packed.puts, packed.gets, packed.read) == (6 / 16, 1, 4096 + 16)
    assert packed.stored < alone.stored


@pytest.mark.parametrize(
    ("size", "together", "puts", "gets"),
    [
        (16384, 1, 6, 1),
        (16385, 1, 6, 4),
        (65536, 1, 6, 4),
        (65536, 2, 3, 1),
        (131071, 3, 2, 1),
        (131072, 16, 6, 4),
        (65536, 65, 2 * 6 / 65, 1 + 3 / 65),  # a pack of 4 MiB is full: the last one has no company
    ],
)
def test_a_body_that_would_waste_most_of_a_pack_has_a_segment_of_its_own(size: int, together: int, puts: float, gets: float) -> None:
    use = packed_use({size: 1.0}, SCHEME, SEGMENT_SIZE, together=together, below=131072)
    assert (use.puts, use.gets) == (pytest.approx(puts), pytest.approx(gets))
    if gets == 4:
        assert use == plain_use({size: 1.0}, SCHEME, SEGMENT_SIZE)


def test_of_several_sizes_the_small_ones_share_packs_and_each_counts_by_its_share() -> None:
    sizes = parse_sizes(["4KiB:0.6", "4096:0.2", "1MiB:.2"])
    assert sizes == {4096: pytest.approx(0.8), 2**20: pytest.approx(0.2)}
    small, large = packed_use({4096: 1.0}, SCHEME, SEGMENT_SIZE, together=8, below=131072), plain_use({2**20: 1.0}, SCHEME, SEGMENT_SIZE)
    mixed = packed_use(sizes, SCHEME, SEGMENT_SIZE, together=10, below=131072)  # eight of ten are small, on average
    assert mixed.gets == pytest.approx(0.8 * 1 + 0.2 * large.gets)
    assert mixed.read == pytest.approx(0.8 * small.read + 0.2 * large.read)
    assert mixed.puts == pytest.approx(0.8 * small.puts + 0.2 * large.puts, rel=0.05)
    assert replace(LOAD, sizes=sizes).mean_size == pytest.approx(0.8 * 4096 + 0.2 * 2**20)


def test_one_body_among_many_small_ones_is_left_out_of_their_pack() -> None:
    use = packed_use({100: 0.5, 100_000: 0.5}, SCHEME, SEGMENT_SIZE, together=2, below=131072)
    assert use.gets == pytest.approx(1 + 3 / 4, rel=0.02)  # in half of the pairs one of the two is large


def test_sizes_without_shares_are_as_frequent_as_one_another() -> None:
    assert parse_sizes(["1KiB", "2 KiB"]) == {1024: 0.5, 2048: 0.5}


@pytest.mark.parametrize("text", ["", "4 kilobytes", "4KiB:", "4KiB:half", "-1", "4KiB:0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_sizes([text])


def test_a_long_object_is_read_in_windows() -> None:
    assert plain_use({16 * 2**20: 1.0}, SCHEME, SEGMENT_SIZE).gets == 4 * 6  # 1 + 2 + 4 + 4 + 4 + 1 MiB


def test_the_bill_of_a_replicated_bucket() -> None:
    prices = Prices(storage_gb_month=0.02, put_per_thousand=0.005, get_per_thousand=0.0004, egress_gb=0.09, between_regions_gb=0.02)
    bill = replicated_bill(Load(objects=1000, sizes={10**9: 1.0}, puts=100, gets=10, together=1), "X", prices)
    assert bill.storage == pytest.approx(2 * 1000 * 0.02)
    assert bill.puts == pytest.approx(2 * 0.1 * 0.005 + 100 * 0.02)
    assert bill.egress == pytest.approx(10 * 0.09)
    assert bill.total == pytest.approx(bill.storage + bill.puts + bill.gets + bill.egress)


def test_the_journal_is_put_at_most_once_in_each_interval_and_not_more_often_than_something_is_written() -> None:
    journal = JournalUse(1.0, POLICY)
    rare = replace(LOAD, puts=100, together=1)
    assert journal.puts(rare) == pytest.approx(600, rel=0.01)
    busy = replace(LOAD, puts=10**12)
    assert journal.puts(busy) == pytest.approx(6 * 30 * 86400)


def test_packing_is_cheaper_and_large_objects_are_not_packed() -> None:
    lists = read_prices(REPOSITORY / "config/prices.toml")
    journal = JournalUse(1.0, POLICY)
    packed, plain, _ = monthly_bills(LOAD, POLICY, journal, lists, below=131072, beside="AWS")
    stored = packed_use(LOAD.sizes, POLICY.scheme, POLICY.segment_size, together=16, below=131072).stored
    assert packed.total < plain.total
    assert packed.stored_gb == pytest.approx(LOAD.objects * stored / GB)
    assert len(monthly_bills(replace(LOAD, sizes={131072: 1.0}), POLICY, journal, lists, below=131072, beside="AWS")) == 2


def test_the_command_tells_each_line_and_of_when_its_prices_are() -> None:
    command = [sys.executable, "-m", "bench.cost", "--size", "16KiB"]
    told = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    lines = ["packed, 16 together", "not packed", "one bucket at AWS and its replica"]
    assert [told.count(f"│ {line} ") for line in lines] == [1, 1, 1]
    lists = read_prices(REPOSITORY / "config/prices.toml")
    told = " ".join(told.split())
    assert all(f"{info.provider} {lists[info.provider].as_of}" in told for info in POLICY.stores)
    bills = json.loads(subprocess.run([*command, "--json"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout)
    assert [bill["name"] for bill in bills] == lines


def test_a_port_that_another_process_was_given_and_does_not_listen_on_yet_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gives_one = "from bench.ports import free_port; print(free_port(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", gives_one], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        monkeypatch.setattr(ports, "_PORTS", range(port, port + 1))
        with pytest.raises(OSError, match=f"no port from {port} on is free"):
            ports.free_port()
        other.communicate(b"\n")
    assert ports.free_port() == port
