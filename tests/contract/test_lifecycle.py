"""What every manifest promises to those who carry out lifecycle rules: what is due is found by index, and decided anew as it is done."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.errors import BucketMissing
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.lifecycle import DueVersion, Place, UploadPlace
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketId, ObjectAttributes, Part, Retention
from proxy.manifest.sqlite import open_sqlite
from proxy.s3.lifecycle.deciding import Facts, decide
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import DAY_MS, SETTING, Configuration, encode_configuration
from tests.contract.conftest import NOW, tenant
from tests.contract.test_manifest import draft, garbage, history, layout, segment_id, upload

BUCKET = BucketId(1)
LATER = NOW + 10 * DAY_MS


def rule(**parts: Any) -> dict[str, Any]:
    return {"ID": "r", "Status": "Enabled", "Filter": {}, **parts}


def configuration(*rules: dict[str, Any]) -> Configuration:
    named = [{**one, "ID": str(number)} for number, one in enumerate(rules)]
    return read_configuration({"Rules": named}, minimum_size=None, storage_classes=("COLD", "GLACIER"))


EXPIRE = rule(Expiration={"Days": 1})
NONCURRENT = rule(NoncurrentVersionExpiration={"NoncurrentDays": 1})


async def set_rules(manifest: Manifest, *rules: dict[str, Any]) -> None:
    await manifest.put_bucket_setting(BUCKET, SETTING, encode_configuration(configuration(*rules)))


async def walk(
    manifest: Manifest, *, now_ms: int = LATER, moves: bool = False, max_rows: int = 100, max_due: int = 100
) -> list[DueVersion]:
    """Walk a whole bucket, page by page."""
    found: list[DueVersion] = []
    place = Place()
    while True:
        page = await manifest.walk_due(BUCKET, after=place, now_ms=now_ms, moves=moves, max_rows=max_rows, max_due=max_due)
        assert page.rows <= max_rows
        assert len(page.due) <= max_due
        found += page.due
        if page.ended:
            return found
        assert page.place != place
        place = page.place


async def carry_out(manifest: Manifest, due: list[DueVersion], *, now_ms: int = LATER) -> list[str]:
    marker_ids = [f"marker{number}" for number in range(len(due))]
    return list(await manifest.carry_out(BUCKET, due, marker_ids=marker_ids, now_ms=now_ms))  # type: ignore[arg-type]


async def put(manifest: Manifest, key: str, version_id: str = "v", *, number: int = 0, at_ms: int = NOW, **fields: object) -> None:
    layouts = (layout(number),) if number else ()
    await manifest.commit_version(draft(key, version_id, modified_ms=at_ms, new_layouts=layouts, **fields))


async def test_what_is_due_is_found_and_nothing_is_before_its_time(manifest: Manifest) -> None:
    await set_rules(manifest, rule(Filter={"Prefix": "logs/"}, Expiration={"Days": 1}))
    for key in ("a", "logs/1", "logs/2", "z"):
        await put(manifest, key)
    await put(manifest, "logs/young", at_ms=LATER - DAY_MS)
    assert await walk(manifest, now_ms=NOW + DAY_MS // 2) == []
    assert [due.key for due in await walk(manifest)] == ["logs/1", "logs/2"]


async def test_only_rows_under_the_rules_prefixes_are_looked_at(manifest: Manifest) -> None:
    await set_rules(manifest, rule(Filter={"Prefix": "b"}, Expiration={"Days": 1}), rule(Filter={"Prefix": "d/"}, Expiration={"Days": 1}))
    for key in ("a", "a/b", "b", "b/x", "bb", "c", "d", "d/", "d/x", "d0", "e"):
        await put(manifest, key)
    page = await manifest.walk_due(BUCKET, after=Place(), now_ms=LATER, moves=False, max_rows=100, max_due=100)
    assert ([due.key for due in page.due], page.rows, page.ended) == (["b", "b/x", "bb", "d/", "d/x"], 5, True)


async def test_without_rules_or_a_bucket_there_is_nothing_to_walk(manifest: Manifest) -> None:
    await put(manifest, "k")
    assert await walk(manifest) == []
    page = await manifest.walk_due(BucketId(77), after=Place(), now_ms=LATER, moves=False, max_rows=9, max_due=9)
    assert (page.due, page.ended) == ((), True)
    with pytest.raises(BucketMissing):
        await manifest.carry_out(BucketId(77), [], marker_ids=[], now_ms=LATER)


async def test_without_versioning_an_expired_object_is_gone_and_its_shards_are_garbage(manifest: Manifest) -> None:
    await set_rules(manifest, EXPIRE)
    await put(manifest, "k", number=1)
    assert await carry_out(manifest, await walk(manifest)) == ["expired"]
    assert await manifest.find_version(BUCKET, "k") is None
    assert await garbage(manifest) == {segment_id(1)}


@pytest.mark.parametrize(("versioning", "left"), [("Enabled", ["marker0", "v"]), ("Suspended", ["null"])])
async def test_with_versioning_it_is_hidden_as_by_a_delete(manifest: Manifest, versioning: Any, left: list[str]) -> None:
    await manifest.set_versioning(BUCKET, versioning)
    await set_rules(manifest, EXPIRE)
    await put(manifest, "k", "v", versioning=versioning)
    assert await carry_out(manifest, await walk(manifest)) == ["marked"]
    assert await history(manifest, "k") == left
    newest = await manifest.find_version(BUCKET, "k")
    assert newest is not None
    assert newest.is_delete_marker


async def test_noncurrent_versions_go_and_those_that_are_to_be_kept_stay(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    await set_rules(manifest, rule(NoncurrentVersionExpiration={"NoncurrentDays": 1, "NewerNoncurrentVersions": 2}))
    for number in range(6):
        await put(manifest, "k", f"v{number}", number=number + 1, at_ms=NOW + number)
    due = await walk(manifest, max_rows=2)
    assert [one.version_id for one in due] == ["v2", "v1", "v0"]
    assert await carry_out(manifest, due) == ["removed"] * 3
    assert await history(manifest, "k") == ["v5", "v4", "v3"]
    assert await garbage(manifest) == {segment_id(number) for number in (1, 2, 3)}


async def test_a_marker_between_versions_is_not_counted_as_one_that_is_kept(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    await set_rules(manifest, rule(NoncurrentVersionExpiration={"NoncurrentDays": 1, "NewerNoncurrentVersions": 1}))
    await put(manifest, "k", "v0")
    await manifest.delete_latest(BUCKET, "k", marker_id="m", now_ms=NOW)  # type: ignore[arg-type]
    await put(manifest, "k", "v1")
    assert await walk(manifest) == []
    await put(manifest, "k", "v2")
    due = await walk(manifest)
    assert [one.version_id for one in due] == ["m", "v0"]
    assert await carry_out(manifest, due) == ["removed", "removed"]


async def test_a_marker_that_hides_nothing_goes_and_one_that_hides_a_version_stays(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    await set_rules(manifest, rule(Expiration={"ExpiredObjectDeleteMarker": True}))
    await put(manifest, "hidden")
    for key in ("alone", "hidden"):
        await manifest.delete_latest(BUCKET, key, marker_id=f"m-{key}", now_ms=NOW)  # type: ignore[arg-type]
    assert [due.key for due in await walk(manifest, now_ms=NOW)] == ["alone"]
    split = await walk(manifest, now_ms=NOW, max_rows=1)  # at the end of a page it is not known what follows
    assert await carry_out(manifest, split, now_ms=NOW) == ["removed" if due.key == "alone" else "left" for due in split]
    assert await history(manifest, "hidden") == ["m-hidden", "v"]
    assert await history(manifest, "alone") == []


@pytest.mark.parametrize("what", ["overwritten", "deleted", "retagged", "rules", "no rules"])
async def test_what_changed_since_it_was_found_is_left(manifest: Manifest, what: str) -> None:
    await set_rules(manifest, rule(Filter={"Tag": {"Key": "a", "Value": "b"}}, Expiration={"Days": 1}))
    await put(manifest, "k", attributes=ObjectAttributes(tags={"a": "b"}))
    due = await walk(manifest)
    assert len(due) == 1
    if what == "overwritten":
        await put(manifest, "k", at_ms=LATER, attributes=ObjectAttributes(tags={"a": "b"}))
    elif what == "deleted":
        await manifest.delete_version(BUCKET, "k", "null", now_ms=NOW)  # type: ignore[arg-type]
    elif what == "retagged":
        await manifest.change_attributes(BUCKET, "k", None, AttributeChange(tags={"a": "c"}))  # type: ignore[arg-type]
    elif what == "rules":
        await set_rules(manifest, rule(Expiration={"Days": 99}))
    else:
        await manifest.put_bucket_setting(BUCKET, SETTING, None)
    assert await carry_out(manifest, due) == ["left"]
    assert (await manifest.find_version(BUCKET, "k") is None) == (what == "deleted")


async def test_a_version_that_became_the_current_one_again_is_left(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    await set_rules(manifest, NONCURRENT)
    await put(manifest, "k", "v1")
    await put(manifest, "k", "v2")
    due = await walk(manifest)
    await manifest.delete_version(BUCKET, "k", "v2", now_ms=NOW)  # type: ignore[arg-type]
    assert await carry_out(manifest, due) == ["left"]
    assert await history(manifest, "k") == ["v1"]


async def test_a_locked_version_stays_and_the_others_go(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    await manifest.put_bucket_setting(BUCKET, OBJECT_LOCK, "{}")
    await set_rules(manifest, NONCURRENT)
    retained = ObjectAttributes(retention=Retention(mode="GOVERNANCE", until_ms=NOW + 365 * DAY_MS))
    held = ObjectAttributes(legal_hold="ON")
    for version_id, attributes in (("retained", retained), ("held", held), ("free", ObjectAttributes()), ("current", held)):
        await put(manifest, "k", version_id, attributes=attributes)
    assert await carry_out(manifest, await walk(manifest)) == ["removed", "locked", "locked"]
    assert await history(manifest, "k") == ["current", "held", "retained"]


async def test_a_class_is_changed_when_all_the_data_lies_as_the_class_has_it(manifest: Manifest) -> None:
    await set_rules(manifest, rule(Filter={"ObjectSizeGreaterThan": 0}, Transitions=[{"Days": 1, "StorageClass": "COLD"}]))
    await put(manifest, "k", number=1, size=10)
    assert await walk(manifest) == []
    (due,) = await walk(manifest, moves=True)
    assert (due.action, due.storage_class) == ("move", "COLD")
    before = await manifest.find_version(BUCKET, "k")
    assert before is not None
    assert await manifest.change_class(BUCKET, due, policy="p", k=4, m=2, now_ms=LATER) == "left"
    assert await manifest.change_class(BUCKET, due, policy="other", k=2, m=1, now_ms=LATER) == "left"
    assert await manifest.find_version(BUCKET, "k") == before
    assert await manifest.change_class(BUCKET, due, policy="p", k=2, m=1, now_ms=LATER) == "moved"
    after = await manifest.find_version(BUCKET, "k")
    assert after == replace(before, attributes=ObjectAttributes(storage_class="COLD"))
    assert await walk(manifest, moves=True) == []
    assert await manifest.change_class(BUCKET, due, policy="p", k=2, m=1, now_ms=LATER) == "left"


async def test_uploads_are_aborted_at_their_time_with_their_parts(manifest: Manifest) -> None:
    await set_rules(manifest, rule(Filter={"Prefix": "a"}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 3}))
    for upload_id, key, at_ms in (("old", "a", NOW), ("other", "b", NOW), ("young", "a", LATER - DAY_MS), ("old2", "ab", NOW)):
        await manifest.begin_upload(upload(upload_id, key, at_ms))
    await manifest.commit_part("old", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(1)])  # type: ignore[arg-type]
    place, due = UploadPlace(), []
    while True:
        page = await manifest.walk_uploads(BUCKET, after=place, now_ms=LATER, max_rows=2)
        due += page.due
        if page.ended:
            break
        place = page.place
    assert due == ["old", "old2"]
    assert await manifest.abort_due(BUCKET, ["old", "young", "other", "gone"], now_ms=LATER) == 1  # type: ignore[list-item]
    assert await manifest.find_upload(BUCKET, "a", "old") is None  # type: ignore[arg-type]
    assert await garbage(manifest) == {segment_id(1)}
    await manifest.put_bucket_setting(BUCKET, SETTING, None)
    assert await manifest.abort_due(BUCKET, ["old2"], now_ms=LATER) == 0  # type: ignore[list-item]


async def test_buckets_with_rules_are_found_one_after_the_other(manifest: Manifest) -> None:
    for name in ("lifecycle", "c", "d"):
        await manifest.create_bucket(Bucket(name=name, tenant_id="t", policy="p", created_ms=NOW))  # type: ignore[arg-type]
    for bucket_id in (BUCKET, BucketId(3)):
        await manifest.put_bucket_setting(bucket_id, SETTING, "{}")
    found = []
    bucket = await manifest.next_bucket_with(SETTING, after=BucketId(0))
    while bucket is not None:
        found.append(bucket.name)
        bucket = await manifest.next_bucket_with(SETTING, after=bucket.id)
    assert found == ["b", "c"]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[str, str, int]], int, int]:
    """Rules, a history of writes and deletes, and sizes of pages."""
    days = st.integers(1, 4)
    prefixes = st.sampled_from(["", "a", "ab", "b"])
    actions = st.one_of(
        days.map(lambda count: {"Expiration": {"Days": count}}),
        st.just({"Expiration": {"ExpiredObjectDeleteMarker": True}}),
        st.tuples(days, st.integers(1, 3)).map(
            lambda pair: {"NoncurrentVersionExpiration": {"NoncurrentDays": pair[0], "NewerNoncurrentVersions": pair[1]}}
        ),
        days.map(lambda count: {"NoncurrentVersionExpiration": {"NoncurrentDays": count}}),
        days.map(lambda count: {"Transitions": [{"Days": count, "StorageClass": "COLD"}]}),
        days.map(lambda count: {"NoncurrentVersionTransitions": [{"NoncurrentDays": count, "StorageClass": "COLD"}]}),
    )
    rules = draw(st.lists(st.tuples(prefixes, actions), min_size=1, max_size=4))
    steps = st.tuples(st.sampled_from(["put", "put", "delete"]), st.sampled_from(["a", "ab", "abc", "b", "c"]), st.integers(0, 5))
    history_of = draw(st.lists(steps, max_size=25))
    return (
        [rule(Filter={"Prefix": prefix}, **action) for prefix, action in rules],
        history_of,
        draw(st.integers(1, 9)),
        draw(st.integers(1, 4)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_a_walk_in_pages_finds_what_a_simple_model_finds(
    world: tuple[list[dict[str, Any]], list[tuple[str, str, int]], int, int],
) -> None:
    rules, steps, max_rows, max_due = world

    async def check() -> None:
        with TemporaryDirectory() as folder:
            async with open_sqlite(Path(folder) / "m.sqlite", ManualClock(NOW)) as manifest:
                await manifest.add_tenant(tenant("t"))
                await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", versioning="Enabled", created_ms=NOW))  # type: ignore[arg-type]
                await set_rules(manifest, *rules)
                for number, (step, key, day) in enumerate(steps):
                    at_ms = NOW + day * DAY_MS
                    if step == "put":
                        await put(manifest, key, f"v{number}", at_ms=at_ms, versioning="Enabled", size=1 << 20)
                    else:
                        await manifest.delete_latest(BUCKET, key, marker_id=f"v{number}", now_ms=at_ms)  # type: ignore[arg-type]
                now_ms = NOW + 5 * DAY_MS
                expected = await model(manifest, configuration(*rules), now_ms)
                found = [
                    due
                    for moves in (False, True)
                    for due in await walk(manifest, now_ms=now_ms, moves=moves, max_rows=max_rows, max_due=max_due)
                ]
                alone = {key for key in {one.key for one in found} if len(await history(manifest, key)) == 1}
                # At the end of a page a marker may be taken for one that hides nothing: the step that removes it looks again.
                certain = [one for one in found if (one.key, one.version_id) in expected or one.key in alone]
                assert {(one.key, one.version_id): one.action for one in certain} == expected
                outcomes = await manifest.carry_out(
                    BUCKET, [one for one in found if one not in certain], marker_ids=["x"] * (len(found) - len(certain)), now_ms=now_ms
                )  # type: ignore[arg-type]
                assert set(outcomes) <= {"left"}

    asyncio.run(check())


async def model(manifest: Manifest, rules: Configuration, now_ms: int) -> dict[tuple[str, str], str]:
    """Return what is due by (key, version id), by asking the rules of each version on its own."""
    page = await manifest.list_versions(BUCKET, prefix="", delimiter="", after_key="", after_version="", limit=1000)
    due = {}
    keys = [version.key for version in page.versions]
    before_ms, noncurrent = 0, 0
    for place, version in enumerate(page.versions):
        if version.is_latest:
            noncurrent = 0
        facts = Facts(
            key=version.key,
            size=version.size,
            tags={},
            storage_class=version.attributes.storage_class,
            modified_ms=version.modified_ms,
            is_latest=version.is_latest,
            is_marker=version.is_delete_marker,
            is_alone=keys.count(version.key) == 1,
            versioned=True,
            noncurrent_ms=before_ms,
            newer_noncurrent=noncurrent,
        )
        decision = decide(rules, facts, now_ms)
        if decision is not None:
            due[version.key, version.id] = decision.action
        before_ms = page.versions[place].modified_ms
        noncurrent += not version.is_latest and not version.is_delete_marker
    return due  # type: ignore[return-value]
