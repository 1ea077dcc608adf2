"""`shardgate status`, as it is typed."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from proxy.cli.status import StatusReport, show
from proxy.manifest.records import Job
from proxy.status.facts import (
    CampaignFacts,
    DamageFacts,
    Facts,
    JournalFacts,
    ManifestFacts,
    ScrubFacts,
    ServerFacts,
    StoreFacts,
    TallyFacts,
)
from proxy.status.verdict import judge
from proxy.stores.observe import Condition
from tests.unit.test_cli import Run, run  # noqa: F401 - the fixture

NOW = 1_750_000_000_000
MINUTE = 60_000
FORGED = {"forged": 2}


def page(facts: Facts, capsys: pytest.CaptureFixture[str]) -> str:
    show(StatusReport(verdict=judge(facts), facts=facts))
    return capsys.readouterr().out


def test_the_page_has_everything_an_operator_needs(capsys: pytest.CaptureFixture[str]) -> None:
    condition = Condition(breakers={"put": "open", "get": "closed"}, p95_ms={"get_range": 12.34}, last_error="full")
    facts = Facts(
        now_ms=NOW,
        manifest=ManifestFacts(path="/m.sqlite", epoch=7, size_bytes=5 * 1024**2, log_bytes=1024, free_bytes=50 * 1024**3),
        server=ServerFacts(endpoint="http://127.0.0.1:9000", answers=True, in_flight=3),
        stores=(
            StoreFacts(
                name="alder", latency_ms=1.5, condition=condition, calls=1234, errors=5, stored_bytes=3 * 1024**4, damaged=FORGED, garbage=9
            ),
            StoreFacts(name="birch", error="refused"),
            StoreFacts(name="gone", configured=False),
        ),
        damage=DamageFacts(waiting={-1: 3, 1: 2}, oldest_ms=NOW - 3 * MINUTE),
        tally=TallyFacts(ended_ms=NOW - 60 * MINUTE, segments=1000, plaintext_bytes=1024**3, redundancy={-1: 1, 2: 999}),
        scrubs=(ScrubFacts(kind="deep", days=30, ended_ms=NOW - 60 * MINUTE, shards=5000, damaged=2, remaining=30),),
        journal=JournalFacts(waiting=5, lag_ms=2000, checkpoint_ms=NOW - 10 * MINUTE, since_checkpoint=12),
        campaigns=(CampaignFacts(id="d-1", what="drain of alder", state="running", done=5, planned=20),),
        jobs=(Job(name="collect", last_run_ms=1), Job(name="audit", last_run_ms=1), Job(name="repair", last_error="no room")),
    )  # fmt: skip
    text = page(facts, capsys)
    lines = text.splitlines()
    assert lines[0] == "BROKEN: something cannot be read or written; act now"
    assert lines[1] == "  broken     3 segments cannot be read: too few shards are left"
    assert lines[2] == "             → shardgate object lost"
    for words in (
        "http://127.0.0.1:9000: serves, 3 requests in flight",
        "/m.sqlite: 5.0 MiB, log 1.0 KiB, 50.0 GiB free on its disk, epoch 7",
        "1,000 segments, 1.0 GiB: 1 cannot be read, 999 can lose 2 more (counted 1 hour ago)",
        "5 segments wait (3 cannot be read, 2 can lose 1 more); the oldest damage was found 3 minutes ago",
        "deep: the last pass ended 1 hour ago: 5,000 shards, 2 of them damaged; another goes on, 30 steps to go",
        "5 changes wait, none was stored for 2 seconds; last checkpoint 10 minutes ago, 12 segments behind it",
        "9 deleted shards are still in the stores",
        "repair new (with trouble: see shardgate jobs), 2 waiting",
        "put open",
        "12.3 ms",
        "3.0 TiB",
        "2 forged",
        "DOWN",
        "not configured",
        "5 of 20",
    ):
        assert words in text, words


def test_without_manifest_and_server_it_still_says_what_it_can(run: Run, tmp_path: Path) -> None:  # noqa: F811
    outcome = run("status")
    assert outcome.code == 1
    assert outcome.out.startswith("BROKEN: ")
    assert f"the manifest cannot be read: {tmp_path}/manifest.sqlite does not exist" in outcome.out
    assert "not known, as the manifest cannot be read" in outcome.out
    assert f"manifest     {tmp_path}/manifest.sqlite: cannot be read" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_listens_elsewhere_is_asked_there(run: Run) -> None:  # noqa: F811
    run("init")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        host, port = taken.getsockname()
    assert run("status", "--listen", f"{host}:{port}", "--json").data["facts"]["server"]["endpoint"] == f"http://{host}:{port}"
    assert "is not HOST:PORT" in run("status", "--listen", "nowhere").err


def test_the_facts_come_as_json(run: Run) -> None:  # noqa: F811
    run("init")
    data = run("status", "--json").data
    assert data["verdict"]["severity"] == "broken"  # no server answers
    assert [problem["command"] for problem in data["verdict"]["problems"]] == ["shardgate serve"] * 2  # nor has one ever
    assert [store["name"] for store in data["facts"]["stores"]] == ["alder", "birch", "cedar", "dogwood", "elm", "fir"]
    assert data["facts"]["manifest"]["trouble"] == ""
