"""`python -m bench`: measure Shardgate beside SeaweedFS and rclone, or its memory under many large uploads."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from bench import distant as distant_servers
from bench import servers
from bench.beside import BesideResult, Job, measure_beside
from bench.machine import fill_file_cache, spread_folders
from bench.memory import MemoryResult, upload_at_once
from bench.picture import draw, ratios_of
from bench.report import as_json, as_markdown, print_table
from bench.turns import Starter, run_rounds
from bench.workloads import FULL, QUICK, Scale

console = Console(width=170)


def main(
    quick: Annotated[bool, typer.Option(help="One short round, under a minute.")] = False,
    rounds: Annotated[int | None, typer.Option(help="How often all is measured anew, on servers without data.")] = None,
    workers: Annotated[int, typer.Option(help="Shardgate's worker processes.")] = 2,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only these servers (shardgate, weed, rclone; with --distant, direct instead of weed).")
    ] = None,
    workload: Annotated[list[str] | None, typer.Option(help='Measure only these, as in "PUT 64 MiB", and what they need before.')] = None,
    distant: Annotated[
        bool, typer.Option(help="Over S3 buckets with a round trip of 30 ms: six for Shardgate, one for each yardstick.")
    ] = False,
    config: Annotated[Path, typer.Option(help="Shardgate's configuration.")] = servers.REPOSITORY / "config" / "bench.toml",
    folder: Annotated[Path | None, typer.Option(help="Where the servers keep their data; all of them on the same disk.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the measures here.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the ratios as an SVG here.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print the table for docs/MEASUREMENTS.md as well.")] = False,
    memory: Annotated[bool, typer.Option(help="Measure memory under many large uploads instead.")] = False,
    uploads: Annotated[int, typer.Option(help="With --memory: uploads at once.")] = 64,
    upload_mib: Annotated[int, typer.Option(help="With --memory: MiB in each.")] = 1024,
    repair: Annotated[bool, typer.Option(help="Measure GETs with and without a repair at full speed instead.")] = False,
    scrub: Annotated[bool, typer.Option(help="Measure GETs with and without a deep scrub at full speed instead.")] = False,
    background_mib: Annotated[int, typer.Option(help="With --repair or --scrub: limits.background_mib_per_second.")] = 64,
    memory_seconds: Annotated[float, typer.Option(help="With --memory: stop after this long.")] = 60.0,
) -> None:
    """Measure Shardgate beside two yardsticks: SeaweedFS written to directly, and rclone's S3 server over a crypt remote."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="shardgate-bench-", dir=folder))
    spread_folders(data)
    try:
        if memory:
            result = _measure_memory(data, config, workers, uploads, upload_mib, memory_seconds)
            _print_memory(result)
            _write(json_file, json.dumps(dataclasses.asdict(result), indent=1))
        elif repair or scrub:
            job: Job = "repair" if repair else "scrub-deep"
            found = _measure_beside(job, data, config, workers, rounds or (1 if quick else 3), background_mib, 2.0 if quick else 5.0)
            _print_beside(job, found, background_mib)
            _write(json_file, json.dumps(dataclasses.asdict(found), indent=1))
        else:
            scale, starters = _distant(quick, workers) if distant else _near(quick, workers, config)
            if not (quick or distant):
                fill_file_cache(data)
            chosen = {name: start for name, start in starters.items() if not only or name in only}
            scale = dataclasses.replace(scale, rounds=rounds or scale.rounds)
            measures = run_rounds(chosen, scale, data, console.print, workload)
            print_table(console, measures)
            _write(json_file, as_json(measures))
            _write(picture, draw(ratios_of([measure.as_dict() for measure in measures])))
            if markdown:
                print(as_markdown(measures))
    except servers.ServerFailed as error:
        console.print(f"bench: {error}", markup=False)
        raise typer.Exit(1) from error
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _near(quick: bool, workers: int, config: Path) -> tuple[Scale, dict[str, Starter]]:
    return (QUICK if quick else FULL), {
        "rclone": servers.rclone,
        "weed": servers.weed,
        "shardgate": partial(servers.shardgate, workers=workers, config=config),
    }


def _distant(quick: bool, workers: int) -> tuple[Scale, dict[str, Starter]]:
    return (distant_servers.QUICK if quick else distant_servers.FULL), {
        "rclone": distant_servers.distant_rclone,
        "direct": distant_servers.distant_bucket,
        "shardgate": partial(distant_servers.distant_shardgate, workers=workers),
    }


def _measure_memory(data: Path, config: Path, workers: int, uploads: int, upload_mib: int, seconds: float) -> MemoryResult:
    with servers.shardgate(data, workers=workers, config=config) as server:
        return uvloop.run(upload_at_once(server, uploads=uploads, upload_bytes=upload_mib * 1024**2, at_most_seconds=seconds))


def _print_memory(result: MemoryResult) -> None:
    console.print(
        f"{result.uploads} uploads of {result.upload_bytes / 1024**2:,.0f} MiB at once: "
        f"{result.finished} finished, {result.dropped} dropped at the end of the time, {len(result.errors)} refused; "
        f"{result.sent_bytes / 1e9:.1f} GB in {result.seconds:.0f} s ({result.sent_bytes / result.seconds / 1e6:,.0f} MB/s)"
    )
    console.print(f"resident memory of all workers: {result.idle_rss_mib:,.0f} MiB idle, {result.peak_rss_mib:,.0f} MiB at the peak")
    for error in result.errors[:3]:
        console.print(error, markup=False)


def _measure_beside(job: Job, data: Path, config: Path, workers: int, rounds: int, mib: int, seconds: float) -> BesideResult:
    paced = data / f"{job}.toml"
    # A pass that is due within a second is late from its first step, so it never waits.
    never_waits = "[scrub]\nlight_days = 0\ndeep_days = 0.00001\n" if job == "scrub-deep" else ""
    paced.write_text(f"{config.read_text()}\n[limits]\nbackground_mib_per_second = {mib}\n{never_waits}")
    folder = data / job
    folder.mkdir()
    with servers.shardgate(folder, workers=workers, config=paced) as server:
        return uvloop.run(measure_beside(job, server, folder, rounds=rounds, seconds=seconds))


def _print_beside(job: Job, result: BesideResult, mib: int) -> None:
    rate = result.size_bytes / result.seconds / 1e6
    console.print(
        f"{job} meanwhile: {result.shards} shards in {result.seconds:.0f} s, {rate:.0f} MB/s read and written (paced to {mib} MiB/s)"
    )
    for size in result.calm:
        calm, busy = result.p99_ms(size)
        console.print(f"GET {size}: p99 {calm:.1f} ms without {job}, {busy:.1f} ms with it: x {busy / calm:.2f}")
    for error in result.errors[:3]:
        console.print(error, markup=False)


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        path.write_text(text + "\n")


typer.run(main)
