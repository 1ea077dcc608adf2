"""A minute of trouble: clients write and read while workers are killed and a store goes away and comes back.

`python -m tests.soak` (or `make soak`) exits 1 if an acknowledged write is ever lost, or another body read than the one acknowledged last.
Each client has keys of its own, so what must be there is known: exactly what was acknowledged or, after a request that broke off, one
of two.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers import Shardgate, shardgate

CLIENTS = 12
KEYS = 40  # of each client
SIZES = (10, 5_000, 300_000, 3_000_000)
KILL_SECONDS = 8.0
RECOVERY_SECONDS = 60.0


class Client:
    """One client, and what must be found under each of its keys: digests of bodies, None for no object."""

    def __init__(self, server: Shardgate, number: int, until: float) -> None:
        self._s3 = server.client(connect_timeout=5, read_timeout=30)
        self._random = random.Random(number)
        self._until = until
        self._possible: dict[str, set[str | None]] = {f"client-{number}/{key}": {None} for key in range(KEYS)}
        self.wrong: list[str] = []
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        while time.monotonic() < self._until:
            key = self._random.choice(list(self._possible))
            act = self._random.choices((self._put, self._delete, self.check), (5, 1, 4))[0]
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
            self.wrong.append(f"{key}: {found} instead of {self._possible[key]}")

    def _put(self, key: str) -> None:
        body = self._random.randbytes(self._random.choice(SIZES))
        self._possible[key].add(digest := hashlib.sha256(body).hexdigest())
        self._s3.put_object(Bucket="bucket", Key=key, Body=body)
        self._possible[key] = {digest}

    def _delete(self, key: str) -> None:
        self._possible[key].add(None)
        self._s3.delete_object(Bucket="bucket", Key=key)
        self._possible[key] = {None}

    def _read(self, key: str) -> str | None:
        try:
            return hashlib.sha256(self._s3.get_object(Bucket="bucket", Key=key)["Body"].read()).hexdigest()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return None


def soak(server: Shardgate, seconds: float) -> tuple[list[Client], int]:
    """Run the clients amid trouble, then check all they wrote; return them and how many workers were killed."""
    server.client().create_bucket(Bucket="bucket")
    until = time.monotonic() + seconds
    clients = [Client(server, number, until) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as threads:
        runs = [threads.submit(client.run) for client in clients]
        killed = trouble(server, until)
        for run in runs:
            run.result()
    wait_until_it_serves(server)
    for client in clients:
        client.check_all()
    return clients, killed


def trouble(server: Shardgate, until: float) -> int:
    """Kill a worker every few seconds, and take a store away for the middle third; return how many were killed."""
    store, away = server.data / "stores" / "elm", server.data / "elm-away"
    begun, killed = time.monotonic(), 0
    while time.monotonic() < until - KILL_SECONDS:
        time.sleep(KILL_SECONDS)
        if workers := psutil.Process(server.process.pid).children():
            os.kill(random.choice(workers).pid, signal.SIGKILL)
            killed += 1
        passed = (time.monotonic() - begun) / (until - begun)
        if 1 / 3 < passed < 2 / 3 and not away.exists():
            store.rename(away)
        elif passed >= 2 / 3 and away.exists():
            away.rename(store)
    return killed


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="shardgate-soak-") as folder, shardgate(Path(folder), workers=2) as server:
        clients, killed = soak(server, seconds)
    wrong = [line for client in clients for line in client.wrong]
    outcomes = sum((client.outcomes for client in clients), Counter())
    print(f"{sum(outcomes.values())} requests, {killed} workers killed, outcomes {dict(outcomes)}, {len(wrong)} wrong", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
