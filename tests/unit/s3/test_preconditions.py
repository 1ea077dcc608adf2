"""Preconditions in RFC 9110's order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.preconditions import ReadConditions, check_copy_source, check_read, matches, range_still_holds

ETAG = "9bb58f26192e4ba00f01e2e7b136bbd8"
MODIFIED = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)
VERSION: dict[str, Any] = {
    "etag": ETAG,
    "modified_ms": int(MODIFIED.timestamp() * 1000) + 789,
    "now_ms": int(MODIFIED.timestamp() * 1000) + 1500,
}
SAME, OTHER = f'"{ETAG}"', '"other"'
BEFORE, AFTER, FUTURE = MODIFIED - timedelta(seconds=1), MODIFIED + timedelta(seconds=1), MODIFIED + timedelta(seconds=2)

HOLDING: list[dict[str, Any]] = [
    {},
    {"if_match": SAME},
    {"if_match": ETAG},
    {"if_match": "*"},
    {"if_match": f"{OTHER}, {SAME}"},
    {"if_none_match": OTHER},
    {"if_unmodified_since": MODIFIED},
    {"if_unmodified_since": AFTER},
    {"if_unmodified_since": MODIFIED.replace(tzinfo=None)},
    {"if_modified_since": BEFORE},
    {"if_modified_since": FUTURE},
    {"if_match": SAME, "if_unmodified_since": BEFORE},
    {"if_none_match": OTHER, "if_modified_since": AFTER},
]
FAILING: list[tuple[dict[str, Any], str]] = [
    ({"if_match": OTHER}, "If-Match"),
    ({"if_match": ""}, "If-Match"),
    ({"if_match": f"W/{SAME}"}, "If-Match"),
    ({"if_match": OTHER, "if_unmodified_since": AFTER}, "If-Match"),
    ({"if_match": OTHER, "if_none_match": SAME}, "If-Match"),
    ({"if_unmodified_since": BEFORE}, "If-Unmodified-Since"),
    ({"if_unmodified_since": BEFORE, "if_modified_since": AFTER}, "If-Unmodified-Since"),
]
UNWANTED: list[tuple[dict[str, Any], str]] = [
    ({"if_none_match": SAME}, "If-None-Match"),
    ({"if_none_match": ETAG}, "If-None-Match"),
    ({"if_none_match": f"W/{SAME}"}, "If-None-Match"),
    ({"if_none_match": "*"}, "If-None-Match"),
    ({"if_none_match": SAME, "if_modified_since": BEFORE}, "If-None-Match"),
    ({"if_match": SAME, "if_none_match": SAME}, "If-None-Match"),
    ({"if_modified_since": MODIFIED}, "If-Modified-Since"),
    ({"if_modified_since": AFTER}, "If-Modified-Since"),
]


@pytest.mark.parametrize("conditions", HOLDING)
def test_conditions_that_hold(conditions: dict[str, Any]) -> None:
    check_read(ReadConditions(**conditions), **VERSION)
    check_copy_source(ReadConditions(**conditions), **VERSION)


@pytest.mark.parametrize(("conditions", "name"), FAILING)
def test_conditions_that_fail(conditions: dict[str, Any], name: str) -> None:
    with pytest.raises(S3Error) as read:
        check_read(ReadConditions(**conditions), **VERSION)
    with pytest.raises(S3Error) as copied:
        check_copy_source(ReadConditions(**conditions), **VERSION)

    assert (read.value.code, read.value.status, read.value.details) == ("PreconditionFailed", 412, {"Condition": name})
    assert (copied.value.status, copied.value.details) == (412, {"Condition": f"x-amz-copy-source-{name}"})


@pytest.mark.parametrize(("conditions", "name"), UNWANTED)
def test_what_the_client_has_is_not_sent_again_and_not_copied(conditions: dict[str, Any], name: str) -> None:
    with pytest.raises(S3Error) as read:
        check_read(ReadConditions(**conditions), **VERSION)
    with pytest.raises(S3Error) as copied:
        check_copy_source(ReadConditions(**conditions), **VERSION)

    assert (read.value.code, read.value.status) == ("NotModified", 304)
    assert read.value.headers == {"ETag": SAME, "Last-Modified": "Thu, 29 Feb 2024 12:00:00 GMT"}
    assert (copied.value.status, copied.value.details) == (412, {"Condition": f"x-amz-copy-source-{name}"})


def test_tags_with_commas_and_dashes() -> None:
    assert matches('"a,b", "abc-2"', "abc-2")
    assert matches('"a,b"', "a,b")
    assert not matches('"a,b"', "a")


@pytest.mark.parametrize(
    ("if_range", "holds"),
    [
        (None, True),
        (SAME, True),
        (SAME.strip('"'), True),
        ('"another"', False),
        (f"W/{SAME}", False),  # RFC 9110, section 13.1.5: the comparison is strong
        ("Thu, 29 Feb 2024 12:00:00 GMT", True),
        ("Thu, 29 Feb 2024 12:00:01 GMT", False),
        ("Thu, 29 Feb 2024 11:59:59 GMT", False),
    ],
)
def test_a_range_counts_only_for_what_the_client_has_a_part_of(if_range: str | None, holds: bool) -> None:
    assert range_still_holds(if_range, VERSION["etag"], VERSION["modified_ms"]) == holds
