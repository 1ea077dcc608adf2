"""Events: written by the step that makes something happen, or not at all."""

from __future__ import annotations

import json

import pytest

from proxy.errors import PreconditionUnmet
from proxy.manifest.drafts import AttributeChange, Conditions, VersionDraft
from proxy.manifest.events import Backlog, Cause, Event
from proxy.manifest.protocol import Manifest
from tests.contract.conftest import NOW

RULES = {
    "QueueConfigurations": [
        {"Id": "all", "QueueArn": "arn:aws:sqs:::hook", "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]},
        {"Id": "tags", "QueueArn": "arn:aws:sqs:::file", "Events": ["s3:ObjectTagging:*"]},
    ]
}
PUT, REMOVED = Cause(name="ObjectCreated:Put", owner="o"), Cause(name="ObjectRemoved:Delete", owner="o")


@pytest.fixture
async def listened(manifest: Manifest) -> Manifest:
    await manifest.put_bucket_setting(1, "notification", json.dumps(RULES))
    return manifest


def draft(key: str = "k", cause: Cause | None = PUT) -> VersionDraft:
    return VersionDraft(bucket_id=1, key=key, id="v", modified_ms=NOW, etag="e", cause=cause)


async def names(manifest: Manifest, target: str = "hook") -> list[str]:
    return [delivery.event.cause.name for delivery in await manifest.due_events(target, limit=10)]


async def test_a_commit_writes_its_event(listened: Manifest) -> None:
    await listened.commit_version(draft())
    (delivery,) = await listened.due_events("hook", limit=10)
    assert (delivery.configuration, delivery.event) == ("all", Event(bucket="b", key="k", etag="e", at_ms=NOW, cause=PUT))
    assert await listened.event_backlogs() == (Backlog(target="hook", count=1, oldest_ms=NOW),)


async def test_a_commit_that_is_refused_writes_none(listened: Manifest) -> None:
    with pytest.raises(PreconditionUnmet):
        await listened.commit_version(draft(), conditions=Conditions(if_match="other"))
    assert await listened.event_backlogs() == ()


async def test_nobody_hears_of_a_bucket_that_tells_nothing(manifest: Manifest) -> None:
    await manifest.commit_version(draft())
    await manifest.delete_latest(1, "k", marker_id="m", now_ms=NOW, cause=REMOVED)
    assert await manifest.event_backlogs() == ()


async def test_a_step_without_a_cause_tells_nothing(listened: Manifest) -> None:
    await listened.commit_version(draft(cause=None))
    assert await listened.event_backlogs() == ()


async def test_a_deletion_tells_whether_it_made_a_marker(listened: Manifest) -> None:
    await listened.commit_version(draft(cause=None))
    await listened.delete_latest(1, "k", marker_id="m", now_ms=NOW, cause=REMOVED)
    await listened.delete_latest(1, "k", marker_id="m", now_ms=NOW, cause=REMOVED)  # nothing was there any more
    await listened.set_versioning(1, "Enabled")
    await listened.delete_latest(1, "k", marker_id="m", now_ms=NOW, cause=REMOVED)
    await listened.delete_version(1, "k", "m", now_ms=NOW, cause=REMOVED)
    await listened.delete_version(1, "k", "m", now_ms=NOW, cause=REMOVED)
    assert await names(listened) == ["ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:Delete"]


async def test_each_target_has_a_queue_of_its_own(listened: Manifest) -> None:
    await listened.commit_version(draft())
    tagging = Cause(name="ObjectTagging:Put", owner="o")
    await listened.change_attributes(1, "k", None, AttributeChange(tags={"a": "b"}), now_ms=NOW, cause=tagging)
    assert (await names(listened), await names(listened, "file")) == (["ObjectCreated:Put"], ["ObjectTagging:Put"])


async def test_what_was_told_is_gone_and_no_number_comes_again(listened: Manifest) -> None:
    await listened.commit_version(draft())
    (first,) = await listened.due_events("hook", limit=10)
    await listened.finish_events([first.sequence])
    assert await listened.due_events("hook", limit=10) == ()
    await listened.commit_version(draft())
    (second,) = await listened.due_events("hook", limit=10)
    assert second.sequence > first.sequence


async def test_old_events_are_dropped_oldest_first(listened: Manifest) -> None:
    for at in range(3):
        await listened.add_event(Event(bucket="b", key=str(at), at_ms=NOW + at, cause=PUT), [("hook", "all"), ("file", "all")])
    assert await listened.drop_events(before_ms=NOW + 2, limit=100) == 4
    assert [delivery.event.key for delivery in await listened.due_events("hook", limit=10)] == ["2"]
