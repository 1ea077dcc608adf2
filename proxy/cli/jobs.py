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

if TYPE_CHECKING:
    from proxy.engine.workers import Worker
    from proxy.services import Services

app = typer.Typer(help="Show, pause and resume background work.")
EVERYWHERE = "every server"


class JobRow(Struct, frozen=True, kw_only=True):
    """What is shown of a job. `rate` is what it did a second when it last did something."""

    name: str
    state: str
    holder: str
    done: int
    remaining: int | None
    rate: float
    last_run: str | None
    last_error: str


class Overview(Struct, frozen=True, kw_only=True):
    """All background work, why it stands still if the manifest is fenced, and what is queued for deletion by store."""

    fence: str
    jobs: list[JobRow]
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
    columns = ["name", "state", "holder", "done", "remaining", "rate", "last run", "last error"]
    print_table("Jobs", columns, [_cells(row) for row in overview.jobs])
    rows = [[store or "(not known yet)", str(count)] for store, count in overview.garbage.items()]
    print_table("Deleted shards that are still in a store", ["store", "shards"], rows)


@app.command("pause")
def pause(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Pause a job until it is resumed, also over restarts. A step that runs is finished."""
    with_services(config, lambda services: _pause(services, name, paused=True))


@app.command("resume")
def resume(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Resume a job that was paused."""
    with_services(config, lambda services: _pause(services, name, paused=False))


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
    rows = [_row(worker, found.get(worker.name, Job(name=worker.name)), now) for worker in services.workers]
    garbage = await services.manifest.count_garbage()
    return Overview(fence=(await services.manifest.find_epoch()).fence, jobs=rows, garbage=dict(garbage))


def _row(worker: Worker, job: Job, now_ms: int) -> JobRow:
    return JobRow(
        name=job.name,
        state=jobs.state(job, now_ms=now_ms),
        holder=EVERYWHERE if worker.everywhere else job.holder,
        done=job.done,
        remaining=job.remaining,
        rate=job.rate,
        last_run=datetime.fromtimestamp(job.last_run_ms / 1000, UTC).isoformat(timespec="seconds") if job.last_run_ms else None,
        last_error=job.last_error,
    )


def _cells(row: JobRow) -> list[str]:
    remaining = "" if row.remaining is None else str(row.remaining)
    return [row.name, row.state, row.holder, str(row.done), remaining, f"{row.rate:g}/s", row.last_run or "never", row.last_error]
