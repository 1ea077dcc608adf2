"""Lifecycle rules: which documents are some, and what becomes of a version under them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.documents import DocumentReader
from proxy.s3.errors import S3Error
from proxy.s3.lifecycle.deciding import (
    NEVER,
    SMALL,
    Decision,
    Facts,
    abort_at,
    decide,
    due_ms,
    expiry_header,
    horizons,
    prefixes,
)
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import DAY_MS, Configuration, configuration_of, encode_configuration, told_rules
from proxy.s3.model import load_model
from proxy.s3.rendering import render_response

CLASSES = ("STANDARD_IA", "GLACIER", "DEEP_ARCHIVE", "COLD")
MADE = datetime(2014, 1, 15, 10, 30, tzinfo=UTC)
MADE_MS = int(MADE.timestamp() * 1000)
MIDNIGHT = datetime(2030, 1, 1, tzinfo=UTC)


def rule(**parts: Any) -> dict[str, Any]:
    return {"ID": "r", "Status": "Enabled", "Filter": {}, **parts}


def read(*rules: dict[str, Any], minimum_size: str | None = None) -> Configuration:
    return read_configuration({"Rules": list(rules)}, minimum_size=minimum_size, storage_classes=CLASSES)


def facts(**parts: Any) -> Facts:
    usual: dict[str, Any] = {
        "key": "logs/a",
        "size": 10 * SMALL,
        "tags": {},
        "storage_class": "STANDARD",
        "modified_ms": MADE_MS,
        "is_latest": True,
        "is_marker": False,
        "is_alone": True,
        "versioned": False,
    }
    return Facts(**(usual | parts))


def after(days: float) -> int:
    return MADE_MS + int(days * DAY_MS)


EXPIRE_3 = {"Expiration": {"Days": 3}}


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"Status": "On"} | EXPIRE_3, "MalformedXML"),
        ({"ID": "i" * 256} | EXPIRE_3, "InvalidArgument"),
        ({"Prefix": "p"} | EXPIRE_3, "MalformedXML"),
        ({"Filter": {"Prefix": "a", "ObjectSizeLessThan": 5}} | EXPIRE_3, "MalformedXML"),
        ({"Filter": {"And": {"Prefix": "a"}}} | EXPIRE_3, "MalformedXML"),
        ({"Filter": {"And": {"Prefix": "a", "ObjectSizeGreaterThan": 9, "ObjectSizeLessThan": 9}}} | EXPIRE_3, "InvalidRequest"),
        ({"Filter": {"And": {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}}} | EXPIRE_3, "InvalidTag"),
        ({"Filter": {"Prefix": "p" * 1025}} | EXPIRE_3, "InvalidRequest"),
        ({}, "InvalidRequest"),
        ({"Expiration": {}}, "MalformedXML"),
        ({"Expiration": {"Days": 0}}, "InvalidArgument"),
        ({"Expiration": {"Days": -1}}, "InvalidArgument"),
        ({"Expiration": {"Days": 1, "Date": MIDNIGHT}}, "MalformedXML"),
        ({"Expiration": {"Date": MADE}}, "InvalidArgument"),
        ({"Expiration": {"Days": 1, "ExpiredObjectDeleteMarker": True}}, "MalformedXML"),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, "InvalidRequest"),
        ({"Filter": {"ObjectSizeLessThan": 5}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, "InvalidRequest"),
        ({"NoncurrentVersionExpiration": {}}, "MalformedXML"),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 0}}, "InvalidArgument"),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 0}}, "InvalidArgument"),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 101}}, "InvalidArgument"),
        ({"AbortIncompleteMultipartUpload": {}}, "MalformedXML"),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 0}}, "InvalidArgument"),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}, "InvalidRequest"),
        ({"Transitions": [{"Days": 1}]}, "MalformedXML"),
        ({"Transitions": [{"StorageClass": "GLACIER"}]}, "MalformedXML"),
        ({"Transitions": [{"Days": 1, "StorageClass": "STANDARD"}]}, "MalformedXML"),
        ({"Transitions": [{"Days": 1, "StorageClass": "ONEZONE_IA"}]}, "InvalidStorageClass"),
        ({"Transitions": [{"Days": -1, "StorageClass": "GLACIER"}]}, "InvalidArgument"),
        ({"Transitions": [{"Days": 29, "StorageClass": "STANDARD_IA"}]}, "InvalidArgument"),
        ({"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}, {"Days": 2, "StorageClass": "GLACIER"}]}, "InvalidRequest"),
        ({"Transitions": [{"Date": MIDNIGHT, "StorageClass": "GLACIER"}], "Expiration": {"Days": 1}}, "InvalidRequest"),
        ({"Transitions": [{"Days": 3, "StorageClass": "GLACIER"}], "Expiration": {"Days": 3}}, "InvalidArgument"),
        (
            {
                "NoncurrentVersionTransitions": [{"NoncurrentDays": 5, "StorageClass": "GLACIER"}],
                "NoncurrentVersionExpiration": {"NoncurrentDays": 5},
            },
            "InvalidArgument",
        ),
    ],
)
def test_a_rule_that_is_none_is_refused_as_aws_does(parts: dict[str, Any], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(rule(**parts))
    assert caught.value.code == code


def test_a_document_has_between_one_and_a_thousand_rules_of_different_ids() -> None:
    many = [rule(ID=str(number), **EXPIRE_3) for number in range(1001)]
    assert len(read(*many[:1000]).rules) == 1000
    for rules, code in (([], "MalformedXML"), (many, "InvalidRequest"), ([many[0], many[0]], "InvalidArgument")):
        with pytest.raises(S3Error) as caught:
            read(*rules)
        assert caught.value.code == code
    with pytest.raises(S3Error) as caught:
        read(rule(**EXPIRE_3), minimum_size="large")
    assert caught.value.code == "InvalidArgument"


def test_a_rule_of_the_old_form_has_its_prefix_to_itself_and_counts_no_versions() -> None:
    old = {"Status": "Enabled", "Prefix": "p"}
    assert read(old | EXPIRE_3).rules[0].filter.prefix == "p"
    with pytest.raises(S3Error) as caught:
        read({"ID": "a"} | old | EXPIRE_3, {"ID": "b"} | old | EXPIRE_3)
    assert caught.value.code == "InvalidRequest"
    with pytest.raises(S3Error) as caught:
        read(old | {"NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 1}})
    assert caught.value.code == "InvalidRequest"


EVERYTHING = (
    rule(ID="and", Filter={"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}], "ObjectSizeGreaterThan": 5}}, **EXPIRE_3),
    rule(ID="tag", Status="Disabled", Filter={"Tag": {"Key": "k", "Value": ""}}, Expiration={"Date": MIDNIGHT}),
    {"ID": "old", "Status": "Enabled", "Prefix": "", "Expiration": {"ExpiredObjectDeleteMarker": True}},
    rule(
        ID="moves",
        Filter={"ObjectSizeLessThan": 1_000_000},
        Transitions=[{"Days": 30, "StorageClass": "STANDARD_IA"}, {"Days": 90, "StorageClass": "GLACIER"}],
        NoncurrentVersionTransitions=[{"NoncurrentDays": 0, "StorageClass": "COLD", "NewerNoncurrentVersions": 2}],
        NoncurrentVersionExpiration={"NoncurrentDays": 400, "NewerNoncurrentVersions": 5},
    ),
    rule(ID="abort", Filter={"Prefix": "p"}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}),
)


def test_what_is_kept_is_told_as_it_was_given() -> None:
    """Through the XML that a client sends and gets, and the text that is kept with the bucket."""
    given = read(*EVERYTHING, minimum_size="varies_by_storage_class")
    kept = configuration_of(encode_configuration(given))
    assert kept == given
    model = load_model().operations
    answer = render_response(model["GetBucketLifecycleConfiguration"], {"Rules": told_rules(kept)})
    document = model["PutBucketLifecycleConfiguration"].document
    assert document is not None
    reader = DocumentReader(document)
    reader.feed(answer.body)
    again = reader.finish()["LifecycleConfiguration"]
    assert isinstance(again, dict)
    assert read(*again["Rules"], minimum_size="varies_by_storage_class") == given


@pytest.mark.parametrize("wrong", [{"key": "log"}, {"tags": {"k": "w"}}, {"tags": {}}, {"size": 5}, {"size": 9}])
def test_a_filter_takes_what_meets_all_of_it(wrong: dict[str, Any]) -> None:
    combined = {"Prefix": "logs/", "Tags": [{"Key": "k", "Value": "v"}], "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 9}
    configuration = read(rule(Filter={"And": combined}, **EXPIRE_3))
    right = {"tags": {"k": "v", "more": ""}, "size": 7}
    assert decide(configuration, facts(**right), after(9)) == Decision("expire", "r")
    assert decide(configuration, facts(**(right | wrong)), after(9)) is None


def test_days_end_at_the_midnight_after() -> None:
    """User Guide: made on the 15th at 10:30, with three days it expires on the 19th at 00:00."""
    due = due_ms(MADE_MS, 3)
    assert datetime.fromtimestamp(due / 1000, UTC) == datetime(2014, 1, 19, tzinfo=UTC)
    configuration = read(rule(**EXPIRE_3))
    assert decide(configuration, facts(), due - 1) is None
    assert decide(configuration, facts(), due) == Decision("expire", "r")
    header = expiry_header(configuration, "k", 1, {}, MADE_MS)
    assert header == 'expiry-date="Sun, 19 Jan 2014 00:00:00 GMT", rule-id="r"'


def test_a_date_is_for_all_objects_from_then_on() -> None:
    configuration = read(rule(ID="a b", Expiration={"Date": MIDNIGHT}))
    ms = int(MIDNIGHT.timestamp() * 1000)
    assert decide(configuration, facts(), ms - 1) is None
    assert decide(configuration, facts(modified_ms=ms + 5), ms + 10) == Decision("expire", "a b")
    assert expiry_header(configuration, "k", 1, {}, MADE_MS) == 'expiry-date="Tue, 01 Jan 2030 00:00:00 GMT", rule-id="a%20b"'


def test_the_header_tells_the_first_date_and_nothing_of_rules_that_do_not_apply() -> None:
    configuration = read(
        rule(ID="late", Expiration={"Days": 9}),
        rule(ID="early", Filter={"Prefix": "logs/"}, **EXPIRE_3),
        rule(ID="off", Status="Disabled", Expiration={"Days": 1}),
    )
    assert '"early"' in (expiry_header(configuration, "logs/a", 1, {}, MADE_MS) or "")
    assert '"late"' in (expiry_header(configuration, "other", 1, {}, MADE_MS) or "")
    assert expiry_header(read(rule(Filter={"Prefix": "x"}, **EXPIRE_3)), "k", 1, {}, MADE_MS) is None


def test_a_disabled_rule_does_nothing() -> None:
    assert decide(read(rule(Status="Disabled", **EXPIRE_3)), facts(), after(99)) is None


MARKER = {"is_marker": True, "size": 0, "versioned": True}


def test_a_marker_goes_when_it_hides_nothing() -> None:
    at_once = read(rule(Expiration={"ExpiredObjectDeleteMarker": True}))
    assert decide(at_once, facts(**MARKER), after(0)) == Decision("remove", "r")
    assert decide(at_once, facts(**MARKER, is_alone=False), after(0)) is None
    assert decide(read(rule(Expiration={"ExpiredObjectDeleteMarker": False})), facts(**MARKER), after(99)) is None
    aged = read(rule(**EXPIRE_3))
    assert decide(aged, facts(**MARKER), after(3)) is None
    assert decide(aged, facts(**MARKER), after(4)) == Decision("remove", "r")


NONCURRENT = {"is_latest": False, "is_alone": False, "versioned": True}


def test_a_noncurrent_version_counts_from_when_it_became_so() -> None:
    configuration = read(rule(NoncurrentVersionExpiration={"NoncurrentDays": 3}))
    version = facts(**NONCURRENT, modified_ms=MADE_MS - 99 * DAY_MS, noncurrent_ms=MADE_MS)
    assert decide(configuration, version, due_ms(MADE_MS, 3) - 1) is None
    assert decide(configuration, version, due_ms(MADE_MS, 3)) == Decision("remove", "r")
    assert decide(configuration, facts(versioned=True), after(99)) is None


def test_so_many_newer_noncurrent_versions_are_kept() -> None:
    configuration = read(rule(NoncurrentVersionExpiration={"NoncurrentDays": 1, "NewerNoncurrentVersions": 2}))
    decisions = [decide(configuration, facts(**NONCURRENT, newer_noncurrent=newer), after(9)) for newer in range(4)]
    assert [decision is not None for decision in decisions] == [False, False, True, True]


def test_what_deletes_for_good_comes_before_a_move_and_a_move_before_a_marker() -> None:
    configuration = read(rule(ID="move", Transitions=[{"Days": 1, "StorageClass": "GLACIER"}]), rule(ID="expire", **EXPIRE_3))
    assert decide(configuration, facts(), after(9)) == Decision("expire", "expire")
    assert decide(configuration, facts(versioned=True), after(9)) == Decision("move", "move", "GLACIER")
    assert decide(configuration, facts(versioned=True, storage_class="GLACIER"), after(9)) == Decision("expire", "expire")


def test_the_move_that_was_due_last_counts_and_none_goes_back() -> None:
    configuration = read(
        rule(
            Transitions=[
                {"Days": 30, "StorageClass": "STANDARD_IA"},
                {"Days": 90, "StorageClass": "GLACIER"},
                {"Days": 180, "StorageClass": "DEEP_ARCHIVE"},
            ]
        )
    )

    def moved(days: int, present: str = "STANDARD") -> str | None:
        decision = decide(configuration, facts(storage_class=present), after(days))
        return None if decision is None else decision.storage_class

    assert [moved(days) for days in (29, 31, 91, 181)] == [None, "STANDARD_IA", "GLACIER", "DEEP_ARCHIVE"]
    assert moved(31, "STANDARD_IA") is None
    assert moved(31, "DEEP_ARCHIVE") is None
    assert moved(91, "STANDARD_IA") == "GLACIER"


def test_a_class_that_aws_does_not_know_is_reached_from_anywhere_and_left_by_none_but_a_later_rule() -> None:
    configuration = read(rule(Transitions=[{"Days": 1, "StorageClass": "COLD"}]))
    assert decide(configuration, facts(storage_class="DEEP_ARCHIVE"), after(9)) == Decision("move", "r", "COLD")
    assert decide(configuration, facts(storage_class="COLD"), after(9)) is None


@pytest.mark.parametrize(
    ("minimum_size", "storage_class", "found", "moved"),
    [
        (None, "GLACIER", {}, False),
        ("varies_by_storage_class", "GLACIER", {}, True),
        ("varies_by_storage_class", "COLD", {}, False),
        (None, "GLACIER", {"ObjectSizeGreaterThan": 10}, True),
        (None, "GLACIER", {"Prefix": "logs"}, False),
    ],
)
def test_small_objects_are_moved_only_where_a_rule_says_so(
    minimum_size: str | None, storage_class: str, found: dict[str, Any], moved: bool
) -> None:
    transition = [{"Days": 1, "StorageClass": storage_class}]
    configuration = read(rule(Filter=found, Transitions=transition), minimum_size=minimum_size)
    assert (decide(configuration, facts(size=SMALL - 1), after(9)) is not None) is moved
    assert decide(configuration, facts(size=SMALL), after(9)) is not None


def test_noncurrent_versions_move_and_their_markers_do_not() -> None:
    moves = [{"NoncurrentDays": 1, "StorageClass": "GLACIER", "NewerNoncurrentVersions": 1}]
    configuration = read(rule(NoncurrentVersionTransitions=moves))
    version = facts(**NONCURRENT, noncurrent_ms=MADE_MS, newer_noncurrent=1)
    assert decide(configuration, version, after(9)) == Decision("move", "r", "GLACIER")
    assert decide(configuration, version._replace(newer_noncurrent=0), after(9)) is None
    assert decide(configuration, version._replace(is_marker=True, size=0), after(9)) is None
    assert decide(configuration, facts(versioned=True), after(9)) is None


def test_an_upload_is_aborted_by_the_first_rule_for_its_key() -> None:
    configuration = read(
        rule(ID="week", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}),
        rule(ID="day", Filter={"Prefix": "logs/"}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}),
    )
    assert abort_at(configuration, "logs/a", MADE_MS) == (due_ms(MADE_MS, 1), "day")
    assert abort_at(configuration, "other", MADE_MS) == (due_ms(MADE_MS, 7), "week")
    assert abort_at(read(rule(**EXPIRE_3)), "other", MADE_MS) is None


def test_only_keys_that_some_rule_is_for_are_walked() -> None:
    def walked(*found: str) -> tuple[bytes, ...]:
        return prefixes(read(*(rule(ID=f"r{number}", Filter={"Prefix": prefix}, **EXPIRE_3) for number, prefix in enumerate(found))))

    assert walked("b/", "a/", "a/x", "a/") == (b"a/", b"b/")
    assert walked("b/", "") == (b"",)
    assert prefixes(read(rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}))) == ()
    assert prefixes(read(rule(Status="Disabled", **EXPIRE_3))) == ()


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Rules of all kinds whose days are few, so that much is due."""
    days = st.integers(1, 6)
    actions: list[dict[str, Any]] = [
        {"Expiration": {"Days": draw(days)}},
        {"Expiration": {"Date": datetime(2014, 1, 10 + draw(days), tzinfo=UTC)}},
        {"Expiration": {"ExpiredObjectDeleteMarker": True}},
        {"Transitions": [{"Days": draw(days), "StorageClass": "GLACIER"}]},
        {"Transitions": [{"Days": draw(days), "StorageClass": "GLACIER"}], "Expiration": {"Days": 7}},
        {"NoncurrentVersionExpiration": {"NoncurrentDays": draw(days), "NewerNoncurrentVersions": draw(days)}},
        {"NoncurrentVersionTransitions": [{"NoncurrentDays": draw(days), "StorageClass": "COLD"}]},
    ]
    chosen = draw(st.lists(st.sampled_from(actions), min_size=1, max_size=4))
    return read(*(rule(ID=str(number), **action) for number, action in enumerate(chosen)))


def test_a_horizon_is_that_of_the_first_thing_that_any_rule_does() -> None:
    several = rule(Transitions=[{"Days": 2, "StorageClass": "GLACIER"}], Expiration={"Days": 7})
    noncurrent = rule(ID="n", NoncurrentVersionExpiration={"NoncurrentDays": 4})
    assert horizons(read(several, noncurrent), 100) == (98 * DAY_MS, 96 * DAY_MS, 93 * DAY_MS)
    assert horizons(read(noncurrent), 100) == (NEVER, 96 * DAY_MS, NEVER)


AGES = st.tuples(st.integers(0, 10), st.sampled_from([0, 1, DAY_MS // 2])).map(lambda age: age[0] * DAY_MS + age[1])


@given(configurations(), AGES, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3))
def test_nothing_behind_its_horizon_is_ever_due(
    configuration: Configuration, age_ms: int, latest: bool, marker: bool, versioned: bool, newer: int
) -> None:
    now_ms = MADE_MS + age_ms
    found = horizons(configuration, now_ms // DAY_MS)
    horizon = found.noncurrent_ms if not latest else found.marker_ms if marker else found.current_ms
    version = facts(is_latest=latest, is_marker=marker, versioned=versioned, is_alone=latest, noncurrent_ms=MADE_MS, newer_noncurrent=newer)
    if decide(configuration, version, now_ms) is not None:
        assert horizon > MADE_MS
    assert horizon >= NEVER
