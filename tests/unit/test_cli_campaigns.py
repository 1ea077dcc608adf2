"""What the commands that move data print, and what they refuse, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cli.campaign_views import Leftovers, print_plan, print_standing
from proxy.cli.campaigns import _who_goes_on
from proxy.manifest.campaigns import Bill, Campaign, CampaignId, Estimate
from tests.unit.test_cli import Run, run  # noqa: F401 - the fixture

BILL = Bill(store="elm", gets=2, read_bytes=2048, egress_usd=1.5, early_deletion_usd=0.25)
PLAN = Estimate(segments=3, copied=2, rebuilt=1, bills=(BILL,))
DEAD = Estimate(segments=3, rebuilt=3)
DRAIN = Campaign(id=CampaignId("drain-elm-1"), verb="drain", store="elm", planned_ms=0, estimate=PLAN, if_dead=DEAD, seconds=90)
WORDS = "stores drain elm"
NOTHING = Leftovers(garbage=0, shards=0, journal=0, foreign=0, more=False, trouble="", delay_seconds=3600, keep_seconds=86_400)


def leftovers(**found: object) -> Leftovers:
    values = {name: getattr(NOTHING, name) for name in NOTHING.__struct_fields__}
    return Leftovers(**{**values, **found})  # type: ignore[arg-type]


def done(capsys: pytest.CaptureFixture[str], left: Leftovers) -> str:
    print_standing(Campaign(id=DRAIN.id, verb="drain", store="elm", planned_ms=0, state="done", estimate=PLAN, actual=PLAN), WORDS, left)
    return capsys.readouterr().out


def test_a_plan_says_what_moves_what_it_costs_how_long_it_takes_and_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(DRAIN, WORDS)
    told = capsys.readouterr().out
    assert "3 segments, 2 shards copied, 1 shards rebuilt: 2.0 KiB read and written in 2 requests, US$ 1.75, at least 1 minute" in told
    assert "If elm is dead: 3 segments, 3 shards rebuilt" in told
    assert "Early deletion is an upper bound" in told
    assert told.endswith("Carry it out with: shardgate stores drain elm --apply drain-elm-1\n")


def test_segments_that_cannot_move_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(Campaign(id=DRAIN.id, verb="drain", store="elm", planned_ms=0, estimate=Estimate(waiting=2)), WORDS)
    assert "2 segments cannot move now" in capsys.readouterr().out


def test_an_empty_store_may_go_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = done(capsys, NOTHING)
    assert "elm holds nothing that is needed. Remove [stores.elm] from the configuration" in told


def test_what_waits_in_a_store_is_told_with_when_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    told = done(capsys, leftovers(garbage=7, shards=7, journal=2, foreign=1))
    assert "elm still holds 7 shards and 2 objects of the journal. No object needs them." in told
    assert "7 shards are queued for deletion there; a server deletes them, 1 hour after they were queued." in told
    assert "Wait with removing it" in told
    assert "1 objects in it are not Shardgate's" in told


def test_a_dead_store_may_go_with_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    told = done(capsys, leftovers(garbage=3, trouble="store elm: no answer"))
    assert "elm cannot be listed: store elm: no answer. No object needs it any more." in told
    assert "3 shards of deleted or moved data may still lie in it." in told


def test_whoever_detaches_is_told_who_goes_on() -> None:
    assert _who_goes_on(served=True) == "the work goes on in the servers."
    assert "NO SERVER RUNS" in _who_goes_on(served=False)


def test_orders_are_given_and_shown_without_a_server(run: Run, tmp_path: Path) -> None:  # noqa: F811
    run("init")
    plan = run("stores", "drain", "elm", "--json").data
    assert (plan["state"], plan["planned"]["segments"], plan["planned_if_dead"]["rebuilt"]) == ("planned", 0, 0)
    begun = run("stores", "drain", "elm", "--apply", plan["id"], "--detach", "--json").data
    assert (begun["id"], begun["state"]) == (plan["id"], "running")
    assert run("stores", "drain", "elm", "--pause", plan["id"], "--json").data["state"] == "paused"
    assert f"Go on with: shardgate stores drain elm --resume {plan['id']}" in run("stores", "drain", "elm").out
    assert run("stores", "drain", "elm", "--resume", plan["id"], "--detach", "--json").data["state"] == "running"
    assert "elm takes new shards again" in run("stores", "drain", "elm", "--cancel", plan["id"]).out
    refused = run("stores", "drain", "elm", "--resume", plan["id"])
    assert (refused.code, refused.err) == (1, f"shardgate: {plan['id']} is cancelled: there is nothing to resume\n")


def test_an_empty_installation_needs_no_rebalancing(run: Run, tmp_path: Path) -> None:  # noqa: F811
    run("init")
    outcome = run("rebalance")
    assert outcome.code == 0
    assert outcome.out.endswith(": nothing has to move\n")
