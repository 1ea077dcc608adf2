"""What a lock forbids, and the time that it is held against."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.clock import ManualClock, SystemClock
from proxy.errors import BucketLocked, VersionLocked
from proxy.manifest.drafts import NO_CONDITIONS, AttributeChange, VersionDraft
from proxy.manifest.plans.buckets import with_setting, with_versioning
from proxy.manifest.plans.locks import OBJECT_LOCK, is_lockable
from proxy.manifest.plans.trusted_time import TimeMark, first_mark, mark_at
from proxy.manifest.plans.versions import plan_attributes, plan_commit, plan_delete_latest, plan_delete_version
from proxy.manifest.records import Bucket, ObjectAttributes, Retention, Version
from proxy.s3.object_lock import HoldStatus, LockMode

NOW = 1_750_000_000_000
HOUR = 3_600_000
BUCKET = Bucket(id=1, name="b", tenant_id="t", policy="p", created_ms=NOW)
LOCKED = replace(BUCKET, versioning="Enabled", settings={OBJECT_LOCK: "{}"})


def version(mode: LockMode | None = None, until_ms: int = 0, hold: HoldStatus | None = None) -> Version:
    retention = None if mode is None else Retention(mode=mode, until_ms=until_ms)
    attributes = ObjectAttributes(retention=retention, legal_hold=hold)
    return Version(key="k", id="v", sequence=1, is_latest=True, modified_ms=NOW, attributes=attributes)


def may_delete(found: Version, *, bypass: bool = False, at_ms: int = NOW) -> bool:
    try:
        plan_delete_version(found, trusted_ms=at_ms, bypass_governance=bypass)
    except VersionLocked:
        return False
    return True


@pytest.mark.parametrize(
    ("found", "deleted", "with_bypass"),
    [
        (version(), True, True),
        (version(hold="OFF"), True, True),
        (version(hold="ON"), False, False),
        (version("GOVERNANCE", NOW + 1), False, True),
        (version("GOVERNANCE", NOW + 1, "ON"), False, False),
        (version("COMPLIANCE", NOW + 1), False, False),
        (version("COMPLIANCE", NOW), True, True),
        (version("GOVERNANCE", NOW), True, True),
        (version("COMPLIANCE", NOW, "ON"), False, False),
    ],
)
def test_a_version_is_deleted_as_its_lock_allows(found: Version, deleted: bool, with_bypass: bool) -> None:
    assert (may_delete(found), may_delete(found, bypass=True)) == (deleted, with_bypass)


COMPLIANCE, GOVERNANCE = Retention(mode="COMPLIANCE", until_ms=NOW + HOUR), Retention(mode="GOVERNANCE", until_ms=NOW + HOUR)


@pytest.mark.parametrize(
    ("before", "wanted", "changed", "with_bypass"),
    [
        (None, COMPLIANCE, True, True),
        (GOVERNANCE, replace(GOVERNANCE, until_ms=NOW + 2 * HOUR), True, True),
        (GOVERNANCE, GOVERNANCE, True, True),
        (GOVERNANCE, replace(GOVERNANCE, until_ms=NOW + HOUR - 1), False, True),
        (GOVERNANCE, COMPLIANCE, False, True),
        (GOVERNANCE, None, False, True),
        (COMPLIANCE, replace(COMPLIANCE, until_ms=NOW + 2 * HOUR), True, True),
        (COMPLIANCE, COMPLIANCE, True, True),
        (COMPLIANCE, replace(COMPLIANCE, until_ms=NOW + HOUR - 1), False, False),
        (COMPLIANCE, replace(GOVERNANCE, until_ms=NOW + 2 * HOUR), False, False),
        (COMPLIANCE, None, False, False),
        (replace(COMPLIANCE, until_ms=NOW), None, True, True),
        (replace(COMPLIANCE, until_ms=NOW), replace(GOVERNANCE, until_ms=NOW + 1), True, True),
    ],
)
def test_a_retention_is_changed_as_its_mode_allows(
    before: Retention | None, wanted: Retention | None, changed: bool, with_bypass: bool
) -> None:
    found = replace(version(), attributes=ObjectAttributes(retention=before, tags={"a": "b"}))

    def changes(*, bypass: bool) -> bool:
        try:
            after = plan_attributes(found, AttributeChange(retention=wanted, bypass_governance=bypass), trusted_ms=NOW)
        except VersionLocked:
            return False
        assert after.attributes == ObjectAttributes(retention=wanted, tags={"a": "b"})
        return True

    assert (changes(bypass=False), changes(bypass=True)) == (changed, with_bypass)


def test_a_hold_is_set_and_released_whatever_the_retention_and_tags_change_under_both() -> None:
    held = version("COMPLIANCE", NOW + HOUR, "ON")
    released = plan_attributes(held, AttributeChange(legal_hold="OFF", tags={"new": "1"}), trusted_ms=NOW)
    assert (released.attributes.legal_hold, released.attributes.retention) == ("OFF", held.attributes.retention)
    assert released.attributes.tags == {"new": "1"}


@pytest.mark.parametrize("found", [version("COMPLIANCE", NOW + 1), version(hold="ON")])
def test_nothing_takes_the_place_of_a_locked_version(found: Version) -> None:
    """No bucket with object lock comes so far: it has versioning for good."""
    null = replace(found, id="null")
    draft = VersionDraft(bucket_id=1, key="k", id="new", modified_ms=NOW)
    with pytest.raises(VersionLocked):
        plan_commit(BUCKET, null, None, draft, NO_CONDITIONS)
    for versioning in ("Unversioned", "Suspended"):
        with pytest.raises(VersionLocked):
            plan_delete_latest(replace(BUCKET, versioning=versioning), null, None, "k", marker_id="m", now_ms=NOW, conditions=NO_CONDITIONS)


def test_a_marker_on_top_of_a_locked_version_is_no_deletion() -> None:
    change = plan_delete_latest(LOCKED, version(hold="ON"), None, "k", marker_id="m", now_ms=NOW, conditions=NO_CONDITIONS)
    assert (change.removed, change.added is not None and change.added.id) == ((), "m")


def test_only_what_may_be_locked_needs_the_time() -> None:
    assert not is_lockable(None)
    assert not is_lockable(version(hold="OFF"))
    assert is_lockable(version(hold="ON"))
    assert is_lockable(version("GOVERNANCE", 1))


def test_object_lock_needs_versioning_and_neither_of_them_ends() -> None:
    for versioning in ("Unversioned", "Suspended"):
        with pytest.raises(BucketLocked):
            with_setting(replace(BUCKET, versioning=versioning), OBJECT_LOCK, "{}")
    assert with_setting(replace(BUCKET, versioning="Enabled"), OBJECT_LOCK, "{}") == LOCKED
    with pytest.raises(BucketLocked):
        with_setting(LOCKED, OBJECT_LOCK, None)
    with pytest.raises(BucketLocked):
        with_versioning(LOCKED, "Suspended")
    assert with_versioning(LOCKED, "Enabled") == LOCKED
    assert with_versioning(replace(BUCKET, versioning="Enabled"), "Suspended").versioning == "Suspended"


def test_trusted_time_goes_on_as_the_machine_runs_however_its_clock_is_set() -> None:
    clock = ManualClock(NOW)
    mark = first_mark(clock.instant())
    assert mark.trusted_ms == NOW
    clock.advance(60)
    clock.set_by(10 * 365 * 24 * 3600)
    assert mark_at(mark, clock.instant()).trusted_ms == NOW + 60_000


def test_trusted_time_never_goes_back_and_waits_for_a_clock_that_was_set_back() -> None:
    clock = ManualClock(NOW)
    mark = first_mark(clock.instant())
    clock.set_by(-1000)
    clock.advance(60)
    mark = mark_at(mark, clock.instant())
    assert mark.trusted_ms == NOW
    clock.set_by(1000)
    clock.advance(1)
    assert mark_at(mark, clock.instant()).trusted_ms == NOW + 1000


def test_a_pause_of_the_machine_is_not_counted() -> None:
    clock = ManualClock(NOW)
    mark = first_mark(clock.instant())
    clock.reboot(off_seconds=3600)
    assert mark_at(mark, clock.instant()).trusted_ms == NOW
    again = mark_at(mark, clock.instant())
    clock.advance(10)
    assert mark_at(again, clock.instant()).trusted_ms == NOW + 10_000


STEPS = st.one_of(
    st.tuples(st.just("pass"), st.integers(0, 10**6)),
    st.tuples(st.just("set"), st.integers(-(10**9), 10**9)),
    st.tuples(st.just("reboot"), st.integers(0, 10**6)),
    st.tuples(st.just("mark"), st.just(0)),
)


@given(st.lists(STEPS, max_size=30))
def test_trusted_time_never_passes_the_time_that_passed(steps: list[tuple[str, int]]) -> None:
    clock, passed_ms = ManualClock(NOW), 0
    mark = first_mark(clock.instant())
    seen = NOW
    for step, seconds in steps:
        if step == "pass":
            clock.advance(seconds)
            passed_ms += seconds * 1000
        elif step == "set":
            clock.set_by(seconds)
        elif step == "reboot":
            clock.reboot(off_seconds=seconds)
            passed_ms += seconds * 1000
        else:
            mark = mark_at(mark, clock.instant())
        now = mark_at(mark, clock.instant()).trusted_ms
        assert seen <= now <= NOW + passed_ms
        seen = max(seen, mark.trusted_ms)


def test_the_day_of_a_mark_is_what_the_journal_is_told_of() -> None:
    day = 24 * HOUR
    assert TimeMark(trusted_ms=10 * day - 1, running_ms=0, boot="1").day == 9
    assert TimeMark(trusted_ms=10 * day, running_ms=0, boot="1").day == 10


def test_the_running_time_of_this_machine_goes_on_and_knows_its_start() -> None:
    before, after = SystemClock().instant(), SystemClock().instant()
    assert before.running_ms <= after.running_ms
    assert before.boot
