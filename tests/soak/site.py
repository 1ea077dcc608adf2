"""The installation that is soaked: its servers, its stores, the manifest, and the commands that are given beside them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import psutil
from botocore.exceptions import BotoCoreError, ClientError

from proxy.manifest.campaigns import Campaign
from proxy.stores.protocol import StoreInfo, StoreName
from tests.fault.machine.audit import Audit, audit
from tests.fault.machine.providers import mend
from tests.faulty_s3 import FaultyS3
from tests.servers import ROOT, start_shardgate, stop

BUCKET = "bucket"
UNRELIABLE, LEFT = "elm", "gum"
RECOVERY_SECONDS = 60.0  # until the supervisor has started what died
COMMAND_SECONDS = 240.0
MOVES_SECONDS = 90.0  # for campaigns, once it is quiet: a segment with strays waits an hour
REST_SECONDS = 300.0  # for repair and collection
QUARANTINE_SECONDS = 10.0  # a little more than `fsck.quarantine_days`
SOON_SECONDS = 60.0
TRIES = 5  # of a recovery, beside a store that fails at random
# Delays are short, so that leases end, and garbage, orphans and old journal segments go, while it goes on.
SETTINGS = """
[limits]
put_timeout_seconds = 8.0
get_timeout_seconds = 8.0
collect_after_seconds = 10.0
collect_interval_seconds = 5.0
intent_seconds = 20.0

[journal]
acknowledge = "all"
checkpoint_min_mib = 1
keep_seconds = 30

[packs]
below_kib = 128
repack_within_days = 0.0003

[fsck]
quarantine_days = 0.0001

[repair]
brake_shards = 1000000 # nobody is there to confirm

[policies.thrifty]
scheme = "3+2"
may_fail = { providers = 1, stores = 1 }
never_together = ["provider", "jurisdiction"]

[stores.gum]
kind = "directory"
path = "${SHARDGATE_DATA:-./data}/stores/gum"
fsync = false
provider = "gum-cloud"
region = "au-east"
jurisdiction = "AU"

[stores.elm]
kind = "s3"
bucket = "elm"
endpoint = "ENDPOINT"
access_key = "key"
secret_key = "secret"
provider = "elm-cloud"
region = "ch-zurich"
jurisdiction = "CH"
"""


class Site:
    """`provider` is the store that misbehaves. `work` counts what each worker has done, over all recoveries."""

    def __init__(self, folder: Path, provider: FaultyS3) -> None:
        self.provider = provider
        self.recoveries_amid_trouble = 0
        self.work: Counter[str] = Counter()
        self.left_to_fsck: dict[tuple[str, str], str] = {}  # orphans that it has found in the end, and how they came to be; "": unknown
        self._held_at_the_loss: dict[str, set[str]] = {}
        self.findings: list[str] = []  # what has gone wrong that never may
        self._data = folder / "data"
        self.server = start_shardgate(self._data, config=_write_config(folder, provider), workers=2)

    @property
    def manifest(self) -> Path:
        return self._data / "manifest.sqlite"

    def workers(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return psutil.Process(self.server.process.pid).children()
        return []

    def command(self, *arguments: str) -> str:
        """Run a command beside the server; return what it printed, "" if it failed, as it may while all that goes on."""
        with suppress(subprocess.TimeoutExpired):
            done = self._run(*arguments)
            return done.stdout if done.returncode == 0 else ""
        return ""

    def lose_the_manifest(self) -> None:
        """Kill everybody at once, delete the manifest, recover it, and go on. What this needs it must get: `findings` say so if not."""
        for worker in [*self.workers(), psutil.Process(self.server.process.pid)]:
            with suppress(psutil.Error):
                worker.kill()
        self.server.process.wait()
        self._held_at_the_loss = self._held()
        self.recover()
        self.recoveries_amid_trouble += 1
        self.start()

    def recover(self) -> None:
        self._count_work()
        for path in self._data.glob("manifest.sqlite*"):
            path.unlink()
        for _ in range(TRIES):
            done = self._run("recover")
            if done.returncode == 0:
                return
        self.findings.append(f"the manifest is not recovered: {done.stderr[-2000:]}")
        raise RuntimeError(self.findings[-1])

    def start(self) -> None:
        self.server = start_shardgate(self._data, config=self.server.config, workers=2, port=self.server.port)
        self.wait_until_it_serves()

    def stop(self) -> None:
        stop(self.server.process)

    def wait_until_it_serves(self) -> None:
        """Wait for the supervisor: it starts a worker that keeps dying again later and later."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                self.server.client().head_bucket(Bucket=BUCKET)
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
            else:
                return

    def rest(self) -> None:
        """Let everything that is wrong be found, repaired, moved and collected, while nobody asks for anything."""
        self.provider.change(mend)
        client = self.server.client()
        for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        _wait(lambda: not self._moving(), MOVES_SECONDS)
        for campaign in self._moving():
            print(f"{campaign.id} goes on: {campaign.trouble or 'it is not done yet'}")
        deadline = time.monotonic() + REST_SECONDS
        for look in (self._scrub, self._put_orphans_into_quarantine, self._delete_orphans):
            look()
            _wait(lambda: not any(self._left().values()), deadline - time.monotonic())
        if left := {what: count for what, count in self._left().items() if count}:
            print(f"not done after {REST_SECONDS:.0f} s of rest: {left}")

    def _scrub(self) -> None:
        self.command("scrub", "--now", "--deep")

    def _put_orphans_into_quarantine(self) -> None:
        """What a recovery could make nothing of, and what came to a store after all searches for it, nobody but fsck can find."""
        done = self._run("fsck", "--apply", "--json")
        try:
            orphans = [(row["store"], row["name"]) for row in json.loads(done.stdout)["orphans"]]
        except json.JSONDecodeError:
            print(f"fsck failed: {done.stderr[-2000:]}")
        else:
            held = self._held()
            self.left_to_fsck = {orphan: self._cause(*orphan, held) for orphan in orphans}

    def _cause(self, store: str, name: str, held: Mapping[str, set[str]]) -> str:
        """Return what made an orphan of a shard without a fault of the servers; "" if nothing is known that did."""
        if name not in held[store]:
            return "deleted while the stores listed: it took longer than garbage lies"
        if name in self._held_at_the_loss.get(store, ()):
            return "there when the manifest was lost"
        if store == UNRELIABLE and name in self.provider.store.deleted:
            return "put after the store had deleted it"
        if store == UNRELIABLE and name in self.provider.store.hidden:
            return "not listed by the store while it was searched for"
        return ""

    def _delete_orphans(self) -> None:
        """A later fsck does, once they have been in quarantine for as long as they must."""
        if self.left_to_fsck:
            time.sleep(QUARANTINE_SECONDS)
            self.command("fsck", "--apply")

    def count_at_the_stores(self) -> Audit:
        """Compare what is stored with the manifest, of servers that have ended."""
        self._count_work()
        return audit(self.manifest, self._held())

    def _held(self) -> dict[str, set[str]]:
        folders = [folder for folder in (self._data / "stores").iterdir() if folder.name != UNRELIABLE]
        held = {folder.name: {str(path.relative_to(folder)) for path in _shards_in(folder)} for folder in folders}
        return {**held, UNRELIABLE: set(self.provider.held.objects)}

    def _moving(self) -> list[Campaign]:
        with closing(sqlite3.connect(f"file:{self.manifest}?mode=ro", uri=True)) as connection:
            campaigns = [msgspec.msgpack.decode(record, type=Campaign) for (record,) in connection.execute("SELECT record FROM campaign")]
        return [campaign for campaign in campaigns if campaign.state == "running"]

    def _left(self) -> dict[str, int]:
        """Count what is to be done soon. What a store that was away has not deleted, or been given, is on record and comes later."""
        soon_ms = int((time.time() + SOON_SECONDS) * 1000)
        with closing(sqlite3.connect(f"file:{self.manifest}?mode=ro", uri=True)) as connection:
            return {
                "repair": connection.execute("SELECT count(*) FROM repair WHERE due < ?", (soon_ms,)).fetchone()[0],
                "garbage": connection.execute("SELECT count(*) FROM garbage WHERE due < ?", (soon_ms,)).fetchone()[0],
            }

    def _count_work(self) -> None:
        with closing(sqlite3.connect(self.manifest)) as connection:
            for (record,) in connection.execute("SELECT record FROM job"):
                job = msgspec.msgpack.decode(record)
                self.work[job["name"]] += job.get("done", 0)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "proxy.cli.main", *arguments, "--config", str(self.server.config)]
        environ = {**os.environ, "SHARDGATE_DATA": str(self._data)}
        return subprocess.run(call, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)


@contextmanager
def soaked(folder: Path) -> Iterator[Site]:
    """An installation with an empty bucket, and a provider that may be told to misbehave."""
    info = StoreInfo(name=StoreName(UNRELIABLE), provider="elm-cloud", region="ch-zurich", jurisdiction="CH")
    with FaultyS3(info).serving() as provider:
        site = Site(folder, provider)
        try:
            site.server.client().create_bucket(Bucket=BUCKET)
            yield site
        finally:
            site.stop()


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not done():
        time.sleep(2)


def planned(told: str) -> str:
    """Return the id of a plan that a command printed as JSON; "" if it did not."""
    return str(json.loads(told)["id"]) if told else ""


def _shards_in(store: Path) -> list[Path]:
    return [path for path in store.glob("[0-9a-f][0-9a-f]/*") if path.is_file()]


def _write_config(folder: Path, provider: FaultyS3) -> Path:
    config = folder / "soak.toml"
    usual = re.sub(rf"\[stores\.{UNRELIABLE}\][^\[]*", "", (ROOT / "config/bench.toml").read_text())
    config.write_text(usual + SETTINGS.replace("ENDPOINT", provider.endpoint))
    return config
