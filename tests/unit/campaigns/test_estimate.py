"""What a plan costs, worked out by hand."""

from __future__ import annotations

import pytest

from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.estimate import Tally, cheapest, seconds_at, shard_size, sizes_made
from proxy.engine.campaigns.moves import Move
from proxy.engine.repack.bundles import Bundle, LiveSlot, PackSlots, Target
from proxy.manifest.campaigns import Bill, Estimate
from proxy.manifest.records import Extent, ExtentId, Layout
from tests.unit.campaigns.fleets import INFOS, SCHEME, SIX, priced, segment

MIB = 1024 * 1024
SIZE = 16 * MIB
SHARD = 64 * (65_536 + 16) + 16 + 256 + 48 + 88 + 8  # 64 stripes of 4 cells, each sealed; label, share, fixed part, generation and length
WHOLE = segment(*SIX, size=SIZE)
ELM_TO_FIR = Move(4, "elm", "fir")


def test_a_shard_is_its_sealed_cells_and_a_footer() -> None:
    assert shard_size(SCHEME, SIZE) == SHARD


def test_a_copy_reads_the_shard_once_and_puts_it_once() -> None:
    tally = Tally({"elm": priced("elm", egress_gb=0.09, get_per_thousand=0.4), "fir": priced("fir", put_per_thousand=5.0)})
    for _ in range(1000):
        tally.copy(SCHEME, WHOLE, [ELM_TO_FIR])
    estimate = tally.estimate()
    elm, fir = estimate.bills
    assert (estimate.segments, estimate.copied, estimate.rebuilt) == (1000, 1000, 0)
    assert (elm.gets, elm.read_bytes, elm.deletes, elm.puts) == (1000, 1000 * SHARD, 1000, 0)
    assert (fir.puts, fir.written_bytes, fir.gets) == (1000, 1000 * SHARD, 0)
    assert elm.egress_usd == pytest.approx(0.09 * 4.195744)  # 1,000 shards of 4,195,744 bytes are 4.195744 GB
    assert (elm.requests_usd, fir.requests_usd) == (pytest.approx(0.4), pytest.approx(5.0))
    assert estimate.usd == pytest.approx(0.09 * 4.195744 + 0.4 + 5.0)


def test_a_dead_store_costs_k_reads_of_the_cheapest_others() -> None:
    infos = {name: priced(name, egress_gb=price) for name, price in zip(SIX, (0.09, 0.01, 0.12, 0.02, 0.0, 0.05), strict=True)}
    tally = Tally(infos)
    tally.rebuild(SCHEME, WHOLE, [ELM_TO_FIR], lost=["elm"])
    estimate = tally.estimate()
    read = {bill.store: bill.read_bytes for bill in estimate.bills if bill.gets}
    assert read == {"birch": SHARD, "dogwood": SHARD, "fir": SHARD, "alder": SHARD}  # not cedar, the dearest; not elm, which is dead
    assert estimate.usd == pytest.approx((0.01 + 0.02 + 0.05 + 0.09) * SHARD / 1e9)
    assert (estimate.copied, estimate.rebuilt) == (0, 1)


def test_several_shards_of_a_segment_are_rebuilt_from_one_reading() -> None:
    tally = Tally(INFOS)
    tally.rebuild(SCHEME, WHOLE, [Move(0, "alder", "gum"), Move(1, "birch", "ivy")])
    estimate = tally.estimate()
    assert sum(bill.gets for bill in estimate.bills) == 4
    assert sum(bill.puts for bill in estimate.bills) == 2
    assert estimate.segments == 1


def test_what_is_missing_is_not_read() -> None:
    tally = Tally({name: priced(name) for name in SIX})
    tally.rebuild(SCHEME, segment(*SIX, missing=(0,)), [ELM_TO_FIR], lost=["elm"])
    assert {bill.store for bill in tally.estimate().bills if bill.gets} == {"birch", "cedar", "dogwood", "fir"}


def test_what_is_deleted_before_its_time_is_charged_for_the_rest_of_it_at_most() -> None:
    tally = Tally({"elm": priced("elm", storage_gb_month=0.0125, minimum_days=30), "fir": priced("fir", storage_gb_month=0.02)})
    tally.copy(SCHEME, WHOLE, [ELM_TO_FIR])
    elm, fir = tally.estimate().bills
    assert elm.early_deletion_usd == pytest.approx(SHARD / 1e9 * 0.0125)
    assert fir.early_deletion_usd == 0.0
    quarter = Tally({"elm": priced("elm", storage_gb_month=0.004, minimum_days=90)})
    quarter.copy(SCHEME, WHOLE, [ELM_TO_FIR])
    assert quarter.estimate().usd == pytest.approx(SHARD / 1e9 * 0.004 * 3)


def test_another_scheme_reads_k_shards_and_writes_all_anew() -> None:
    nine = ("gum", "hazel", "ivy", *SIX)
    layout = Layout(size=SIZE, policy="p", k=4, m=2, tenant_key_id="t", wrapped_key=b"", segments=(WHOLE,))
    tally = Tally({name: priced(name, egress_gb=0.1) for name in nine})
    tally.rewrite(layout, Scheme(6, 3), SIZE, nine)
    estimate = tally.estimate()
    assert (estimate.segments, estimate.rewritten, estimate.copied) == (1, 1, 0)
    assert sum(bill.gets for bill in estimate.bills) == 4
    assert sum(bill.puts for bill in estimate.bills) == 9
    assert sum(bill.deletes for bill in estimate.bills) == 6
    assert sum(bill.written_bytes for bill in estimate.bills) == 9 * shard_size(Scheme(6, 3), SIZE)
    assert estimate.usd == pytest.approx(4 * SHARD / 1e9 * 0.1)


def packed(*sizes: int, stores: tuple[str, ...] = SIX, shared: bool = False) -> PackSlots:
    one = segment(*stores, size=MIB)
    layout = Layout(size=MIB, policy="p", k=4, m=2, tenant_key_id="t", wrapped_key=b"", segments=(one,), slots=len(sizes))
    slots = tuple(LiveSlot(place, size, ()) for place, size in enumerate(sizes))
    return PackSlots(Extent(id=ExtentId(1), layout=layout), slots, shared=shared)


def test_packs_are_read_whole_and_those_that_nobody_else_uses_are_deleted() -> None:
    tally = Tally({name: priced(name, egress_gb=0.1, put_per_thousand=5.0) for name in ("gum", "hazel", "ivy", *SIX)})
    tally.repack([packed(1000), packed(1000, shared=True)], Scheme(6, 3), [(2 * MIB, ("gum", "hazel", "ivy", *SIX))])
    estimate = tally.estimate()
    assert (estimate.segments, estimate.rewritten, estimate.copied) == (1, 1, 0)
    assert sum(bill.gets for bill in estimate.bills) == 2 * 4
    assert sum(bill.puts for bill in estimate.bills) == 9
    assert sum(bill.deletes for bill in estimate.bills) == 6, "the shared one stays"
    assert sum(bill.read_bytes for bill in estimate.bills) == 8 * shard_size(SCHEME, MIB)
    assert estimate.usd == pytest.approx(8 * shard_size(SCHEME, MIB) / 1e9 * 0.1 + 9 / 1000 * 5)


def test_slots_become_a_pack_and_a_body_that_wastes_too_much_of_it_a_segment() -> None:
    target = Target("t", "p", SCHEME)
    assert sizes_made(Bundle(target, (packed(100_000),))) == [100_000]
    assert sizes_made(Bundle(target, (packed(*[50_000] * 8),))) == [4 * (2 * (50_000 + 16) + 8 * 350)]
    assert sizes_made(Bundle(target, (packed(4096),))) == [4 * (4096 + 16)], "the table fits beside it"
    assert sizes_made(Bundle(target, (packed(120_000, 500, 500),))) == [120_000, 4 * 2 * 350], "the table is the longest column"


def test_a_store_that_is_not_configured_has_no_price() -> None:
    tally = Tally({"fir": priced("fir")})
    tally.copy(SCHEME, WHOLE, [ELM_TO_FIR])
    assert tally.estimate().usd == 0.0


def test_of_equal_prices_the_first_by_name_is_read() -> None:
    assert cheapest(["fir", "elm", "alder"], 2, INFOS) == ["alder", "elm"]


def test_the_time_is_that_of_the_narrower_throttle() -> None:
    many = Estimate(bills=(Bill(store="a", gets=500, puts=500, read_bytes=MIB, written_bytes=MIB),))
    assert seconds_at(many, requests_per_second=100, bytes_per_second=MIB) == 10.0
    assert seconds_at(many, requests_per_second=10_000, bytes_per_second=MIB) == 2.0
