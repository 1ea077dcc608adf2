"""`python -m tests.moto_providers`: six moto servers as six S3 providers, and the proxy in front of them.

What the servers hold is in memory, so the proxy's data (manifest, root key, credentials) is in a temporary folder and goes with them.
Arguments are passed on to `shardgate serve`. The servers' ports are SHARDGATE_MOTO_PORT_1 to _6 (9101 to 9106 if not set).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers import ROOT, stop, wait_for

COUNT = 6
FIRST_PORT = 9101
CONFIG = ROOT / "config" / "moto.toml"


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C or SIGTERM; return the proxy's exit code."""
    ports = [int(os.environ.get(f"SHARDGATE_MOTO_PORT_{number}") or FIRST_PORT + number - 1) for number in range(1, COUNT + 1)]
    with tempfile.TemporaryDirectory(prefix="shardgate-moto-") as data, moto_servers(ports):
        command = [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(CONFIG), *arguments]
        return _run(command, {**os.environ, **moto_environ(ports), "SHARDGATE_DATA": data})


@contextmanager
def moto_servers(ports: Sequence[int]) -> Iterator[None]:
    """Run one moto server on each port; stop them all on leaving."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise SystemExit(f"port {port} is in use; set SHARDGATE_MOTO_PORT_{ports.index(port) + 1} to a free one")
    with ExitStack() as stack:
        processes = [stack.enter_context(_moto(port)) for port in ports]
        for port, process in zip(ports, processes, strict=True):
            wait_for(f"http://127.0.0.1:{port}/", process)
        yield


def moto_environ(ports: Sequence[int]) -> dict[str, str]:
    """Return what config/moto.toml reads."""
    return {f"SHARDGATE_MOTO_PORT_{number}": str(port) for number, port in enumerate(ports, start=1)}


@contextmanager
def _moto(port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    # A session of its own: Ctrl-C must not take the providers away while the proxy finishes what is in flight.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        stop(process)


def _run(command: Sequence[str], environ: dict[str, str]) -> int:
    proxy = subprocess.Popen(command, env=environ, cwd=Path.cwd(), start_new_session=True)
    try:
        while True:
            try:
                return proxy.wait()
            except KeyboardInterrupt:
                proxy.send_signal(signal.SIGINT)
    finally:
        stop(proxy)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
