"""The verdict as a table: facts in, problems out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.manifest.records import Job
from proxy.manifest.recovery import RECOVERING
from proxy.status.facts import (
    CampaignFacts,
    DamageFacts,
    Facts,
    JournalFacts,
    LossFacts,
    ManifestFacts,
    PackFacts,
    PlacementFacts,
    PolicyFacts,
    ScrubFacts,
    ServerFacts,
    StoreFacts,
    TallyFacts,
)
from proxy.status.verdict import DAY_MS, HOUR_MS, MINUTE_MS, judge
from proxy.stores.observe import Condition
from tests.unit.test_docs import COMMANDS, options, page

NOW = 1_750_000_000_000
MANIFEST = ManifestFacts(path="/m", epoch=3, size_bytes=10, free_bytes=2**40)
SERVER = ServerFacts(endpoint="http://127.0.0.1:9000", answers=True)
CLOSED = {"put": "closed", "get": "closed", "list": "closed", "delete": "closed"}
STORE = StoreFacts(name="alder", latency_ms=1.0, condition=Condition(breakers=CLOSED, p95_ms={}))
POLICY = PolicyFacts(name="standard", down=(), writes=True, spare=2)
DOWN = replace(POLICY, down=("alder", "birch"))
JOB = Job(name="collect", last_run_ms=NOW - MINUTE_MS, due_ms=NOW + MINUTE_MS)
TALLY = TallyFacts(ended_ms=NOW - HOUR_MS, segments=100, plaintext_bytes=10**9, redundancy={2: 100})
JOURNAL = JournalFacts(waiting=0, lag_ms=0, checkpoint_ms=NOW - HOUR_MS)
LIGHT = ScrubFacts(kind="light", days=1, ended_ms=NOW - HOUR_MS)
CAMPAIGN = CampaignFacts(id="d-1", what="drain of alder", state="running", done=1, planned=10)
WELL = Facts(
    now_ms=NOW,
    manifest=MANIFEST,
    server=SERVER,
    stores=(STORE,),
    policies=(POLICY,),
    tally=TALLY,
    scrubs=(LIGHT,),
    journal=JOURNAL,
    campaigns=(CAMPAIGN,),
    jobs=(JOB,),
)


def test_where_all_is_well_there_is_nothing_to_do() -> None:
    verdict = judge(WELL)
    assert (verdict.severity, verdict.headline, verdict.problems) == ("fine", "FINE: all is well", ())


@pytest.mark.parametrize(("days", "told"), [(6.9, False), (7.1, True)])
def test_what_stays_in_packs_beyond_its_time_is_told(days: float, told: bool) -> None:
    packs = PackFacts(dead_since_ms=NOW - int(days * DAY_MS), within_days=7)
    verdict = judge(replace(WELL, packs=packs))
    assert [problem.what for problem in verdict.problems] == told * [
        "objects deleted 7 days ago are still in their packs: they should be gone within 7 days"
    ]


def test_a_store_that_has_lost_little_is_no_problem() -> None:
    assert judge(replace(WELL, losses=(LossFacts(store="elm", found=3, shards=0, paused=False),))).problems == ()


def test_an_installation_that_has_only_begun_is_well_too() -> None:
    assert judge(Facts(now_ms=NOW, manifest=MANIFEST, server=SERVER, stores=(STORE,), policies=(POLICY,))).problems == ()


# (what is otherwise than well, how bad that is, words of the one problem)
PROBLEMS = [
    ({"manifest": replace(MANIFEST, trouble="its disk may hang")}, "broken", "the manifest cannot be read: its disk may hang"),
    ({"manifest": replace(MANIFEST, epoch=0)}, "attention", "no server has used this manifest yet"),
    ({"manifest": replace(MANIFEST, fence="an older copy")}, "broken", "nothing may be written: an older copy"),
    ({"manifest": replace(MANIFEST, root_key_trouble="gone")}, "broken", "the root key cannot be used"),
    ({"manifest": replace(MANIFEST, free_bytes=2**29)}, "urgent", "512 MiB free"),
    (
        {"server": replace(SERVER, answers=False, trouble="refused")},
        "broken",
        "no server of this manifest answers at http://127.0.0.1:9000: refused",
    ),
    ({"server": replace(SERVER, trouble="disk full")}, "broken", "cannot serve: disk full"),
    ({"policies": (replace(DOWN, spare=-1, writes=False),)}, "broken", "policy standard cannot be read: alder, birch do not answer"),
    ({"policies": (replace(DOWN, spare=0, writes=False),)}, "broken", "nothing can be written under policy standard"),
    ({"policies": (replace(DOWN, spare=0),)}, "urgent", "bear no further loss while alder, birch do not answer"),
    ({"stores": (replace(STORE, error="refused"),)}, "attention", "store alder does not answer: refused"),
    (
        {"stores": (replace(STORE, condition=Condition(breakers={**CLOSED, "put": "open"}, p95_ms={}, last_error="full")),)},
        "attention",
        "the server does not use store alder to put: full",
    ),
    (
        {"stores": (replace(STORE, condition=Condition(breakers={**CLOSED, "get": "late"}, p95_ms={})),)},
        "attention",
        "the server does not use store alder to get: it answers late",
    ),
    ({"stores": (replace(STORE, garbage=100_000),)}, "attention", "100,000 deleted shards are still in store alder"),
    ({"stores": (replace(STORE, configured=False, garbage=5),)}, "attention", "5 deleted shards may still be in store alder, which is not"),
    (
        {"stores": (replace(STORE, configured=False, stored_bytes=2048),)},
        "attention",
        "2.0 KiB of shards in use were counted in store",
    ),
    ({"stores": (replace(STORE, configured=False, damaged={"unreachable": 7}),)}, "attention", "7 shards are on record in store alder"),
    ({"damage": DamageFacts(waiting={-1: 3, 1: 0})}, "broken", "3 segments cannot be read"),
    ({"damage": DamageFacts(waiting={1: 1})}, "attention", "1 segment waits for repair"),
    ({"damage": DamageFacts(waiting={0: 4})}, "urgent", "4 segments can lose no more shard"),
    ({"damage": DamageFacts(waiting={1: 5, 2: 6})}, "attention", "11 segments wait for repair"),
    ({"damage": DamageFacts(oldest_ms=NOW - 2 * DAY_MS)}, "attention", "the oldest damage was found 2 days ago"),
    ({"losses": (LossFacts(store="elm", found=1200, shards=3400, paused=True),)}, "urgent", "elm says that it has lost 1,200 of its 3,400"),
    (
        {"tally": replace(TALLY, redundancy={-1: 1, 2: 99})},
        "urgent",
        "1 segment could not be read when last counted, 1 h",
    ),
    ({"tally": replace(TALLY, redundancy={0: 8})}, "attention", "8 segments could lose no more shard when last counted"),
    ({"tally": replace(TALLY, redundancy={0: 3}), "damage": DamageFacts(waiting={0: 3})}, "urgent", "3 segments can lose no more shard"),
    (
        {"placement": PlacementFacts(outdated={"standard": 7})},
        "attention",
        "policy standard does not have the scheme of 7 segments under it any more",
    ),
    ({"placement": PlacementFacts(orphaned={"old": 3})}, "attention", "3 segments are kept under policy old, which is not configured"),
    ({"jobs": (replace(JOB, paused=True),)}, "attention", "job collect is paused"),
    ({"jobs": (replace(JOB, failures=3, last_error="locked"),)}, "attention", "job collect failed 3 times in a row: locked"),
    ({"jobs": (replace(JOB, due_ms=NOW - HOUR_MS),)}, "attention", "job collect has been due for 1 hour"),
    (
        {"journal": replace(JOURNAL, waiting=9, lag_ms=61_000)},
        "urgent",
        "9 changes are not in the stores, which have taken none for 1 m",
    ),
    (
        {"journal": replace(JOURNAL, damaged={"missing": 12}, spare=1)},
        "attention",
        "the manifest's copy in the stores is damaged (12 missing)",
    ),
    (
        {"journal": replace(JOURNAL, damaged={"missing": 2}, urgent=1, spare=0)},
        "urgent",
        "it does not survive what its policy promises; a checkpoint is asked for",
    ),
    ({"journal": replace(JOURNAL, damaged={"forged": 5}, urgent=1, spare=-1)}, "urgent", "a recovery would not be complete"),
    (
        {"scrubs": (replace(LIGHT, ended_ms=NOW - 2 * DAY_MS),)},
        "attention",
        "the last light scrub ended 2 days ago; one is due every 1 d",
    ),
    ({"campaigns": (replace(CAMPAIGN, trouble="no room"),)}, "attention", "drain of alder (d-1): no room"),
    ({"campaigns": (replace(CAMPAIGN, state="paused"),)}, "attention", "drain of alder (d-1) is paused"),
]


@pytest.mark.parametrize(("changes", "severity", "words"), PROBLEMS, ids=[words for _, _, words in PROBLEMS])
def test_each_problem_is_named_with_how_bad_it_is(changes: dict, severity: str, words: str) -> None:
    verdict = judge(replace(WELL, **changes))
    (problem,) = verdict.problems
    assert (problem.severity, words in problem.what) == (severity, True), problem
    assert verdict.headline.startswith(severity.upper() + ": ")
    assert problem.command


# What is like a problem, and is none.
NO_PROBLEMS = [
    {"jobs": (replace(JOB, last_error="one store does not delete"),)},
    {"jobs": (replace(JOB, failures=2, last_error="locked"),)},
    {"damage": DamageFacts(waiting={1: 0}, oldest_ms=NOW - HOUR_MS)},
    {"journal": replace(JOURNAL, waiting=9, lag_ms=30_000)},
    {"jobs": (replace(JOB, due_ms=NOW - MINUTE_MS),)},
    {"jobs": (replace(JOB, due_ms=NOW - HOUR_MS, holder="x", expires_ms=NOW + MINUTE_MS),)},
    {"scrubs": (replace(LIGHT, ended_ms=NOW - DAY_MS),)},
    {"scrubs": (replace(LIGHT, ended_ms=None),)},
    {"stores": (replace(STORE, configured=False),)},
    {"stores": (replace(STORE, configured=False, left=True, garbage=5, stored_bytes=2048),)},
    {"manifest": replace(MANIFEST, free_bytes=None)},
    {"campaigns": (replace(CAMPAIGN, state="done"),)},
]


@pytest.mark.parametrize("changes", NO_PROBLEMS, ids=str)
def test_what_is_usual_is_no_problem(changes: dict) -> None:
    assert judge(replace(WELL, **changes)).problems == ()


@pytest.mark.parametrize(("fence", "command"), [("an older copy", "shardgate recover --resume"), (RECOVERING, "shardgate recover")])
def test_a_fence_comes_with_the_command_that_lifts_it(fence: str, command: str) -> None:
    assert [problem.command for problem in judge(replace(WELL, manifest=replace(MANIFEST, fence=fence))).problems] == [command]


def test_the_worst_comes_first_and_gives_the_headline() -> None:
    facts = replace(WELL, jobs=(replace(JOB, paused=True),), stores=(replace(STORE, error="x"),), damage=DamageFacts(waiting={-1: 1, 0: 1}))
    assert [problem.severity for problem in judge(facts).problems] == ["broken", "urgent", "attention", "attention"]
    assert judge(facts).severity == "broken"


def test_a_job_that_nobody_runs_is_told_only_where_a_server_answers() -> None:
    silent = replace(WELL, server=replace(SERVER, answers=False), jobs=(replace(JOB, due_ms=NOW - HOUR_MS),))
    assert ["no server of this manifest answers" in problem.what for problem in judge(silent).problems] == [True]


def test_commands_that_are_advised_exist() -> None:
    advised = {problem.command for changes, _, _ in PROBLEMS for problem in judge(replace(WELL, **changes)).problems}
    commands = [command.split() for command in advised if command.startswith("shardgate ")]
    assert len(commands) > 4
    for words in commands:
        named = next((" ".join(words[:count]) for count in (3, 2) if " ".join(words[:count]) in COMMANDS), None)
        assert named, words
        assert {word for word in words if word.startswith("--")} <= options(COMMANDS[named]), words
    (heading,) = [command.partition("RUNBOOK.md: ")[2] for command in advised if "RUNBOOK" in command]
    assert f"\n## {heading}\n" in page("RUNBOOK.md")
