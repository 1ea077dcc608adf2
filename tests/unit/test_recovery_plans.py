"""What becomes of a version or part that labels tell of, beside what the manifest knows: a table, without stores."""

from __future__ import annotations

import pytest
from msgspec.msgpack import encode
from msgspec.structs import replace

from proxy.engine.recover.assembly import assemble
from proxy.engine.recover.placing import find_shards, not_used, place_shards
from proxy.manifest.damage import Draw
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.plans.recovery import belongs, id_of, order_of, plan_found_part, plan_found_version
from proxy.manifest.records import (
    NULL_VERSION,
    Bucket,
    BucketId,
    BucketName,
    Layout,
    ObjectKey,
    Part,
    Segment,
    SegmentId,
    TenantId,
    Upload,
    UploadId,
    Version,
    VersionId,
    Versioning,
)  # fmt: skip
from proxy.manifest.recovery import Finding, FoundPart, FoundVersion, Labelled, Sighting

BUCKET = Bucket(id=BucketId(1), name=BucketName("b"), tenant_id=TenantId("t"), policy="p", created_ms=0)
KEY = ObjectKey("k")


def layout(tenant: str = "t") -> Layout:
    return Layout(size=1, k=1, m=0, tenant_key_id=tenant, wrapped_key=b"", segments=())


def found(written_ms: int, *, versioning: Versioning = "Unversioned", conditional: bool = False, tenant: str = "t") -> FoundVersion:
    draft = VersionDraft(
        bucket_id=BucketId(1),
        key=KEY,
        id=VersionId("drawn"),
        versioning=versioning,
        conditional=conditional,
        written=written_ms << 20,
        modified_ms=written_ms,
        size=1,
        new_layouts=(layout(tenant),),
    )
    return FoundVersion(bucket=BucketName("b"), draft=draft)


def version(version_id: str, ms: int, sequence: int, *, latest: bool = False, written: bool = True) -> Version:
    return Version(
        key=KEY, id=VersionId(version_id), sequence=sequence, is_latest=latest, modified_ms=ms, written=ms << 20 if written else 0
    )


@pytest.mark.parametrize(
    ("journaled", "seen", "expected"),
    [
        ("Unversioned", "Unversioned", NULL_VERSION),
        ("Suspended", "Unversioned", NULL_VERSION),
        ("Suspended", "Suspended", NULL_VERSION),
        ("Enabled", "Enabled", "drawn"),
        ("Enabled", "Suspended", "drawn"),
        ("Suspended", "Enabled", "drawn"),
        ("Unversioned", "Enabled", "drawn"),
    ],
)
def test_a_version_is_the_null_one_only_if_nobody_saw_versioning(journaled: Versioning, seen: Versioning, expected: str) -> None:
    assert id_of(replace(BUCKET, versioning=journaled), found(5, versioning=seen)) == expected


def key_owner(key_id: str) -> str:
    """Which tenant's a key of the keyring is: most are a tenant's own."""
    return {"kms": "t", "their kms": "other"}.get(key_id, key_id)


def test_a_version_belongs_to_the_bucket_it_was_written_to_and_to_its_owner() -> None:
    assert belongs(BUCKET, found(5), key_owner)
    assert not belongs(None, found(5), key_owner)
    assert not belongs(replace(BUCKET, id=BucketId(2)), found(5), key_owner)
    assert not belongs(replace(BUCKET, name=BucketName("c")), found(5), key_owner)
    assert not belongs(BUCKET, found(5, tenant="other"), key_owner)
    assert belongs(BUCKET, found(5, tenant="kms"), key_owner)
    assert not belongs(BUCKET, found(5, tenant="their kms"), key_owner)


def test_a_newer_version_replaces_the_null_one() -> None:
    old = version("null", 4, 7, latest=True)
    plan = plan_found_version(BUCKET, [], old, old, found(5))
    assert (plan.outcome, plan.change.removed, plan.change.demoted, plan.above) == ("applied", (old,), None, ())
    assert plan.change.added is not None
    assert (plan.change.added.id, plan.change.added.sequence, plan.change.added.is_latest) == (NULL_VERSION, 8, True)


def test_an_older_version_never_overwrites_a_newer() -> None:
    newer = version("null", 6, 7, latest=True)
    assert plan_found_version(BUCKET, [newer], None, newer, found(5)).outcome == "superseded"


def test_the_same_write_found_a_second_time_is_left() -> None:
    """A move to another policy stores it anew, with equal labels: what the journal says, or what came first, counts."""
    known = replace(version("null", 5, 7, latest=True), written=found(5).draft.written)
    assert plan_found_version(BUCKET, [], known, known, found(5)).outcome == "superseded"


def test_an_older_version_with_an_id_of_its_own_goes_beneath_the_newer_ones() -> None:
    above, beneath = version("n", 6, 7, latest=True), version("o", 4, 3)
    plan = plan_found_version(replace(BUCKET, versioning="Enabled"), [above], beneath, None, found(5, versioning="Enabled"))
    assert plan.change.added is not None
    assert (plan.change.added.sequence, plan.change.added.is_latest, plan.change.demoted) == (7, False, None)
    assert plan.above == (replace(above, sequence=8),)


def test_the_first_version_of_a_key_is_the_latest_and_a_newer_one_demotes_the_one_before() -> None:
    first = plan_found_version(BUCKET, [], None, None, found(5)).change
    assert first.added is not None
    assert (first.added.sequence, first.added.is_latest, first.demoted, first.removed) == (1, True, None, ())
    before = version("o", 4, 3, latest=True)
    second = plan_found_version(replace(BUCKET, versioning="Enabled"), [], before, None, found(5, versioning="Enabled")).change
    assert (second.demoted, second.removed) == (before, ())


def test_what_its_commit_could_have_refused_is_not_brought_back() -> None:
    assert plan_found_version(BUCKET, [], None, None, found(5, conditional=True)).outcome == "unconfirmed"


def test_a_delete_marker_is_compared_by_its_time() -> None:
    marker = version("m", 5, 1, written=False)
    assert order_of(marker) < order_of(replace(found(5).draft, written=(5 << 20) + 1)) < order_of(version("m", 6, 1, written=False))


UPLOAD = Upload(id=UploadId("u"), bucket_id=BucketId(1), key=KEY, tenant_id=TenantId("x"), initiated_ms=0)


def part(written: int) -> Part:
    return Part(number=1, size=1, etag="", modified_ms=1, written=written)


def test_a_part_comes_back_only_into_its_own_upload_and_never_over_a_newer_one() -> None:
    one = FoundPart(bucket=BucketName("b"), key=KEY, upload_id=UploadId("u"), part=part(5), layout=layout())
    assert plan_found_part(UPLOAD, BUCKET, None, one, key_owner) == "applied"
    assert plan_found_part(UPLOAD, BUCKET, part(4), one, key_owner) == "applied"
    assert plan_found_part(UPLOAD, BUCKET, part(6), one, key_owner) == "superseded"
    assert plan_found_part(UPLOAD, BUCKET, part(5), one, key_owner) == "superseded", "the same, stored anew under another policy"
    assert plan_found_part(None, None, None, one, key_owner) == "homeless"
    assert plan_found_part(UPLOAD, replace(BUCKET, id=BucketId(2)), None, one, key_owner) == "homeless"
    assert plan_found_part(UPLOAD, replace(BUCKET, tenant_id=TenantId("o")), None, one, key_owner) == "homeless"
    assert plan_found_part(replace(UPLOAD, key=ObjectKey("l")), BUCKET, None, one, key_owner) == "homeless"


def labelled(number: int, offset: int, *, size: int = 10, record: bytes = b"", k: int = 4) -> Labelled:
    return Labelled(
        bucket=BucketName("b"),
        key=KEY,
        version_id=VersionId("drawn"),
        body=b"",
        number=number,
        offset=offset,
        k=k,
        m=2,
        tenant_key_id="t",
        wrapped_key=b"",
        segment=Segment(id=SegmentId(bytes([number])), size=size, stores=()),
        record=record,
    )


def record_of(size: int, key: str = "k") -> bytes:
    return encode(VersionDraft(bucket_id=BucketId(1), key=ObjectKey(key), id=VersionId("drawn"), size=size, modified_ms=1))


def test_whole_versions_are_assembled_with_the_policy_of_their_bucket() -> None:
    made = assemble([labelled(0, 0), labelled(1, 10, record=record_of(20))], policies={BucketName("b"): "p"})
    assert isinstance(made, FoundVersion)
    (only,) = made.draft.new_layouts
    assert (only.size, only.policy, [segment.id for segment in only.segments]) == (20, "p", [bytes([0]), bytes([1])])


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        ([labelled(0, 0)], "the last segment, with the record, is not among the 1"),
        ([labelled(1, 10, record=record_of(20))], "there are 1 segments, and the last one is number 1"),
        ([labelled(0, 0), labelled(2, 20, record=record_of(20))], "there are 2 segments, and the last one is number 2"),
        ([labelled(0, 0), labelled(0, 0, record=record_of(20))], "there are 2 segments"),
        ([labelled(0, 0), labelled(1, 11, record=record_of(20))], "do not fit together"),
        ([labelled(0, 0, record=record_of(10)), labelled(1, 10, record=record_of(20))], "do not fit together"),
        ([labelled(0, 0, k=3), labelled(1, 10, record=record_of(20))], "several schemes"),
        ([labelled(0, 0, record=record_of(11))], "something else than its label says"),
        ([labelled(0, 0, record=record_of(10, key="l"))], "something else than its label says"),
        ([labelled(0, 0, record=b"\xc1")], "its record cannot be read"),
    ],
)
def test_what_is_not_whole_is_told(attempt: list[Labelled], reason: str) -> None:
    made = assemble(attempt, policies={})
    assert isinstance(made, Finding)
    assert (made.sort, made.subject) == ("incomplete", "b/k")
    assert reason in made.reason


def seen(index: int, store: str, generation: int = 0, size: int = 100) -> Sighting:
    return Sighting(SegmentId(b"s"), index, generation, store, size)


def placed(*sightings: Sighting, silent: tuple[str, ...] = (), stores: tuple[str, ...] = ("a", "b", "c", "d")) -> Segment:
    return place_shards(SegmentId(b"s"), size=1, shard_count=3, shard_size=100, sightings=sightings, silent=silent, stores=stores)


def test_shards_are_where_they_are_listed() -> None:
    assert placed(seen(0, "c"), seen(1, "a"), seen(2, "b")) == Segment(id=SegmentId(b"s"), size=1, stores=("c", "a", "b"))


def test_a_shard_that_nobody_lists_is_missing_from_the_store_that_was_silent() -> None:
    segment = placed(seen(0, "c"), seen(1, "a"), silent=("d",))
    assert (segment.stores, segment.missing, segment.strays) == (("c", "a", "d"), (2,), False)
    assert placed(seen(0, "c"), silent=("d", "b")).strays, "which of the two has it is not known"
    assert placed(seen(0, "c"), seen(1, "a")).stores == ("c", "a", "b")
    assert placed(seen(0, "a"), seen(1, "b"), stores=("a", "b")).stores == ("a", "b", "a")


def test_the_newest_generation_counts_and_is_never_drawn_again() -> None:
    segment = placed(seen(0, "c"), seen(0, "d", 2), seen(1, "a"), seen(2, "b"))
    assert (segment.stores, segment.generations, segment.drawn, segment.strays) == (("d", "a", "b"), (2, 0, 0), 2, True)


def test_a_shard_of_another_size_or_index_is_none() -> None:
    assert placed(seen(0, "c", size=99), seen(1, "a"), seen(2, "b"), seen(3, "d")).missing == (0,)


STORED = Segment(id=SegmentId(b"s"), size=1, stores=("a", "b", "c"), missing=(2,))


@pytest.mark.parametrize(
    ("sightings", "silent", "expected"),
    [
        ([seen(0, "a"), seen(1, "b")], (), STORED),
        ([seen(0, "a"), seen(1, "b"), seen(2, "c")], (), replace(STORED, missing=())),
        ([seen(0, "a"), seen(2, "c")], (), replace(STORED, missing=(1,))),
        ([seen(0, "a"), seen(2, "c")], ("b",), replace(STORED, missing=())),
        ([seen(0, "a"), seen(1, "d", 3)], (), replace(STORED, stores=("a", "d", "c"), generations=(0, 3, 0), drawn=3)),
        ([seen(0, "a"), seen(1, "b"), seen(1, "d", 3)], (), replace(STORED, drawn=3, strays=True)),
        ([seen(0, "a"), seen(1, "d")], (), replace(STORED, missing=(1, 2))),
    ],
)
def test_what_the_journal_knows_is_held_against_the_listings(sightings: list[Sighting], silent: tuple[str, ...], expected: Segment) -> None:
    assert find_shards(STORED, sightings, silent, "abcd") == expected


BEGUN = Draw(segment_id=SegmentId(b"s"), generation=3, targets={0: "d", 1: "d"})


def test_what_a_move_has_put_that_the_journal_knows_as_begun_is_no_stray() -> None:
    both = [seen(0, "a"), seen(1, "b"), seen(1, "d", 3)]
    assert find_shards(STORED, both, (), "abcd", BEGUN) == replace(STORED, drawn=3)
    for other in (seen(1, "c", 3), seen(1, "d", 2), seen(2, "d", 3)):
        assert find_shards(STORED, [*both, seen(2, "c"), other], (), "abcd", BEGUN).strays, "it is not of this move"


def test_what_a_move_has_put_stays_where_its_segment_points_to_it_now() -> None:
    now = find_shards(STORED, [seen(0, "a"), seen(1, "d", 3)], (), "abcd", BEGUN)
    assert now == replace(STORED, stores=("a", "d", "c"), generations=(0, 3, 0), drawn=3)
    assert not_used(BEGUN, now) == replace(BEGUN, targets={0: "d"})
    assert not_used(BEGUN, STORED) == BEGUN


def test_a_shard_of_a_store_that_is_not_configured_any_more_is_where_it_is_listed() -> None:
    sightings = [seen(0, "a"), seen(1, "d"), seen(2, "e")]
    assert find_shards(STORED, sightings, (), "acde") == replace(STORED, stores=("a", "d", "c"))
    assert find_shards(STORED, [seen(0, "a")], (), "acde") == replace(STORED, missing=(1, 2))
