"""`shardgate serve`: the endpoint, in one process or several on one port."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from prometheus_client.multiprocess import mark_process_dead

from proxy.allocator import tune_allocator
from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, with_services
from proxy.cli.init import first_start
from proxy.cli.supervisor import READY, Supervisor
from proxy.config import Config, listen_address, load_config
from proxy.errors import ConfigError
from proxy.log import configure_logging
from proxy.metrics import shared_by_workers
from proxy.server.app import run_server


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT to listen on, instead of the configuration's.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    worker: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve S3 until Ctrl-C; requests in flight are finished."""
    settings = load_config(config)
    host, port = listen_address(listen or settings.listen)
    tune_allocator()  # before the first thread
    configure_logging(settings.log)
    if worker:
        _run_worker(settings, host, port, workers)
        return
    with _reserved(host, port) as reservation:
        port = reservation.getsockname()[1]
        credentials = with_services(settings, first_start)

        def ready() -> None:
            print(banner(settings, host, port, credentials), flush=True)

        if workers > 1:
            command = [*_worker_command(config), "--listen", f"{_bracketed(host)}:{port}", "--workers", str(workers)]
            with shared_by_workers() as folder:
                Supervisor(command, workers, ready=ready, ended=partial(mark_process_dead, path=folder)).run()
            return
    _run(settings, host, port, credentials)


def banner(config: Config, host: str, port: int, credentials: Path) -> str:
    """Say where the endpoint and the credentials are, and what to paste: it works in any folder and whatever AWS_* variables are set."""
    endpoint = f"http://{_bracketed(_reachable(host))}:{port}"
    file = shlex.quote(str(credentials))
    aws = f"AWS_SHARED_CREDENTIALS_FILE={file} aws --profile default --region {config.region} --endpoint-url {endpoint}"
    return "\n".join((
        f"Shardgate serves S3 at  {endpoint}",
        f"credentials are in      {credentials}",
        "try:",
        f"  {aws} s3 mb s3://hello",
        f"  echo world | {aws} s3 cp - s3://hello/world.txt",
        f"  {aws} s3 ls s3://hello",
    ))  # fmt: skip


def _run(config: Config, host: str, port: int, credentials: Path) -> None:
    def ready(bound: int) -> None:
        print(banner(config, host, bound, credentials), flush=True)

    uvloop.run(run_server(config, host=host, port=port, ready=ready))


def _run_worker(config: Config, host: str, port: int, workers: int) -> None:
    def ready(bound: int) -> None:
        del bound
        # A reader only now: the signal it sends must find the server's own handler.
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()

    uvloop.run(run_server(config, host=host, port=port, workers=workers, ready=ready))


def _stop_with_parent() -> None:
    """Standard input ends when the supervisor does, even if it was killed."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _reachable(host: str) -> str:
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reserved(host: str, port: int) -> socket.socket:
    """Hold the port for the workers, who share it; nothing is accepted here."""
    try:
        # Without SO_REUSEPORT first: two servers that both share would share with each other.
        with _bound(host, port, socket.SO_REUSEADDR) as probe:
            port = probe.getsockname()[1]
        return _bound(host, port, socket.SO_REUSEPORT)
    except OSError as error:
        raise ConfigError(f"listen: cannot use {host}:{port}: {error.strerror}; choose another with --listen HOST:PORT") from error


def _bound(host: str, port: int, option: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _worker_command(config: Path) -> list[str]:
    return [sys.executable, "-m", "proxy.cli.main", "serve", "--worker", "--config", str(config)]
