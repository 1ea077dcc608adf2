"""`shardgate serve`: the endpoint, in one process or several on one port."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvloop

from proxy.allocator import tune_allocator
from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, with_services
from proxy.cli.init import first_start
from proxy.config import Config, load_config
from proxy.errors import ConfigError
from proxy.log import configure_logging
from proxy.server.app import run_server

RESTART_SECONDS = 1.0  # a worker that dies at once must not spin


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT to listen on, instead of the configuration's.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    worker: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve S3 until Ctrl-C; requests in flight are finished."""
    settings = load_config(config)
    host, port = _address(listen or settings.listen)
    if worker:
        _run(settings, host, port, reuse_port=True)
        return
    credentials = with_services(settings, first_start)
    if workers == 1:
        _run(settings, host, port, reuse_port=False, credentials=credentials)
        return
    with _reserved(host, port) as reservation:
        port = reservation.getsockname()[1]
        print(banner(settings, host, port, credentials), flush=True)
        _Supervisor([*_worker_command(config), "--listen", f"{host}:{port}"], workers).run()


def banner(config: Config, host: str, port: int, credentials: Path) -> str:
    """Say where the endpoint and the credentials are, and what to paste."""
    endpoint = f"http://{host}:{port}"
    aws = f"AWS_SHARED_CREDENTIALS_FILE={credentials} AWS_REGION={config.region} aws --endpoint-url {endpoint}"
    return "\n".join((
        f"Shardgate serves S3 at  {endpoint}",
        f"credentials are in      {credentials}",
        "try:",
        f"  {aws} s3 mb s3://hello",
        f"  {aws} s3 cp README.md s3://hello/README.md",
        f"  {aws} s3 ls s3://hello",
    ))  # fmt: skip


def _run(config: Config, host: str, port: int, *, reuse_port: bool, credentials: Path | None = None) -> None:
    configure_logging(config.log)
    tune_allocator()

    def ready(bound: int) -> None:
        if credentials is not None:
            print(banner(config, host, bound, credentials), flush=True)

    uvloop.run(run_server(config, host=host, port=port, reuse_port=reuse_port, ready=ready))


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f'listen: "{text}" is not HOST:PORT')
    return host.strip("[]"), int(port)


def _reserved(host: str, port: int) -> socket.socket:
    """Hold the port for the workers, who share it; nothing is accepted here."""
    reservation = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        reservation.bind((host, port))
    except OSError as error:
        reservation.close()
        raise ConfigError(f"listen: cannot use {host}:{port}: {error.strerror}") from error
    return reservation


def _worker_command(config: Path) -> list[str]:
    return [sys.executable, "-m", "proxy.cli.main", "serve", "--worker", "--config", str(config)]


class _Supervisor:
    """Keeps the workers running until told to stop."""

    def __init__(self, command: list[str], count: int) -> None:
        self._command = command
        self._stopping = False
        self._workers = [self._start() for _ in range(count)]

    def run(self) -> None:
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGTERM, self._stop)
        while not self._stopping:
            time.sleep(0.2)
            self._workers = [worker if worker.poll() is None else self._replace(worker) for worker in self._workers]
        for worker in self._workers:
            worker.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C at a terminal reaches the supervisor alone, which passes it on once.
        return subprocess.Popen(self._command, start_new_session=True)  # noqa: S603 - our own interpreter and arguments

    def _replace(self, worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        if self._stopping:
            return worker
        print(f"shardgate: worker {worker.pid} ended with {worker.returncode}; starting another", file=sys.stderr, flush=True)
        time.sleep(RESTART_SECONDS)
        return self._start()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping = True
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
