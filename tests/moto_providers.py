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
from collections.abc import Sequence
from pathlib import Path

from tests.servers import ROOT, moto_servers, stop

COUNT = 6
FIRST_PORT = 9101
CONFIG = ROOT / "config" / "moto.toml"


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C or SIGTERM; return the proxy's exit code."""
    ports = [int(os.environ.get(f"SHARDGATE_MOTO_PORT_{number}") or FIRST_PORT + number - 1) for number in range(1, COUNT + 1)]
    _check_free(ports)
    with tempfile.TemporaryDirectory(prefix="shardgate-moto-") as data, moto_servers(ports):
        command = [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(CONFIG), *arguments]
        return _run(command, {**os.environ, **moto_environ(ports), "SHARDGATE_DATA": data})


def moto_environ(ports: Sequence[int]) -> dict[str, str]:
    """Return what config/moto.toml reads."""
    return {f"SHARDGATE_MOTO_PORT_{number}": str(port) for number, port in enumerate(ports, start=1)}


def _check_free(ports: Sequence[int]) -> None:
    for number, port in enumerate(ports, start=1):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise SystemExit(f"port {port} is in use; set SHARDGATE_MOTO_PORT_{number} to a free one")


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
