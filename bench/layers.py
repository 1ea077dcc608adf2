"""`python -m bench.layers`: what a small request costs each layer of the server, in microseconds of CPU.

The problem. A request passes a dozen layers, and each grows by a few microseconds now and then. Nobody sees it in the sum, which differs
from machine to machine and from day to day.

The idea. The server runs in this process, its client in another. A timer interrupts the server's main thread, some hundreds of times for
each second of CPU that it uses, and not while it waits. What CPU time that thread has used since the last time belongs to the layer whose
code runs now. The other threads have clocks of their own, and each belongs to one layer. So the layers' sum is what the process used,
however often the timer fires.

The timer goes by that thread's own clock. One that goes by the process's, as Python's do, fires also for what other threads use, and the
kernel has the main thread take the signal, waiting or not: what it had done before it waited was then the event loop's.

A profiler that traces every call would be exact in its counts, but a third of what it measures would be itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench.load import fill_listing, run_workload
from bench.ports import free_port
from bench.servers import REPOSITORY, creates_bucket, read_credentials
from bench.signing import Endpoint
from bench.workloads import FULL, LIST_KEYS, Scale
from proxy.cli.init import first_start
from proxy.config import Config, credentials_path, load_config
from proxy.log import configure_logging
from proxy.memory import tune_allocator, tune_collector, use_large_pages
from proxy.server.app import run_server
from proxy.shared_counts import share_counts, shared_by_workers

INTERVAL_SECONDS = 0.001  # of CPU; the kernel's own tick is longer, and counts
WORKLOADS = ("PUT", "GET", "HEAD", f"LIST {LIST_KEYS} keys", "DELETE")
CONNECTION, PARSE, SIGNATURE, AUTHORISE = "connection and dispatch", "parse and route", "claim and signature", "authorise"
BODY, ENGINE, MANIFEST, CODEC, STORES = "body and checksums", "engine", "manifest", "keys and codec", "stores"
ANSWER, LOG, HAND_OVER, REST = "answer", "log and metrics", "hand-over between threads", "event loop and the rest"
LAYERS = (CONNECTION, PARSE, SIGNATURE, AUTHORISE, BODY, ENGINE, MANIFEST, CODEC, STORES, ANSWER, LOG, HAND_OVER, REST)

# Whose code a module is; the longest name that it begins with counts. What no name is for belongs to its caller.
MODULES: Mapping[str, str] = {
    "aiohttp": CONNECTION,
    "proxy.server": CONNECTION,
    "proxy.s3": PARSE,
    "proxy.s3.sigv2": SIGNATURE,
    "proxy.s3.sigv4": SIGNATURE,
    "proxy.s3.claim": SIGNATURE,
    "proxy.s3.evidence": SIGNATURE,
    "proxy.s3.sts": SIGNATURE,
    "proxy.server.identity.auth": SIGNATURE,
    "proxy.server.identity.sessions": SIGNATURE,
    "proxy.s3.policy": AUTHORISE,
    "proxy.server.access": AUTHORISE,
    "proxy.server.guard": AUTHORISE,
    "proxy.server.payment": AUTHORISE,
    "proxy.server.wire.peers": AUTHORISE,
    "proxy.server.refusals": AUTHORISE,
    "proxy.tenancy": AUTHORISE,
    "proxy.s3.aws_chunked": BODY,
    "proxy.s3.checksums": BODY,
    "proxy.s3.md5": BODY,
    "proxy.server.body": BODY,
    "proxy.server.wire.inlet": BODY,
    "proxy.server.wire.inflow": BODY,
    "proxy.engine": ENGINE,
    "proxy.server.handlers": ENGINE,
    "proxy.manifest": MANIFEST,
    "proxy.codec": CODEC,
    "proxy.keyring": CODEC,
    "proxy.engine.ciphers": CODEC,
    "proxy.stores": STORES,
    "proxy.s3.contents": ANSWER,
    "proxy.s3.rendering": ANSWER,
    "proxy.server.answers": ANSWER,
    "proxy.server.documents": ANSWER,
    "proxy.server.streaming": ANSWER,
    "proxy.server.turns": ANSWER,
    "logging": LOG,
    "prometheus_client": LOG,
    "proxy.log": LOG,
    "proxy.metrics": LOG,
    "proxy.server.access_lines": LOG,
    "proxy.server.telemetry": LOG,
    "concurrent.futures": HAND_OVER,
    "proxy.lanes": HAND_OVER,
}
THREADS: Mapping[str, str] = {"manifest": MANIFEST, "store": STORES, "codec": CODEC, "log": LOG}  # by the first word of their names


@dataclass
class Measure:
    """What the requests of one workload cost, in CPU seconds."""

    requests: int = 0
    layers: Counter[str] = field(default_factory=Counter)
    whole: float = 0.0

    def microseconds(self, layer: str) -> float:
        return self.layers[layer] * 1e6 / max(1, self.requests)

    @property
    def sum_microseconds(self) -> float:
        return sum(self.layers.values()) * 1e6 / max(1, self.requests)

    @property
    def whole_microseconds(self) -> float:
        return self.whole * 1e6 / max(1, self.requests)


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each workload runs.")] = 4.0,
    requests: Annotated[int, typer.Option(min=16, help="How many objects are put and deleted at most.")] = 4000,
    config: Annotated[Path, typer.Option(help="Shardgate's configuration.")] = REPOSITORY / "config" / "bench.toml",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the microseconds here, to compare with later.")] = None,
    before: Annotated[Path | None, typer.Option(help="Show beside each figure what it was in this file.")] = None,
) -> None:
    """Print the CPU a request costs in each layer: 4 KiB PUT, GET, HEAD and DELETE, and a LIST of 1,000 keys."""
    scale = replace(FULL, small=replace(FULL.small, count=requests), read_seconds=seconds, write_seconds=seconds)
    data = Path(tempfile.mkdtemp(prefix="shardgate-layers-"))
    os.environ["SHARDGATE_DATA"] = str(data)
    try:
        measures = _measure(load_config(config), scale, data)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    found = as_microseconds(measures)
    Console(width=150).print(_table(measures, found, {} if before is None else json.loads(before.read_text())))
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


def as_microseconds(measures: Mapping[str, Measure]) -> dict[str, dict[str, float]]:
    """Return microseconds a request, by workload and layer."""
    return {
        name: {layer: round(measure.microseconds(layer), 1) for layer in LAYERS} | {"whole": round(measure.whole_microseconds, 1)}
        for name, measure in measures.items()
    }


def _table(measures: Mapping[str, Measure], found: Mapping[str, dict[str, float]], before: Mapping[str, dict[str, float]]) -> Table:
    table = Table("µs of CPU a request", *measures, title="one process, 4 KiB objects" + (" (before)" if before else ""))

    def cells(name: str) -> Iterator[str]:
        for workload in measures:
            earlier = before.get(workload, {}).get(name)
            yield f"{found[workload][name]:,.0f}" + ("" if earlier is None else f" ({earlier:,.0f})")

    for layer in LAYERS:
        table.add_row(layer, *cells(layer))
    table.add_section()
    table.add_row("sum", *(f"{measure.sum_microseconds:,.0f}" for measure in measures.values()))
    table.add_row("the whole process", *cells("whole"))
    table.add_row("requests", *(f"{measure.requests:,}" for measure in measures.values()))
    return table


def _measure(config: Config, scale: Scale, data: Path) -> dict[str, Measure]:
    tune_allocator()
    with shared_by_workers(), (data / "log").open("w") as log, redirect_stderr(log):  # as one of several workers, and logging into a file
        share_counts(0, stores=len(config.stores))
        configure_logging(config.log)
        return uvloop.run(_serve_and_measure(config, scale))


async def _serve_and_measure(config: Config, scale: Scale) -> dict[str, Measure]:
    port, listens = free_port(), asyncio.Event()

    def ready(_: int) -> None:
        tune_collector()
        use_large_pages()
        listens.set()

    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(run_server(config, host="127.0.0.1", port=port, prepare=first_start, ready=ready))
        waiting = tasks.create_task(listens.wait())
        await asyncio.wait({server, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            return await _measure_all(Endpoint("127.0.0.1", port, *read_credentials(credentials_path(config))), scale)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # which ends the server, as it would end any


async def _measure_all(endpoint: Endpoint, scale: Scale) -> dict[str, Measure]:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, creates_bucket, endpoint)
    measures: dict[str, Measure] = {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as client:
        _refuse_errors((await loop.run_in_executor(client, fill_listing, endpoint, scale)).errors)
        existing: Sequence[int] = ()
        for name in WORKLOADS:
            measures[name] = measure = Measure()
            with _metered(measure):
                outcome = await loop.run_in_executor(client, run_workload, endpoint, scale, name, existing)
            _refuse_errors(outcome.errors)
            measure.requests = len(outcome.done)
            existing = outcome.done if name == "PUT" else existing
    return measures


def _refuse_errors(errors: Sequence[str]) -> None:
    if errors:
        raise RuntimeError(f"{len(errors)} requests failed, such as: {errors[0]}")


@contextmanager
def _metered(measure: Measure) -> Iterator[None]:
    """Note what this process uses meanwhile. To be called in the main thread: no other is interrupted."""
    threads, whole, spent = _thread_clocks(), time.process_time(), 0.0
    last = time.thread_time()

    def sample(_: int, frame: FrameType | None) -> None:
        nonlocal last, spent
        now = time.thread_time()
        measure.layers[_layer_of_frame(frame)] += now - last
        last = time.thread_time()
        spent += last - now

    previous = signal.signal(signal.SIGPROF, sample)
    try:
        with interrupted_by_own_clock(INTERVAL_SECONDS):
            yield
    finally:
        signal.signal(signal.SIGPROF, previous)
        measure.layers[REST] += time.thread_time() - last
        measure.whole = time.process_time() - whole - spent
        for thread, used in _thread_clocks().items():
            measure.layers[THREADS.get(thread[1].partition("-")[0].partition("_")[0], REST)] += used - threads.get(thread, 0.0)


@contextmanager
def interrupted_by_own_clock(interval_seconds: float) -> Iterator[None]:
    """Have this thread get a SIGPROF each time that it has used so much CPU: timer_create(2), which Python has not."""
    library = ctypes.CDLL(None, use_errno=True)
    event = _Event(signal=signal.SIGPROF, notify=_SIGEV_THREAD_ID, thread=threading.get_native_id())
    nanoseconds, timer = int(interval_seconds * 1e9), ctypes.c_void_p()
    if library.timer_create(time.CLOCK_THREAD_CPUTIME_ID, ctypes.byref(event), ctypes.byref(timer)):
        raise OSError(ctypes.get_errno(), "no timer for the CPU of one thread")
    try:
        library.timer_settime(timer, 0, ctypes.byref((ctypes.c_long * 4)(0, nanoseconds, 0, nanoseconds)), None)
        yield
    finally:
        library.timer_delete(timer)


class _Event(ctypes.Structure):
    """Linux's `sigevent`: https://man7.org/linux/man-pages/man3/sigevent.3type.html"""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("_rest", ctypes.c_int * 11),
    )


_SIGEV_THREAD_ID = 4


def _thread_clocks() -> dict[tuple[int, str], float]:
    """Return the CPU seconds of each thread but this one, by id and name."""
    clocks = {}
    for thread in threading.enumerate():
        if thread.ident is not None and thread is not threading.current_thread():
            clocks[thread.ident, thread.name] = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return clocks


def _layer_of_frame(frame: FrameType | None) -> str:
    while frame is not None:
        layer = layer_of(frame.f_globals.get("__name__", ""))
        if layer is not None:
            return layer
        frame = frame.f_back
    return REST


_found: dict[str, str | None] = {}


def layer_of(module: str) -> str | None:
    """Return the layer that a module belongs to; None if it works for whoever calls it."""
    if module not in _found:
        name = module
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        _found[module] = MODULES.get(name)
    return _found[module]


if __name__ == "__main__":
    typer.run(main)
