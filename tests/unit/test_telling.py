"""Events are told at least once, and a target that is down holds up nobody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.engine.outgoing.telling import AT_ONCE, UNDER_WAY, Teller
from proxy.errors import TargetFailed
from proxy.manifest.events import Cause, Event
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite import open_sqlite
from proxy.targets.log_file import LogFile

NOW = 1_750_000_000_000
DAY = 24 * 3600


class Ear:
    """A target that hears, or is deaf."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf
        self.heard: list[dict[str, object]] = []
        self.ids: list[str] = []
        self.asked = 0

    async def tell(self, message: bytes, *, message_id: str) -> None:
        self.asked += 1
        if self.deaf:
            raise TargetFailed("the line is dead")
        self.heard.append(json.loads(message))
        self.ids.append(message_id)

    async def close(self) -> None: ...


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def manifest(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Manifest]:
    async with open_sqlite(tmp_path / "m.sqlite", clock) as opened:
        yield opened


def teller(manifest: Manifest, clock: ManualClock, **targets: Ear | LogFile) -> Teller:
    return Teller(manifest, clock, targets, region="us-east-1", keep_seconds=7 * DAY)


async def queue(manifest: Manifest, *keys: str, targets: tuple[str, ...] = ("ear",), at_ms: int = NOW) -> None:
    for key in keys:
        cause = Cause(name="ObjectCreated:Put", owner="o")
        await manifest.add_event(Event(bucket="b", key=key, at_ms=at_ms, cause=cause), [(target, "rule") for target in targets])


def keys(ear: Ear) -> list[str]:
    return sorted(message["Records"][0]["s3"]["object"]["key"] for message in ear.heard)  # type: ignore[index]


async def test_each_event_is_told_and_then_forgotten(manifest: Manifest, clock: ManualClock) -> None:
    ear = Ear()
    worker = teller(manifest, clock, ear=ear)
    await queue(manifest, "a", "b", "c")
    progress = await worker.step()
    assert (keys(ear), progress.done, progress.remaining) == (["a", "b", "c"], 3, 0)
    assert (await worker.step()).idle
    assert len(ear.heard) == 3


async def test_a_target_that_is_down_holds_up_no_other_and_hears_later(manifest: Manifest, clock: ManualClock) -> None:
    ear, deaf = Ear(), Ear(deaf=True)
    worker = teller(manifest, clock, ear=ear, deaf=deaf)
    await queue(manifest, "a", "b", targets=("ear", "deaf"))
    progress = await worker.step()
    assert keys(ear) == ["a", "b"]
    assert (progress.remaining, progress.trouble) == (2, "deaf: the line is dead")
    asked = deaf.asked
    await worker.step()
    assert deaf.asked == asked, "it is left alone for a while"
    deaf.deaf = False
    clock.advance(2)
    await worker.step()
    assert (keys(deaf), keys(ear)) == (["a", "b"], ["a", "b"])


async def test_a_target_that_is_deaf_by_turns_is_logged_once_a_minute(
    manifest: Manifest, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "proxy.engine.outgoing.telling")
    ear = Ear()
    telling = teller(manifest, clock, ear=ear)
    for number in range(20):
        await queue(manifest, f"k{number}")
        for ear.deaf in (True, False):
            await telling.step()
            clock.advance(2)
    assert len(ear.heard) == 20
    deaf = "target ear does not take events; they are kept, and told later: the line is dead"
    again = "target ear takes events again"
    assert [one.getMessage() for one in caplog.records] == [
        deaf, again, f"{deaf}; it came and went 14 times more since this was last said", again,
    ]  # fmt: skip


async def test_a_target_that_fails_for_all_is_asked_no_more_than_once_for_each_that_is_under_way(
    manifest: Manifest, clock: ManualClock
) -> None:
    """If it hangs, a step takes one timeout, and not one for each sixteen events."""
    deaf = Ear(deaf=True)
    worker = teller(manifest, clock, deaf=deaf)
    await queue(manifest, *(f"k{n}" for n in range(AT_ONCE)), targets=("deaf",))
    await worker.step()
    assert deaf.asked == UNDER_WAY
    assert len(await manifest.due_events("deaf", limit=AT_ONCE)) == AT_ONCE


async def test_an_event_that_is_told_again_has_the_same_id_also_after_a_restart(
    manifest: Manifest, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = Ear()

    async def dies(_: Sequence[int]) -> None: ...

    await queue(manifest, "a")
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "finish_events", dies)
        await teller(manifest, clock, ear=ear).step()
    await manifest.move_epoch(now_ms=NOW)
    await teller(manifest, clock, ear=ear).step()
    assert len(ear.ids) == 2
    assert ear.ids[0] == ear.ids[1]


async def test_a_later_event_of_a_key_has_a_higher_sequencer(manifest: Manifest, clock: ManualClock) -> None:
    first, second = Ear(), Ear()
    await queue(manifest, "a")
    (delivery,) = await manifest.due_events("ear", limit=1)
    await teller(manifest, clock, ear=first).step()
    await manifest.add_event(delivery.event, [("ear", "rule")])
    await teller(manifest, clock, ear=second).step()
    assert second.ids[0] > first.ids[0], "another event of the same key has a higher sequencer"
    assert first.ids[0] == first.heard[0]["Records"][0]["s3"]["object"]["sequencer"]  # type: ignore[index]


async def test_a_target_that_left_the_configuration_is_named(manifest: Manifest, clock: ManualClock) -> None:
    await queue(manifest, "a", targets=("gone",))
    progress = await teller(manifest, clock, ear=Ear()).step()
    assert (progress.idle, progress.trouble) == (True, "gone: it is not configured any more")


async def test_what_waits_too_long_is_forgotten(manifest: Manifest, clock: ManualClock) -> None:
    deaf = Ear(deaf=True)
    worker = teller(manifest, clock, deaf=deaf)
    await queue(manifest, "old", targets=("deaf",))
    clock.advance(7 * DAY + 1)
    await queue(manifest, "new", targets=("deaf",), at_ms=clock.now_ms())
    await worker.step()
    assert [delivery.event.key for delivery in await manifest.due_events("deaf", limit=10)] == ["new"]


async def test_a_file_has_a_line_for_each_event(manifest: Manifest, clock: ManualClock, tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    target = LogFile(path)
    await queue(manifest, *(f"k{n}" for n in range(40)))
    await teller(manifest, clock, ear=target).step()
    await target.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["Records"][0]["s3"]["object"]["key"] for line in lines} == {f"k{n}" for n in range(40)}


async def test_a_file_that_cannot_be_written_keeps_its_events(manifest: Manifest, clock: ManualClock, tmp_path: Path) -> None:
    target = LogFile(tmp_path / "no" / "such" / "folder")
    await queue(manifest, "a")
    progress = await teller(manifest, clock, ear=target).step()
    await target.close()
    assert "No such file" in progress.trouble
    assert len(await manifest.due_events("ear", limit=10)) == 1
