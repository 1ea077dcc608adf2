"""`shardgate jobs`: the background work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from msgspec import Struct

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.errors import ConfigError
from proxy.manifest import jobs
from proxy.manifest.records import Job
from proxy.status.campaigns import GOING_ON, campaign_facts
from proxy.status.facts import CampaignFacts
from proxy.status.words import duration

if TYPE_CHECKING:
    from proxy.services import Services

app = typer.Typer(help="Show, pause and resume background work.")
EVERYWHERE = "every server"
NOTHING_YET = "nothing to do yet"  # each server looks now and then, and notes it only when there was something


class JobRow(Struct, frozen=True, kw_only=True):
    """What is shown of a job. `rate` is what it did a second when it last did something, `remaining_seconds` the rest at that rate."""

    name: str
    state: str
    holder: str
    done: int
    remaining: int | None
    rate: float
    remaining_seconds: float | None
    requests: int
    size_bytes: int
    last_run: str | None
    failures: int
    last_error: str


class Overview(Struct, frozen=True, kw_only=True):
    """All background work, campaigns that go on, what is queued for deletion by store, and why nothing goes on if it does not."""

    fence: str
    jobs: list[JobRow]
    campaigns: list[CampaignFacts]
    garbage: dict[str, int]


@app.callback(invoke_without_command=True)
def show(context: typer.Context, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show what runs in the background, who does it, and how far it is."""
    if context.invoked_subcommand is not None:
        return
    overview = with_services(config, _overview)
    if as_json:
        print_json(overview)
        return
    if overview.fence:
        print(f"background work stands still: {overview.fence}")
    columns = ["name", "state", "holder", "done", "remaining", "rate", "time left", "last run", "last error"]
    print_table("Jobs", columns, [_cells(row) for row in overview.jobs])
    if overview.campaigns:
        columns = ["id", "what", "state", "segments", "time left", "trouble"]
        print_table("Campaigns", columns, [_campaign_cells(campaign) for campaign in overview.campaigns])
    rows = [[store or "(not known yet)", str(count)] for store, count in overview.garbage.items()]
    print_table("Deleted shards that are still in a store", ["store", "shards"], rows)


@app.command("pause")
def pause(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Pause a job until it is resumed, also over restarts. A step that runs is finished."""
    with_services(config, lambda services: _pause(services, name, paused=True))
    print(f"{name} is paused until: shardgate jobs resume {name}")


@app.command("resume")
def resume(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Resume a job that was paused."""
    with_services(config, lambda services: _pause(services, name, paused=False))
    print(f"{name} is no longer paused")


async def _pause(services: Services, name: str, *, paused: bool) -> None:
    worker = next((worker for worker in services.workers if worker.name == name), None)
    if worker is None:
        raise ConfigError(f'there is no job "{name}"; one of: {", ".join(worker.name for worker in services.workers)}')
    if worker.everywhere:
        raise ConfigError(f"{name} cannot be paused: no server is safe without it")
    await services.manifest.pause_job(name, paused)


async def _overview(services: Services) -> Overview:
    now = services.clock.now_ms()
    found = {job.name: job for job in await services.manifest.list_jobs()}
    here = {worker.name: worker.everywhere for worker in services.workers}
    names = [*here, *(name for name in found if name not in here)]  # other servers may run what this configuration does not
    return Overview(
        fence=(await services.manifest.find_epoch()).fence,
        jobs=[_row(found.get(name, Job(name=name)), now, everywhere=here.get(name, False)) for name in names],
        campaigns=[campaign_facts(campaign) for campaign in await services.manifest.list_campaigns() if campaign.state in GOING_ON],
        garbage=dict(await services.manifest.count_garbage()),
    )


def _row(job: Job, now_ms: int, *, everywhere: bool) -> JobRow:
    return JobRow(
        name=job.name,
        state=jobs.state(job, now_ms=now_ms),
        holder=EVERYWHERE if everywhere else job.holder,
        done=job.done,
        remaining=job.remaining,
        rate=job.rate,
        remaining_seconds=jobs.remaining_seconds(job, now_ms=now_ms),
        requests=job.requests,
        size_bytes=job.size_bytes,
        last_run=datetime.fromtimestamp(job.last_run_ms / 1000, UTC).isoformat(timespec="seconds") if job.last_run_ms else None,
        failures=job.failures,
        last_error=job.last_error,
    )


def _cells(row: JobRow) -> list[str]:
    remaining = "" if row.remaining is None else f"{row.remaining:,}"
    last_run = row.last_run or (NOTHING_YET if row.holder == EVERYWHERE else "never")
    return [
        row.name,
        row.state,
        row.holder,
        f"{row.done:,}",
        remaining,
        f"{row.rate:g}/s",
        _left(row.remaining_seconds),
        last_run,
        _error(row),
    ]


def _error(row: JobRow) -> str:
    return f"{row.last_error} ({row.failures} times in a row)" if row.failures > 1 else row.last_error


def _campaign_cells(campaign: CampaignFacts) -> list[str]:
    segments = f"{campaign.done:,} of {campaign.planned:,}"
    return [campaign.id, campaign.what, campaign.state, segments, _left(campaign.remaining_seconds), campaign.trouble]


def _left(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds * 1000)
