"""`shardgate scrub` and `shardgate fsck`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from proxy.cli import scrub
from proxy.cli.context import print_table
from proxy.cli.lost import SHOWN, LostRow, _show
from proxy.codec.format import shard_name
from proxy.config import load_config
from proxy.engine.journal.checkpointing import WANTED
from proxy.engine.scrub import comparison, once
from proxy.engine.scrub.workers import LIGHT, load_report
from proxy.manifest.records import Bucket, BucketName, ObjectAttributes, ObjectKey
from proxy.services import Services, open_services
from tests.laboratory import BytesBody
from tests.unit.test_cli import LOCAL, Run, run  # noqa: F401 - the fixture


@pytest.fixture
def used(run: Run, tmp_path: Path) -> Path:  # noqa: F811
    """Return the data of an installation with two objects."""
    run("init")

    async def serve() -> None:
        async with open_services(load_config(LOCAL, {"SHARDGATE_DATA": str(tmp_path)}), serving=True) as services:
            tenant = (await services.manifest.list_tenants())[0]
            bucket = await services.manifest.create_bucket(
                Bucket(name=BucketName("b"), tenant_id=tenant.id, policy=services.default_policy, created_ms=0)
            )
            for key in ("k", "l"):
                await services.engine.put_object(bucket, tenant, ObjectKey(key), BytesBody(os.urandom(70_000)), ObjectAttributes())

    asyncio.run(serve())
    return tmp_path


def shard_files(data: Path) -> list[Path]:
    return sorted(path for path in (data / "stores").glob("*/??/*") if path.is_file())


def test_a_scrub_without_damage_says_so_and_is_on_record(run: Run, used: Path) -> None:  # noqa: F811
    assert run("scrub", "--json").data[0] == {
        "kind": "light", "last_pass_ended": None, "shards": 0, "damaged": 0, "not_looked_at": []
    }  # fmt: skip
    count = len(shard_files(used))
    for option in ([], ["--deep"]):
        outcome = run("scrub", *option, "--now")
        assert (outcome.code, outcome.err) == (0, "")
        assert f"Shards looked at: {count}. Damaged: 0." in outcome.out
    shown = run("scrub", "--json").data
    assert [(item["kind"], item["shards"], item["damaged"]) for item in shown] == [("light", count, 0), ("deep", count, 0)]
    assert "shardgate jobs" in run("scrub").out


def test_objects_that_cannot_be_read_are_listed_by_name(run: Run, used: Path) -> None:  # noqa: F811
    whole = run("object", "lost")
    assert (whole.code, whole.out.startswith("Every object can be read, as far as is on record.")) == (0, True)
    for shard in shard_files(used):
        shard.unlink()
    assert run("scrub", "--now").code == scrub.DAMAGED
    outcome = run("object", "lost")
    assert (outcome.code, outcome.err) == (3, "")
    assert "2 in all. They can be read again as soon as a store is back that has some of their shards" in outcome.out
    listed = run("object", "lost", "--json")
    assert listed.code == 3
    assert [(item["bucket"], item["key"], item["size"], item["lost"]) for item in listed.data] == [
        ("b", "k", 70_000, 70_000), ("b", "l", 70_000, 70_000)
    ]  # fmt: skip


def test_a_table_in_a_pipe_is_wide_and_plain_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    print_table("Title", ["column", "another"], [["x" * 70, "y" * 70]])
    shown = capsys.readouterr().out
    assert "x" * 70 in shown
    assert "y" * 70 in shown
    assert "\x1b" not in shown


def test_of_very_many_objects_that_cannot_be_read_the_first_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    row = LostRow(bucket="b", key="k", version_id="", upload_id="u", part_number=3, size=2_000_000, lost=1)
    _show([row] * (SHOWN + 5))
    shown = capsys.readouterr().out
    assert "part 3 of upload u" in shown
    assert "2,000,000" in shown
    assert "and 5 more, which --json names\n1,005 in all." in shown


def test_fsck_finds_what_the_copy_of_the_manifest_has_lost_and_asks_for_a_checkpoint(run: Run, used: Path) -> None:  # noqa: F811
    async def asked() -> bool:
        async with open_services(load_config(LOCAL, {"SHARDGATE_DATA": str(used)})) as services:
            await services.journal.flusher.flush()
            return await services.manifest.load_state(WANTED) is not None

    assert asyncio.run(asked()) is False
    whole = run("fsck", "--json")
    assert (whole.code, whole.data["journal"]) == (0, [])
    assert whole.data["journal_shards"] > 0
    for lost in (used / "stores" / "elm").glob("j/*/*"):
        lost.unlink()
    found = run("fsck", "--json")
    assert found.code == 3
    assert {(tuple(row["kinds"].items()), tuple(row["stores"]), row["urgent"]) for row in found.data["journal"]} == {
        ((("missing", 1),), ("elm",), False)
    }
    assert asyncio.run(asked()) is False
    shown = run("fsck", "--apply").out
    assert f"Damaged segments: {len(found.data['journal'])}." in shown
    assert "A checkpoint is asked for" in shown
    assert asyncio.run(asked()) is True


def test_damage_is_named_queued_for_repair_and_told_by_the_exit_code(run: Run, used: Path) -> None:  # noqa: F811
    first, second, *_ = shard_files(used)
    first.unlink()
    light = run("scrub", "--now", "--json")
    assert light.code == 3
    assert (light.data["kind"], light.data["report"]["found"]) == ("light", {"missing": 1})
    (finding,) = light.data["findings"]
    assert (finding["kind"], finding["store"], finding["name"]) == ("missing", first.parts[-3], "/".join(first.parts[-2:]))
    content = bytearray(second.read_bytes())
    content[100] ^= 1
    second.write_bytes(content)
    deep = run("scrub", "--deep", "--now")
    assert deep.code == 3
    assert "Damaged: 2." in deep.out
    assert second.parts[-1] in deep.out
    assert "queued for repair" in deep.out

    async def kinds(services: Services) -> dict[str, int]:
        count = await services.manifest.count_damage()
        return {kind: number for (_, kind), number in count.by_store.items()}

    assert with_services(used, kinds) == {"missing": 1, "forged": 1}


def with_services(data: Path, command):  # type: ignore[no-untyped-def]  # of whatever a test asks
    async def call() -> object:
        async with open_services(load_config(LOCAL, {"SHARDGATE_DATA": str(data)})) as services:
            return await command(services)

    return asyncio.run(call())


def test_a_store_that_is_not_there_is_told_and_is_no_damage(run: Run, used: Path) -> None:  # noqa: F811
    store = shard_files(used)[0].parts[-3]
    (used / "stores" / store).rename(used / "elsewhere")
    outcome = run("scrub", "--now")
    assert outcome.code == 4
    assert f"Not compared, for its listing broke off: {store}" in outcome.out
    assert "Damaged: 0." in outcome.out
    deep = run("scrub", "--deep", "--now")
    assert deep.code == 4
    assert f"Shards of {store} that could not be read" in deep.out
    checked = run("fsck", "--apply")
    assert checked.code == 4
    assert "no orphan may be deleted" in checked.out


def test_deep_without_now_is_refused(run: Run, used: Path) -> None:  # noqa: F811
    assert "add --now" in run("scrub", "--deep").err


def test_fsck_tells_orphans_and_what_is_not_ours_and_changes_nothing(run: Run, used: Path) -> None:  # noqa: F811
    store = used / "stores" / shard_files(used)[0].parts[-3]
    name = shard_name(bytes(16), 2)
    (store / "00").mkdir(exist_ok=True)
    (store / name).write_bytes(b"orphan")
    (store / "notes").mkdir()
    (store / "notes" / "mine").write_bytes(b"x")
    outcome = run("fsck", "--json")
    assert outcome.code == 3
    assert outcome.data["orphans"] == [{"store": store.name, "name": name, "size_bytes": 6}]
    row = next(row for row in outcome.data["stores"] if row["store"] == store.name)
    assert (row["orphans"], row["orphan_bytes"], row["foreign_examples"]) == (1, 6, ["notes/mine"])
    assert (outcome.data["acted"], outcome.data["complete"], outcome.data["found"]) == (None, True, {})
    text = run("fsck").out
    assert name in text
    assert "shardgate fsck --apply" in text
    applied = run("fsck", "--apply")
    assert "Orphans queued for deletion: 0, in quarantine: 1." in applied.out
    assert (store / name).exists()


def test_fsck_on_a_store_and_a_manifest_that_agree_ends_with_0(run: Run, used: Path) -> None:  # noqa: F811
    outcome = run("fsck")
    assert outcome.code == 0
    assert "Missing or damaged: 0. Orphans: 0." in outcome.out


def test_a_fenced_manifest_is_not_scrubbed_nor_applied_but_may_be_looked_at(run: Run, used: Path) -> None:  # noqa: F811
    with_services(used, lambda services: services.manifest.fence("this is an older copy"))
    for command in (["scrub", "--now"], ["scrub", "--deep", "--now"], ["fsck", "--apply"]):
        outcome = run(*command)
        assert (outcome.code, outcome.err) == (1, "shardgate: this is an older copy\n")
    assert "this is an older copy" in run("fsck").out


@pytest.mark.parametrize("command", [["scrub", "--now"], ["fsck", "--apply"]])
def test_ctrl_c_stops_a_pass_and_leaves_nothing_behind(
    run: Run,  # noqa: F811
    used: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison.Comparison, "_compare", interrupted)
    outcome = run(*command)
    assert outcome.code == 130
    assert outcome.out.startswith("stopped")
    assert list(used.glob("*scratch*")) == []
    assert with_services(used, lambda services: load_report(services.manifest, LIGHT)) is None


def test_a_table_shows_only_so_many_findings_and_json_all(run: Run, used: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(scrub, "SHOWN", 1)
    for path in shard_files(used)[:2]:
        path.unlink()
    outcome = run("scrub", "--now")
    assert "the first 1 of 2" in outcome.out
    assert "--json names all of them" in outcome.out
    assert len(run("scrub", "--now", "--json").data["findings"]) == 2


def test_only_so_many_findings_are_kept_to_be_shown(run: Run, used: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(once, "NAMED", 1)
    for path in shard_files(used)[:2]:
        path.unlink()
    outcome = run("scrub", "--now")
    assert "the first 1 of 2" in outcome.out
