"""What a step does to versions, extents and uploads, decided without a database."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.errors import (
    BucketExists,
    BucketNotEmpty,
    ExtentMissing,
    PartInvalid,
    PreconditionUnmet,
    TenantMissing,
    UploadMissing,
    VersionMissing,
)
from proxy.manifest.drafts import NO_CONDITIONS, AttributeChange, CompletedPart, Conditions, VersionDraft
from proxy.manifest.plans.buckets import check_empty, check_new_bucket, with_setting
from proxy.manifest.plans.extents import CountedExtent, ReferenceChange, garbage_of, plan_references
from proxy.manifest.plans.uploads import check_upload, completed_version, extents_of, plan_completion
from proxy.manifest.plans.versions import (
    NO_CHANGE,
    VersionChange,
    is_same,
    plan_attributes,
    plan_commit,
    plan_delete_latest,
    plan_delete_version,
    replaces_null_version,
)
from proxy.manifest.records import (
    Bucket,
    Extent,
    ExtentRef,
    GarbageSegment,
    Layout,
    ObjectAttributes,
    Part,
    Segment,
    Tenant,
    Upload,
    Version,
    Versioning,
)

NOW = 1_750_000_000_000
TENANT = Tenant(id="t", name="t", canonical_id="c", account_id="1", display_name="t", root_key_id="r", wrapped_key=b"w", created_ms=NOW)
DRAFT = VersionDraft(bucket_id=1, key="k", id="drawn", etag="new", modified_ms=NOW)


def bucket(versioning: Versioning) -> Bucket:
    return Bucket(id=1, name="b", tenant_id="t", policy="p", versioning=versioning, created_ms=NOW)


def version(version_id: str, sequence: int, *, latest: bool = True, extents: tuple[int, ...] = (), marker: bool = False) -> Version:
    refs = tuple(ExtentRef(id=extent_id, size=10) for extent_id in extents)
    return Version(
        key="k", id=version_id, sequence=sequence, is_latest=latest, etag="old", modified_ms=NOW - 1, extents=refs, is_delete_marker=marker
    )


def layout(number: int, *, missing: tuple[int, ...] = (), strays: bool = False) -> Layout:
    segment = Segment(id=bytes([number]) * 16, size=10, stores=("s0", "s1", "s2"), missing=missing, strays=strays)
    return Layout(size=10, k=2, m=1, tenant_key_id="t", wrapped_key=b"k", segments=(segment,))


def counted(extent_id: int, references: int) -> CountedExtent:
    return CountedExtent(extent=Extent(id=extent_id, layout=layout(extent_id)), references=references)


NULL, OLD_NULL, V1, MARKER = version("null", 4), version("null", 2, latest=False), version("v1", 4), version("m1", 4, marker=True)
COMMITS: dict[str, tuple[Versioning, Version | None, Version | None, str, int, tuple[Version, ...], Version | None]] = {
    # versioning, newest, older null version: the id and sequence of what is added, what is removed, what is demoted
    "a first version": ("Unversioned", None, None, "null", 1, (), None),
    "the null version is replaced": ("Unversioned", NULL, None, "null", 5, (NULL,), None),
    "a first version under versioning": ("Enabled", None, None, "drawn", 1, (), None),
    "a version is added": ("Enabled", V1, None, "drawn", 5, (), V1),
    "the null version is kept under versioning": ("Enabled", NULL, None, "drawn", 5, (), NULL),
    "a suspended bucket keeps a version": ("Suspended", V1, None, "null", 5, (), V1),
    "a suspended bucket replaces the null version below": ("Suspended", V1, OLD_NULL, "null", 5, (OLD_NULL,), V1),
    "a suspended bucket replaces the null version on top": ("Suspended", NULL, None, "null", 5, (NULL,), None),
    "a marker is demoted": ("Suspended", MARKER, OLD_NULL, "null", 5, (OLD_NULL,), MARKER),
}


@pytest.mark.parametrize("case", COMMITS)
def test_a_commit(case: str) -> None:
    versioning, newest, null, version_id, sequence, removed, demoted = COMMITS[case]
    change = plan_commit(bucket(versioning), newest, null, DRAFT, NO_CONDITIONS)
    assert change.added == replace(version(version_id, sequence), etag="new", modified_ms=NOW)
    assert (change.removed, change.demoted, change.promotes) == (removed, demoted, False)


@pytest.mark.parametrize("case", COMMITS)
def test_a_delete_puts_a_marker_where_a_commit_puts_a_version(case: str) -> None:
    versioning, newest, null, version_id, sequence, removed, demoted = COMMITS[case]
    change = plan_delete_latest(bucket(versioning), newest, null, "k", marker_id="drawn", now_ms=NOW, conditions=NO_CONDITIONS)
    if versioning == "Unversioned":
        assert change == VersionChange(removed=removed)
    else:
        assert change.added == replace(version(version_id, sequence, marker=True), etag="", modified_ms=NOW)
        assert (change.removed, change.demoted, change.promotes) == (removed, demoted, False)


@pytest.mark.parametrize("later", [0, 1])
def test_a_write_with_a_lower_number_than_what_it_comes_after_gets_a_higher_one(later: int) -> None:
    before = replace(V1, written=DRAFT.written + 7), replace(OLD_NULL, written=DRAFT.written + 9)
    change = plan_commit(bucket("Suspended"), *before, replace(DRAFT, written=9 + later), NO_CONDITIONS)
    assert change.added is not None
    assert change.added.written == 10


def test_a_completion_tells_which_upload_made_the_version() -> None:
    change = plan_commit(bucket("Enabled"), None, None, DRAFT, NO_CONDITIONS, upload_id="u")
    assert change.added is not None
    assert change.added.upload_id == "u"


@pytest.mark.parametrize(("versioning", "replaces"), [("Unversioned", True), ("Enabled", False), ("Suspended", True)])
def test_only_without_versioning_a_commit_replaces_the_null_version(versioning: Versioning, replaces: bool) -> None:
    assert replaces_null_version(bucket(versioning)) == replaces


@pytest.mark.parametrize(
    ("newest", "conditions", "missing"),
    [
        (None, Conditions(if_match="old"), True),
        (MARKER, Conditions(if_match="*"), True),
        (V1, Conditions(if_match="other"), False),
        (V1, Conditions(if_none_match="*"), False),
    ],
)
def test_no_plan_is_made_where_a_condition_is_unmet(newest: Version | None, conditions: Conditions, missing: bool) -> None:
    for plan in (
        lambda: plan_commit(bucket("Enabled"), newest, None, DRAFT, conditions),
        lambda: plan_delete_latest(bucket("Enabled"), newest, None, "k", marker_id="m", now_ms=NOW, conditions=conditions),
    ):
        with pytest.raises(PreconditionUnmet) as refused:
            plan()
        assert refused.value.missing == missing


@pytest.mark.parametrize("newest", [None, MARKER])
def test_a_key_whose_newest_version_is_a_delete_marker_is_free(newest: Version | None) -> None:
    free = Conditions(if_none_match="*")
    assert plan_commit(bucket("Enabled"), newest, None, DRAFT, free) == plan_commit(bucket("Enabled"), newest, None, DRAFT, NO_CONDITIONS)


@pytest.mark.parametrize("conditions", [Conditions(if_match="old"), Conditions(if_match="*")])
def test_a_condition_that_is_met_changes_no_plan(conditions: Conditions) -> None:
    assert plan_commit(bucket("Enabled"), V1, None, DRAFT, conditions) == plan_commit(bucket("Enabled"), V1, None, DRAFT, NO_CONDITIONS)


def test_a_deleted_latest_version_makes_the_next_one_the_latest() -> None:
    older = version("v0", 3, latest=False, extents=(7,))
    assert plan_delete_version(V1, trusted_ms=0) == VersionChange(removed=(V1,), promotes=True)
    assert plan_delete_version(older, trusted_ms=0) == VersionChange(removed=(older,))
    assert plan_delete_version(older, trusted_ms=0).released == older.extents
    assert plan_delete_version(None, trusted_ms=0) == NO_CHANGE


def test_a_version_is_the_same_whatever_its_tags_where_it_is_stored_and_what_is_above_it() -> None:
    found = version("null", 4, extents=(7,))
    assert is_same(replace(found, is_latest=False, attributes=ObjectAttributes(tags={"a": "b"})), found)
    assert is_same(version("null", 4, extents=(8,)), found)
    for other in (None, replace(found, sequence=5), replace(found, upload_id="another"), replace(found, etag="other")):
        assert not is_same(other, found)


def test_tags_are_replaced_and_nothing_else() -> None:
    tagged = replace(V1, attributes=ObjectAttributes(metadata={"m": "1"}, tags={"old": "1"}))
    assert plan_attributes(tagged, AttributeChange(tags={"new": "2"}), trusted_ms=0) == replace(
        V1, attributes=ObjectAttributes(metadata={"m": "1"}, tags={"new": "2"})
    )
    for untaggable in (None, MARKER):
        with pytest.raises(VersionMissing):
            plan_attributes(untaggable, AttributeChange(tags={}), trusted_ms=0)


REFERENCES: dict[str, tuple[tuple[CountedExtent, ...], tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]] = {
    # what is stored, shared, released: counts to write, and what is gone
    "nothing": ((), (), (), (), ()),
    "shared once more": ((counted(1, 1),), (1,), (), ((1, 2),), ()),
    "shared twice by one step": ((counted(1, 1),), (1, 1), (), ((1, 3),), ()),
    "released, and used elsewhere": ((counted(1, 2),), (), (1,), ((1, 1),), ()),
    "released by the last": ((counted(1, 1),), (), (1,), (), (1,)),
    "released twice by the last two": ((counted(1, 2),), (), (1, 1), (), (1,)),
    "shared and released": ((counted(1, 1),), (1,), (1,), (), ()),
    "one stays, one goes": ((counted(1, 2), counted(2, 1)), (), (1, 2), ((1, 1),), (2,)),
    "released and not stored": ((), (), (1,), (), ()),
}


def refs_to(extents: tuple[int, ...]) -> list[ExtentRef]:
    return [ExtentRef(id=extent_id, size=10) for extent_id in extents]


@pytest.mark.parametrize("case", REFERENCES)
def test_references(case: str) -> None:
    stored, shared, released, counts, gone = REFERENCES[case]
    change = plan_references(stored, shared=refs_to(shared), released=refs_to(released))
    extents = {item.extent.id: item.extent for item in stored}
    assert change == ReferenceChange(counts=counts, gone=tuple(extents[extent_id] for extent_id in gone))


def test_an_extent_that_is_gone_cannot_be_shared() -> None:
    with pytest.raises(ExtentMissing):
        plan_references([counted(1, 1)], shared=refs_to((1, 2)))


def test_garbage_is_looked_for_everywhere_where_a_shard_may_have_strayed() -> None:
    assert garbage_of(layout(1)) == (GarbageSegment(id=b"\1" * 16, stores=("s0", "s1", "s2")),)
    assert garbage_of(layout(1, strays=True)) == (GarbageSegment(id=b"\1" * 16, stores=("s0", "s1", "s2"), strays=True),)
    again = layout(1)
    again = replace(again, segments=(replace(again.segments[0], generations=(0, 1, 0)),))
    assert garbage_of(again)[0].generations == (0, 1, 0)


def part(number: int, etag: str, *extents: int) -> Part:
    return Part(number=number, size=10, etag=etag, modified_ms=NOW, extents=tuple(ExtentRef(id=item, size=10) for item in extents))


def test_a_completion_takes_the_parts_listed_and_releases_the_others() -> None:
    uploaded = [part(1, "a", 11), part(2, "b", 12), part(3, "c", 13, 14)]
    listed = [CompletedPart(number=1, etag="a"), CompletedPart(number=3, etag="c")]
    completion = plan_completion(uploaded, listed)
    assert [ref.id for ref in completion.extents] == [11, 13, 14]
    assert [ref.id for ref in completion.released] == [12]
    assert [ref.id for ref in extents_of(uploaded)] == [11, 12, 13, 14]


@pytest.mark.parametrize(
    "listed", [[CompletedPart(number=2, etag="a")], [CompletedPart(number=1, etag="other")], [CompletedPart(number=1, etag="a")] * 2]
)
def test_a_part_that_is_not_there_or_another_cannot_be_completed(listed: list[CompletedPart]) -> None:
    with pytest.raises(PartInvalid):
        plan_completion([part(1, "a", 11)], listed)


def test_a_repeated_completion_needs_the_same_parts_and_the_very_version() -> None:
    listed = [CompletedPart(number=1, etag="a")]
    made = replace(V1, upload_id="u")
    assert completed_version("u", listed, tuple(listed), made) == made
    other = [CompletedPart(number=1, etag="b")]
    for completed, asked, found in (
        (None, listed, made),
        (listed, listed[:0], made),
        (listed, other, made),
        (listed, listed, None),
        (listed, listed, V1),
    ):
        with pytest.raises(UploadMissing):
            completed_version("u", completed, asked, found)


def test_an_upload_is_of_one_key_of_one_bucket() -> None:
    upload = Upload(id="u", bucket_id=1, key="k", tenant_id="t", initiated_ms=NOW)
    check_upload(upload, 1, "k")
    for bucket_id, key in ((2, "k"), (1, "other")):
        with pytest.raises(UploadMissing):
            check_upload(upload, bucket_id, key)


def test_buckets() -> None:
    made = bucket("Unversioned")
    check_new_bucket(made, None, TENANT)
    with pytest.raises(BucketExists):
        check_new_bucket(made, made, TENANT)
    with pytest.raises(TenantMissing):
        check_new_bucket(made, None, None)
    check_empty(made, has_versions=False)
    with pytest.raises(BucketNotEmpty):
        check_empty(made, has_versions=True)
    tagged = with_setting(made, "tagging", "{}")
    assert tagged.settings == {"tagging": "{}"}
    assert with_setting(tagged, "tagging", None) == made
