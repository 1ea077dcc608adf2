"""Minutes of trouble: clients work while processes are killed, a store lies, loses and goes away, and shards are repaired and moved.

`python -m tests.soak --minutes 10` (or `make soak`) exits 1 if an acknowledged write is ever lost, another body read than the one
acknowledged last, a shard left over that the manifest does not know, or one missing that it does. The last two are counted at the stores.

Each client has keys of its own, so what must be there is known: exactly what was acknowledged or, after a request that broke off, one
of two. All damage is done to one store, and another is drained: together they are what the policy promises to bear.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path

import psutil
from botocore.exceptions import BotoCoreError, ClientError

from tests.fault.machine.audit import Audit, audit
from tests.servers import ROOT, Shardgate, shardgate, stop

CLIENTS = 12
KEYS = 40  # of each client
SIZES = (10, 5_000, 300_000, 3_000_000)
TROUBLE_SECONDS = 4.0  # between one and the next
RECOVERY_SECONDS = 60.0
REST_SECONDS = 300.0  # for repair and collection, once it is quiet
SOON_SECONDS = 60.0
UNRELIABLE, LEFT = "elm", "gum"
# Delays are short, so that leases end and garbage is collected while it goes on.
LIMITS = """
[limits]
put_timeout_seconds = 8.0
get_timeout_seconds = 8.0
collect_after_seconds = 10.0
collect_interval_seconds = 5.0
intent_seconds = 20.0

[stores.gum]
kind = "directory"
path = "${SHARDGATE_DATA:-./data}/stores/gum"
fsync = false
provider = "gum-cloud"
region = "au-east"
jurisdiction = "AU"
"""


class Client:
    """One client, and what must be found under each of its keys: digests of bodies, None for no object."""

    def __init__(self, server: Shardgate, number: int, until: float) -> None:
        self._s3 = server.client(connect_timeout=5, read_timeout=30)
        self._random = random.Random(number)
        self._until = until
        self._possible: dict[str, set[str | None]] = {f"client-{number}/{key}": {None} for key in range(KEYS)}
        self.lost: list[str] = []
        self.stale: list[str] = []
        self.sent_bytes = 0
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        while time.monotonic() < self._until:
            key = self._random.choice(list(self._possible))
            act = self._random.choices((self._put, self._upload, self._copy, self._delete, self.check), (8, 1, 1, 2, 8))[0]
            try:
                act(key)
                self.outcomes["ok"] += 1
            except (BotoCoreError, ClientError) as error:
                self.outcomes[type(error).__name__] += 1

    def check_all(self) -> None:
        for key in self._possible:
            self.check(key)

    def check(self, key: str) -> None:
        found = self._read(key)
        if found not in self._possible[key]:
            (self.lost if found is None else self.stale).append(f"{key}: {found} instead of {self._possible[key]}")

    def _put(self, key: str) -> None:
        body, digest = self._new_body()
        self._possible[key].add(digest)
        self._s3.put_object(Bucket="bucket", Key=key, Body=body)
        self._possible[key] = {digest}

    def _upload(self, key: str) -> None:
        body, digest = self._new_body()
        upload = self._s3.create_multipart_upload(Bucket="bucket", Key=key)
        named = {"Bucket": "bucket", "Key": key, "UploadId": upload["UploadId"]}
        part = self._s3.upload_part(**named, PartNumber=1, Body=body)
        self._possible[key].add(digest)
        self._s3.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
        self._possible[key] = {digest}

    def _copy(self, key: str) -> None:
        """Copy from a key of which it is known what is there."""
        known = [other for other, bodies in self._possible.items() if len(bodies) == 1 and None not in bodies]
        if not known:
            return
        source = self._random.choice(known)
        self._possible[key] = self._possible[key] | self._possible[source]
        self._s3.copy_object(Bucket="bucket", Key=key, CopySource=f"bucket/{source}", MetadataDirective="REPLACE")
        self._possible[key] = set(self._possible[source])

    def _delete(self, key: str) -> None:
        self._possible[key].add(None)
        self._s3.delete_object(Bucket="bucket", Key=key)
        self._possible[key] = {None}

    def _new_body(self) -> tuple[bytes, str]:
        body = self._random.randbytes(self._random.choice(SIZES))
        self.sent_bytes += len(body)
        return body, hashlib.sha256(body).hexdigest()

    def _read(self, key: str) -> str | None:
        try:
            return hashlib.sha256(self._s3.get_object(Bucket="bucket", Key=key)["Body"].read()).hexdigest()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None


class Trouble:
    """What goes wrong, one thing after the other, and how often each did."""

    def __init__(self, server: Shardgate, until: float) -> None:
        self._server = server
        self._until = until
        self._random = random.Random(0)
        self._store = server.data / "stores" / UNRELIABLE
        self._away = server.data / f"{UNRELIABLE}-away"
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        kinds = (self._kill, self._go_away, self._kill, self._go_away, self._flip, self._lose, self._suspend, self._scrub, self._truncate)
        half = (time.monotonic() + self._until) / 2
        for kind in cycle(kinds):
            if time.monotonic() >= self._until - TROUBLE_SECONDS:
                break
            time.sleep(TROUBLE_SECONDS)
            if time.monotonic() > half and not self.counts["drain"]:
                self._drain()
            self.counts[kind.__name__.strip("_")] += kind()
        self._come_back()

    def _kill(self) -> int:
        return self._signal(signal.SIGKILL)

    def _suspend(self) -> int:
        """Stop a worker for a while, longer than some of its deadlines."""
        stopped = self._signal(signal.SIGSTOP)
        time.sleep(TROUBLE_SECONDS)
        for worker in self._workers():
            with suppress(psutil.Error):
                worker.send_signal(signal.SIGCONT)
        return stopped

    def _go_away(self) -> int:
        if self._away.exists():
            self._come_back()
        else:
            self._store.rename(self._away)
        return 1

    def _come_back(self) -> None:
        if self._away.exists():
            self._away.rename(self._store)

    def _lose(self) -> int:
        return self._damage(lambda shard: shard.unlink())

    def _flip(self) -> int:
        def flip(shard: Path) -> None:
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.write_bytes(data)

        return self._damage(flip)

    def _truncate(self) -> int:
        return self._damage(lambda shard: os.truncate(shard, shard.stat().st_size // 2))

    def _damage(self, harm: Callable[[Path], None]) -> int:
        """Do harm to some shards of the unreliable store, behind everybody's back."""
        shards = shards_in(self._store)
        chosen = self._random.sample(shards, min(10, len(shards)))
        for shard in chosen:
            with suppress(OSError):  # it was deleted meanwhile
                harm(shard)
        return len(chosen)

    def _scrub(self) -> int:
        command(self._server, "scrub", "--now", *self._random.choice(((), ("--deep",))))
        return 1

    def _drain(self) -> None:
        """Leave a store: its shards move while everything else goes on."""
        plan = command(self._server, "stores", "drain", LEFT, "--json")
        self.counts["drain"] += 1
        if plan:
            command(self._server, "stores", "drain", LEFT, "--apply", json.loads(plan)["id"], "--detach")

    def _signal(self, number: signal.Signals) -> int:
        workers = self._workers()
        if not workers:
            return 0
        with suppress(psutil.Error):
            self._random.choice(workers).send_signal(number)
        return 1

    def _workers(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return psutil.Process(self._server.process.pid).children()
        return []


def shards_in(store: Path) -> list[Path]:
    return [path for path in store.glob("[0-9a-f][0-9a-f]/*") if path.is_file()]


def command(server: Shardgate, *arguments: str) -> str:
    """Run a command beside the server; return what it printed, "" if it failed, as it may while all that goes on."""
    call = [sys.executable, "-m", "proxy.cli.main", *arguments, "--config", str(server.config)]
    environ = {**os.environ, "SHARDGATE_DATA": str(server.data)}
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(call, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
        return done.stdout if done.returncode == 0 else ""
    return ""


def soak(server: Shardgate, seconds: float) -> tuple[list[Client], Trouble]:
    """Run the clients amid trouble, then check all they wrote."""
    server.client().create_bucket(Bucket="bucket")
    until = time.monotonic() + seconds
    clients = [Client(server, number, until) for number in range(CLIENTS)]
    trouble = Trouble(server, until)
    with ThreadPoolExecutor(CLIENTS) as threads:
        runs = [threads.submit(client.run) for client in clients]
        trouble.run()
        for run in runs:
            run.result()
    wait_until_it_serves(server)
    for client in clients:
        client.check_all()
    return clients, trouble


def wait_until_it_serves(server: Shardgate) -> None:
    """Wait for the supervisor: it starts a worker that keeps dying again later and later."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            server.client().head_bucket(Bucket="bucket")
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def rest(server: Shardgate) -> None:
    """Let everything that is wrong be found, repaired and collected, while nobody asks for anything."""
    for upload in server.client().list_multipart_uploads(Bucket="bucket").get("Uploads", []):
        server.client().abort_multipart_upload(Bucket="bucket", Key=upload["Key"], UploadId=upload["UploadId"])
    command(server, "scrub", "--now", "--deep")
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline and any(count_left(server.data / "manifest.sqlite").values()):
        time.sleep(2)
    if left := {what: count for what, count in count_left(server.data / "manifest.sqlite").items() if count}:
        print(f"not done after {REST_SECONDS:.0f} s of rest: {left}")


def count_left(manifest: Path) -> dict[str, int]:
    """Count what is to be done soon. What a store that was away has not deleted, or been given, is on record and comes later."""
    soon_ms = int((time.time() + SOON_SECONDS) * 1000)
    with closing(sqlite3.connect(f"file:{manifest}?mode=ro", uri=True)) as connection:
        return {
            "repair": connection.execute("SELECT count(*) FROM repair WHERE due < ?", (soon_ms,)).fetchone()[0],
            "garbage": connection.execute("SELECT count(*) FROM garbage WHERE due < ?", (soon_ms,)).fetchone()[0],
        }


def count_at_the_stores(data: Path) -> Audit:
    """Compare the directories with the manifest, of servers that have ended."""
    stores = data / "stores"
    held = {store.name: {str(path.relative_to(store)) for path in shards_in(store)} for store in stores.iterdir()}
    return audit(data / "manifest.sqlite", held)


def write_config(folder: Path) -> Path:
    config = folder / "soak.toml"
    config.write_text((ROOT / "config/bench.toml").read_text() + LIMITS)
    return config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    seconds = parser.parse_args().minutes * 60
    with tempfile.TemporaryDirectory(prefix="shardgate-soak-") as name:
        folder = Path(name)
        with shardgate(folder / "data", config=write_config(folder), workers=2) as server:
            clients, trouble = soak(server, seconds)
            rest(server)
            stop(server.process)
            books = count_at_the_stores(server.data)
    return report(clients, trouble, books)


def report(clients: list[Client], trouble: Trouble, books: Audit) -> int:
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    lost = [line for client in clients for line in client.lost]
    stale = [line for client in clients for line in client.stale]
    print(f"operations: {outcomes.total()}, of which {outcomes['ok']} went well; others: {dict(outcomes - Counter(ok=outcomes['ok']))}")
    print(f"faults: {trouble.counts.total()}: {dict(trouble.counts)}; kills: {trouble.counts['kill']}")
    print(f"bytes written: {sum(client.sent_bytes for client in clients):,}")
    print(f"lost = {len(lost)}, stale = {len(stale)}, orphans = {len(books.orphans)}, missing = {len(books.missing)}")
    for line in (*lost, *stale, *sorted(books.orphans), *sorted(books.missing), *books.miscounted):
        print(" ", line)
    return 1 if lost or stale or books.orphans or books.missing or books.miscounted else 0


if __name__ == "__main__":
    sys.exit(main())
