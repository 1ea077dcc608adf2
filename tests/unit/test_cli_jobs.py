"""`shardgate jobs` and `shardgate manifest accept`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy.config import load_config
from proxy.engine.epoch import LEAP
from proxy.manifest.campaigns import Campaign, CampaignId, Estimate
from proxy.manifest.records import GarbageSegment, JobReport, SegmentId, Settlement
from proxy.services import Services, open_services
from tests.servers import ROOT
from tests.snapshots import copy_of
from tests.unit.test_cli import Run, run  # noqa: F401 - the fixture

LOCAL = ROOT / "config" / "local.toml"


@pytest.fixture
def used(run: Run, tmp_path: Path) -> Path:  # noqa: F811
    run("init")
    _serve(tmp_path)
    return tmp_path


def _serve(data: Path, *, garbage: bool = False) -> None:
    """Start and stop what a server is made of."""

    async def serve() -> None:
        async with open_services(load_config(LOCAL, {"SHARDGATE_DATA": str(data)}), serving=True) as services:
            if garbage:
                await _queue_garbage(services)

    asyncio.run(serve())


def _with_services(data: Path, work: Callable[[Services], Awaitable[None]]) -> None:
    """Do something as a command would: nothing runs in the background."""

    async def run_it() -> None:
        async with open_services(load_config(LOCAL, {"SHARDGATE_DATA": str(data)})) as services:
            await work(services)

    asyncio.run(run_it())


async def _queue_garbage(services: Services) -> None:
    ids = [SegmentId(bytes(15) + bytes((number,))) for number in range(2)]
    intent = await services.manifest.lease_segments(owner="w", segment_ids=ids, expires_ms=2**60)
    segments = [GarbageSegment(id=ids[0], stores=("alder", "gone")), GarbageSegment(id=ids[1])]
    await services.manifest.settle([Settlement(intent_id=intent.id, mask=3)], segments, now_ms=1)


@pytest.fixture
def fenced(used: Path) -> Path:
    """Return the data of an installation that an older copy of its manifest was put back into."""
    copy_of(used / "manifest.sqlite", used / "copy")
    _serve(used)
    for path in used.glob("manifest.sqlite*"):
        path.unlink()
    (used / "copy").rename(used / "manifest.sqlite")
    return used


def test_jobs_are_shown_before_they_have_ever_run(run: Run, used: Path) -> None:  # noqa: F811
    overview = run("jobs", "--json").data
    assert {"renew-leases", "epoch", "collect", "leaving-stores", "journal"} <= {job["name"] for job in overview["jobs"]}
    assert {job["state"] for job in overview["jobs"]} == {"new"}
    assert (overview["fence"], overview["garbage"]) == ("", {})
    assert overview["jobs"][2] == {
        "name": "collect", "state": "new", "holder": "", "done": 0, "remaining": None, "rate": 0.0, "last_run": None, "last_error": "",
        "remaining_seconds": None, "requests": 0, "size_bytes": 0, "failures": 0,
    }  # fmt: skip
    out = run("jobs").out
    assert "every server" in out
    assert "never" in out


def test_garbage_is_shown_by_store_also_of_one_that_is_not_configured(run: Run, used: Path) -> None:  # noqa: F811
    _serve(used, garbage=True)
    assert run("jobs", "--json").data["garbage"] == {"": 1, "alder": 1, "gone": 1}
    assert "(not known yet)" in run("jobs").out


def test_a_job_is_paused_and_resumed_for_all_processes_and_over_restarts(run: Run, used: Path) -> None:  # noqa: F811
    assert run("jobs", "pause", "collect").code == 0
    _serve(used)
    assert run("jobs", "--json").data["jobs"][2]["state"] == "paused"
    assert run("jobs", "resume", "collect").code == 0
    assert run("jobs", "--json").data["jobs"][2]["state"] == "new"


def test_a_job_that_works_says_how_long_it_takes_and_one_that_fails_says_why(run: Run, used: Path) -> None:  # noqa: F811
    async def work(services: Services) -> None:
        now, manifest = services.clock.now_ms(), services.manifest
        for name, report in (
            ("collect", JobReport(done=200, remaining=7200, seconds=100, due_ms=now - 1, requests=300, size_bytes=5)),
            ("scrub-light", JobReport(done=200, remaining=7200, seconds=100, due_ms=now + 60_000)),
            ("elsewhere", JobReport(failed=True, error="no room")),
        ):
            await manifest.report_job(name, report, now_ms=now)
            taken = await manifest.take_job(name, "w", now_ms=now, lease_ms=1000)
            if taken:
                await manifest.finish_job(name, "w", report, now_ms=now)
        await manifest.add_campaign(
            Campaign(
                id=CampaignId("c1"), verb="drain", store="alder", state="paused", planned_ms=1, seconds=7200.0, trouble="no room",
                estimate=Estimate(segments=1000), actual=Estimate(segments=500),
            )
        )  # fmt: skip

    _with_services(used, work)
    overview = run("jobs", "--json").data
    jobs = {job["name"]: job for job in overview["jobs"]}
    assert jobs["collect"]["remaining_seconds"] == 3600.0
    assert jobs["scrub-light"]["remaining_seconds"] is None  # it spreads its work over a day
    assert (jobs["elsewhere"]["state"], jobs["elsewhere"]["failures"], jobs["elsewhere"]["last_error"]) == ("failing", 2, "no room")
    assert [campaign["what"] for campaign in overview["campaigns"]] == ["drain of alder"]
    out = run("jobs").out
    for words in ("1 hour", "500 of 1,000", "drain of alder", "paused", "no room"):
        assert words in out, words


def test_what_no_server_is_safe_without_and_what_there_is_not_cannot_be_paused(run: Run, used: Path) -> None:  # noqa: F811
    for name, why in (
        ("renew-leases", "cannot be paused"),
        ("epoch", "cannot be paused"),
        ("colect", "one of: renew-leases, epoch, collect, leaving-stores"),
    ):
        outcome = run("jobs", "pause", name)
        assert outcome.code == 1
        assert why in outcome.err


def test_commands_that_write_are_refused_on_an_older_copy_and_those_that_read_are_not(run: Run, fenced: Path) -> None:  # noqa: F811
    for command in (("tenant", "add", "t"), ("key", "add", "local"), ("jobs", "pause", "collect"), ("tenant", "disable", "local")):
        outcome = run(*command)
        assert outcome.code == 1
        assert "this manifest is an older copy: it is at epoch 1, and the stores alder, birch" in outcome.err
    assert [tenant["name"] for tenant in run("tenant", "list", "--json").data] == ["local"]
    assert "older copy" in run("jobs", "--json").data["fence"]
    assert "background work stands still: this manifest is an older copy" in run("jobs").out


def test_an_older_copy_is_accepted_only_by_who_says_that_he_means_it(run: Run, fenced: Path) -> None:  # noqa: F811
    outcome = run("manifest", "accept")
    assert outcome.code == 1
    assert "What was stored after this copy was made cannot be found by it" in outcome.err
    assert run("tenant", "add", "t").code == 1
    outcome = run("manifest", "accept", "--yes")
    assert (outcome.code, outcome.out) == (0, f"accepted: the manifest is at epoch {2 + LEAP + 1}, and may be written again\n")
    assert run("tenant", "add", "t").code == 0
    _serve(fenced)
    assert run("tenant", "add", "u").code == 0


def test_there_is_nothing_to_accept_where_all_is_well(run: Run, used: Path) -> None:  # noqa: F811
    outcome = run("manifest", "accept", "--yes")
    assert outcome.code == 1
    assert "nothing to accept" in outcome.err


def test_a_backup_that_is_put_back_is_known_for_an_older_copy(run: Run, used: Path) -> None:  # noqa: F811
    assert run("manifest", "backup", str(used / "copy")).code == 0
    assert run("tenant", "add", "t").code == 0
    for path in used.glob("manifest.sqlite*"):
        path.unlink()
    (used / "copy").rename(used / "manifest.sqlite")
    assert "older copy" in run("tenant", "add", "u").err
