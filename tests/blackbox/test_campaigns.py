"""The commands that move data, beside a real server: planned, applied, watched, detached from, cancelled; and every byte stays."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import until
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

POLICIES = """
[packs]
below_kib = 0  # the repacker merges small packs when it likes: segments are counted here

[policies.wide]
scheme = "6+3"
may_fail = { providers = 1 }
"""


class Operator:
    """Runs commands with the server's configuration."""

    def __init__(self, data: Path, config: Path) -> None:
        self.environ = {**os.environ, "SHARDGATE_DATA": str(data), "SHARDGATE_CONFIG": str(config)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "proxy.cli.main", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False)

    def json(self, *arguments: str) -> dict[str, object]:
        outcome = self.run(*arguments, "--json")
        assert outcome.returncode == 0, outcome.stderr
        answer: dict[str, object] = json.loads(outcome.stdout)
        return answer

    def sees_a_server(self) -> bool:
        """Whether a server has left word in the manifest: one looks after some seconds which stores are being left."""
        jobs = self.json("jobs")["jobs"]
        return any(job["name"] == "leaving-stores" and job["last_run"] for job in jobs)  # type: ignore[attr-defined]

    def interrupted(self, *arguments: str) -> tuple[int, str]:
        """Run a command that watches, press Ctrl-C once it shows the last of its arguments; return how it ended, and what it showed."""
        terminal, end = pty.openpty()
        environ = {name: value for name, value in self.environ.items() if not name.startswith("TTY_")}
        environ |= {"COLUMNS": "200", "TERM": "xterm"}  # whatever the tests run in: a dumb terminal is shown nothing that moves
        process = subprocess.Popen(self.command(*arguments), cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=end)
        os.close(end)
        shown = b""
        while arguments[-1].encode() not in shown:
            shown += os.read(terminal, 65536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the other end is closed
            while True:
                shown += os.read(terminal, 65536)
        os.close(terminal)
        return process.wait(PATIENCE_SECONDS), shown.decode()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shardgate, Operator]]:
    data = tmp_path_factory.mktemp("campaigns")
    config = data / "campaigns.toml"
    text, place = (ROOT / "config" / "bench.toml").read_text(), 'jurisdiction = "CH"'
    config.write_text(text.replace(place, f"{place}\nprices = {{ egress_gb = 1000.0, get_per_thousand = 1.0 }}") + POLICIES)
    with shardgate(data, config=config) as running:
        yield running, Operator(data, config)


@pytest.fixture(scope="module")
def objects(installed: tuple[Shardgate, Operator]) -> dict[str, bytes]:
    s3: S3Client = installed[0].client()
    s3.create_bucket(Bucket="moved")
    bodies = {f"k{number}": os.urandom(size) for number, size in enumerate((1, 1000, 70_000, 400_000, 5_000_000))}
    for key, body in bodies.items():
        s3.put_object(Bucket="moved", Key=key, Body=body)
    return bodies


def check(running: Shardgate, objects: dict[str, bytes], etags: dict[str, str]) -> None:
    s3: S3Client = running.client()
    for key, body in objects.items():
        answer = s3.get_object(Bucket="moved", Key=key)
        assert answer["Body"].read() == body
        assert answer["ETag"] == etags[key]


@pytest.fixture
def etags(installed: tuple[Shardgate, Operator], objects: dict[str, bytes]) -> dict[str, str]:
    s3: S3Client = installed[0].client()
    return {key: s3.head_object(Bucket="moved", Key=key)["ETag"] for key in objects}


def test_a_drain_is_planned_with_its_price_watched_detached_from_and_cancelled(
    installed: tuple[Shardgate, Operator], objects: dict[str, bytes], etags: dict[str, str]
) -> None:
    running, operator = installed
    plan = operator.json("stores", "drain", "elm")
    assert (plan["state"], plan["planned"]["segments"], plan["planned"]["copied"]) == ("planned", 5, 5)  # type: ignore[index]
    assert plan["planned_if_dead"]["rebuilt"] == 5  # type: ignore[index]
    (elm,) = [bill for bill in plan["planned"]["stores"] if bill["store"] == "elm"]  # type: ignore[index]
    assert elm["egress_usd"] == pytest.approx(elm["read_bytes"] / 1e6)
    assert elm["requests_usd"] == pytest.approx(0.005)
    assert operator.run("jobs", "pause", "campaigns").returncode == 0  # or it might be done before it is looked at
    until(operator.sees_a_server)
    ended, shown = operator.interrupted("stores", "drain", "elm", "--apply", str(plan["id"]))
    assert ended == 130
    assert "the work goes on in the servers" in shown
    check(running, objects, etags)
    standing = operator.json("stores", "drain", "elm")
    assert (standing["id"], standing["state"]) == (plan["id"], "running")
    assert standing["actual"]["usd"] <= plan["planned"]["usd"] * 1.001  # type: ignore[index]
    assert "takes new shards again" in operator.run("stores", "drain", "elm", "--cancel", str(plan["id"])).stdout
    assert operator.run("jobs", "resume", "campaigns").returncode == 0


def test_a_bucket_is_brought_under_another_policy_and_every_etag_and_byte_stays(
    installed: tuple[Shardgate, Operator], objects: dict[str, bytes], etags: dict[str, str]
) -> None:
    running, operator = installed
    plan = operator.run("policy", "move", "moved", "wide")
    assert "5 segments, 5 segments stored anew" in plan.stdout
    campaign = plan.stdout.split("--apply ")[1].strip()
    outcome = operator.run("policy", "move", "moved", "wide", "--apply", campaign)
    assert outcome.returncode == 0, outcome.stderr
    assert f"{campaign} is done." in outcome.stdout
    check(running, objects, etags)
    shards = json.loads(operator.run("object", "explain", "s3://moved/k4", "--json").stdout)
    assert {row["scheme"] for row in shards} == {"6+3"}


def test_orders_to_the_wrong_plan_are_refused_in_one_line(installed: tuple[Shardgate, Operator], objects: dict[str, bytes]) -> None:
    operator = installed[1]
    plan = str(operator.json("stores", "drain", "fir")["id"])
    for arguments, told in (
        (
            ("stores", "drain", "alder", "--apply", plan),
            f"{plan} is not a plan of this command; make one with: shardgate stores drain alder",
        ),
        (("stores", "drain", "fir", "--pause", plan), "is planned: there is nothing to pause"),
        (("stores", "drain", "fir", "--apply", "drain-fir-0"), "make a plan with: shardgate stores drain fir"),
        (("stores", "drain", "fir", "--apply", plan, "--pause", plan), "give one of them"),
        (("stores", "drain", "nowhere"), 'there is no store "nowhere"'),
        (("stores", "replace", "fir", "gum"), 'there is no other store "gum"'),
        (("policy", "move", "moved", "narrow"), 'there is no policy "narrow"'),
        (("policy", "move", "lost", "wide"), "there is no bucket lost"),
    ):
        outcome = operator.run(*arguments)
        assert outcome.returncode == 1
        assert told in outcome.stderr
        assert len(outcome.stderr.splitlines()) == 1
