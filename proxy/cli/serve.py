"""`shardgate serve`: the endpoint, in one process or several on one port."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption
from proxy.cli.init import first_start
from proxy.cli.saying import say
from proxy.cli.supervisor import READY, Supervisor
from proxy.config import Config, credentials_path, listen_address, load_config
from proxy.log import configure_logging
from proxy.paths import is_there
from proxy.server.wire.balance import Board, Share, new_memory
from proxy.server.wire.certificate import Certificate
from proxy.server.wire.listening import bound, refuse
from proxy.shared_counts import forget_gauges, share_counts, shared_by_workers

if TYPE_CHECKING:
    from proxy.services import Services

_COMMAND = (sys.executable, "-m", "proxy.cli.main")


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT to listen on, instead of the configuration's.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
    files: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Serve S3 until Ctrl-C; requests in flight are finished."""
    settings = load_config(config)
    host, port = listen_address(listen or settings.listen)
    configure_logging(settings.log)
    if settings.tls is not None:
        Certificate(settings.tls)  # refuses a pair that cannot be used: once, here, and not from every worker
    if worker is not None:
        _run_worker(settings, host, port, worker, workers, [int(file) for file in files.split(",")])
        return
    with bound(host, port) as sockets:
        port = sockets[0].getsockname()[1]
        if workers > 1:
            _supervise(config, settings, host, port, workers, sockets)
        else:
            _run(settings, host, port, sockets)


def banner(config: Config, host: str, port: int) -> str:
    """Say where the endpoint and the credentials are, and what to paste. It works in any folder, whatever AWS_* variables are set."""
    endpoint = f"{'http' if config.tls is None else 'https'}://{_bracketed(_reachable(host))}:{port}"
    served = f"Shardgate serves S3 at  {endpoint}" + (f", for clients at {config.public_url}" if config.public_url else "")
    credentials = credentials_path(config)
    file = shlex.quote(str(credentials))
    aws = (
        f"AWS_SHARED_CREDENTIALS_FILE={file} aws --profile default --region {config.region} --endpoint-url {config.public_url or endpoint}"
    )
    if not is_there(credentials):  # moved away, or the first tenant was made by hand
        return f"{served}\nthere are no credentials in {credentials}; make new ones with: shardgate key add TENANT"
    return "\n".join((
        served,
        f"credentials are in      {credentials}",
        "try:",
        f"  {aws} s3 mb s3://hello",
        f"  echo world | {aws} s3 cp - s3://hello/world.txt",
        f"  {aws} s3 ls s3://hello",
    ))  # fmt: skip


def _supervise(config: Path, settings: Config, host: str, port: int, workers: int, sockets: Sequence[socket.socket]) -> None:
    # In a process of its own: this one goes on to start others, and need not hold all that a server is made of.
    made = subprocess.run([*_COMMAND, "init", "--config", str(config)], stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - see _COMMAND
    if made.returncode:
        raise typer.Exit(1)  # it has said why
    command = [*_COMMAND, "serve", "--config", str(config), "--listen", f"{_bracketed(host)}:{port}", "--workers", str(workers)]
    files = [new_memory(workers), *(listening.fileno() for listening in sockets)]
    command += ["--files", ",".join(map(str, files))]
    commands = [[*command, "--worker", str(worker)] for worker in range(workers)]
    with shared_by_workers():
        Supervisor(
            commands,
            ready=lambda: say(banner(settings, host, port), as_result=True),
            ended=forget_gauges,
            stopping=partial(refuse, sockets),
            files=files,
        ).run()


def _run(config: Config, host: str, port: int, sockets: Sequence[socket.socket]) -> None:
    def ready(at: int) -> None:
        say(banner(config, host, at), as_result=True)

    _run_server(config, host=host, port=port, sockets=sockets, prepare=first_start, ready=ready)


def _run_worker(config: Config, host: str, port: int, worker: int, workers: int, files: Sequence[int]) -> None:
    share_counts(worker, stores=len(config.stores))
    memory, *listening = files
    share = Share(Board.shared(memory), worker)
    sockets = [socket.socket(fileno=file) for file in listening]

    def ready(_: int) -> None:
        # A reader only now: the signal it sends must find the server's own handler.
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()

    _run_server(config, host=host, port=port, sockets=sockets, workers=workers, share=share, ready=ready)


def _run_server(
    config: Config,
    *,
    host: str,
    port: int,
    sockets: Sequence[socket.socket],
    workers: int = 1,
    share: Share | None = None,
    prepare: Callable[[Services], Awaitable[object]] | None = None,
    ready: Callable[[int], None],
) -> None:
    import uvloop  # here, with all that a server is made of: the supervisor is none

    from proxy.memory import give_back, tune_allocator, tune_collector, use_large_pages
    from proxy.server.app import run_server

    def listening(at: int) -> None:
        tune_collector()
        give_back()
        use_large_pages()
        ready(at)

    tune_allocator()  # before the first thread
    server = run_server(config, host=host, port=port, sockets=sockets, workers=workers, share=share, prepare=prepare, ready=listening)
    uvloop.run(server)


def _stop_with_parent() -> None:
    """Standard input ends when the supervisor does, even if it was killed."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _reachable(host: str) -> str:
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
