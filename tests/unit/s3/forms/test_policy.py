"""Policies of browser forms: what they may say, and which forms keep to them."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.forms.policy import ANY_SIZE, parse_policy

EXPIRATION = "2030-01-01T00:00:00.000Z"
EXPIRES_MS = int(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1000)


def encoded(document: object) -> str:
    return b64encode(json.dumps(document).encode()).decode()


def policy(*conditions: object, expiration: object = EXPIRATION) -> str:
    return encoded({"expiration": expiration, "conditions": [{"bucket": "b"}, *conditions]})


def verdict(text: str, fields: dict[str, str] | None = None, *, bucket: str = "b", now_ms: int = 0) -> tuple[str, str]:
    sent = fields or {}
    try:
        parsed = parse_policy(text)
        parsed.check(
            {name.lower(): value for name, value in sent.items()}, {name.lower(): name for name in sent}, bucket=bucket, now_ms=now_ms
        )
    except S3Error as error:
        return error.code, error.message
    return "", ""


def against(fault: str) -> tuple[str, str]:
    return "AccessDenied", f"Invalid according to Policy: {fault}"


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "Invalid JSON."),
        ({}, "Policy missing expiration."),
        ({"expiration": EXPIRATION}, "Policy missing conditions."),
        ({"EXPIRATION": EXPIRATION, "conditions": []}, "Unexpected: 'expiration'"),
        ({"expiration": EXPIRATION, "conditions": [], "Statement": []}, "Unexpected: 'statement'"),
        ({"expiration": EXPIRATION, "conditions": {}}, "Invalid 'conditions' value: must be a List."),
        ({"expiration": "2030-01-01 00:00:00", "conditions": []}, "Invalid 'expiration' value: '2030-01-01 00:00:00'"),
        ({"expiration": "2030-13-01T00:00:00Z", "conditions": []}, "Invalid 'expiration' value: '2030-13-01T00:00:00Z'"),
        ({"expiration": 7, "conditions": []}, "Invalid 'expiration' value: '7'"),
    ],
)
def test_a_document_that_is_no_policy_is_refused(document: object, fault: str) -> None:
    assert verdict(encoded(document)) == ("InvalidPolicyDocument", f"Invalid Policy: {fault}")


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        ({}, "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."),
        ({"key": "k", "acl": "private"}, "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."),
        ({"key": 7}, "Invalid Simple-Condition: value must be a string."),
        ({"key": None}, "Invalid JSON."),
        ([], "Invalid Condition: missing operation identifier."),
        (["in", "$key", "k"], "Invalid Condition: unknown operation 'in'."),
        (["eq", "$key"], "Invalid eq: wrong number of arguments."),
        (["starts-with", "$key", "a", "b"], "Invalid starts-with: wrong number of arguments."),
        (["eq", "$key", 7], "Invalid JSON."),
        (["content-length-range", 0], "Invalid content-length-range: wrong number of arguments."),
        (["content-length-range", 0, 512.5], "Invalid JSON."),
        ("key", "Invalid condition test: must be a List or Object."),
    ],
)
def test_a_condition_that_is_none_is_refused(condition: object, fault: str) -> None:
    assert verdict(policy(condition)) == ("InvalidPolicyDocument", f"Invalid Policy: {fault}")


@pytest.mark.parametrize(
    ("text", "fault"), [("%%%", "Invalid Base64 encoding."), ("e30", "Invalid Base64 encoding."), ("bm9uZQ==", "Invalid JSON.")]
)
def test_what_is_no_json_in_base64_is_refused(text: str, fault: str) -> None:
    assert verdict(text) == ("InvalidPolicyDocument", f"Invalid Policy: {fault}")


def test_a_document_that_is_nested_without_end_is_refused() -> None:
    assert verdict(b64encode(b"[" * 15_000).decode())[0] == "InvalidPolicyDocument"


@pytest.mark.parametrize("expiration", ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00.000Z", "2030-01-01T00:00:00.000000Z"])
def test_a_policy_is_good_until_its_moment(expiration: str) -> None:
    assert verdict(policy(expiration=expiration), now_ms=EXPIRES_MS - 1) == ("", "")
    assert verdict(policy(expiration=expiration), now_ms=EXPIRES_MS) == against("Policy expired.")


def test_a_policy_is_for_one_bucket_whatever_a_field_says() -> None:
    assert verdict(policy(), {"bucket": "b"}) == ("", "")
    assert verdict(policy(), {"bucket": "b"}, bucket="c") == against('Policy Condition failed: ["eq", "$bucket", "b"]')
    assert verdict(encoded({"expiration": EXPIRATION, "conditions": []})) == against("Extra input fields: bucket")


@pytest.mark.parametrize(
    ("condition", "passing", "failing"),
    [
        ({"key": "a"}, ["a"], ["A", "ab", ""]),
        (["eq", "$Key", "a"], ["a"], ["b"]),
        (["EQ", "$key", ""], [""], ["a"]),
        (["starts-with", "$key", "user/"], ["user/", "user/x"], ["User/x", "use", ""]),
        (["StArTs-WiTh", "$KEY", ""], ["", "anything"], []),
        (["eq", "key", "a"], [], ["a"]),
    ],
)
def test_a_condition_holds_for_the_values_it_names(condition: object, passing: list[str], failing: list[str]) -> None:
    assert [value for value in (*passing, *failing) if verdict(policy(condition), {"key": value}) == ("", "")] == passing


def test_a_failed_condition_is_told_as_the_policy_spells_it() -> None:
    fields = {"Content-Disposition": "x"}
    condition = ["eq", "$Content-Disposition", 'filename="\u00fc"']
    assert verdict(policy(condition), fields) == against('Policy Condition failed: ["eq", "$Content-Disposition", "filename=\\"\u00fc\\""]')
    assert verdict(policy({"X-Amz-Date": "d"}))[1].endswith('["eq", "$X-Amz-Date", "d"]')


def test_every_type_of_a_list_must_begin_as_it_should() -> None:
    condition = ["starts-with", "$Content-Type", "image/"]
    assert verdict(policy(condition), {"content-type": "image/png, image/gif"}) == ("", "")
    assert verdict(policy(condition), {"content-type": "image/png,text/plain"})[0] == "AccessDenied"
    assert verdict(policy(["starts-with", "$key", "image/"]), {"key": "image/png,text"}) == ("", "")


def test_a_condition_on_a_field_that_is_not_there_fails_but_for_encryption_which_buckets_have_by_default() -> None:
    assert verdict(policy(["starts-with", "$Content-Type", ""]))[0] == "AccessDenied"
    assert verdict(policy(["starts-with", "$x-amz-server-side-encryption", ""])) == ("", "")
    assert verdict(policy(["starts-with", "$x-amz-server-side-encryption", "AES"]))[0] == "AccessDenied"
    assert verdict(policy({"x-amz-server-side-encryption": ""}))[0] == "AccessDenied"


def test_each_field_must_be_named_but_for_those_that_sign_check_or_are_ignored() -> None:
    free = {"policy": "p", "Signature": "s", "AWSAccessKeyId": "a", "X-Amz-Signature": "s", "x-ignore-a": "a", "x-amz-checksum-sha256": "c"}
    assert verdict(policy({"key": "k"}), {"key": "k", **free}) == ("", "")
    assert verdict(policy(), {"key": "k", "StorageClass": "s"}) == against("Extra input fields: key, StorageClass")
    assert verdict(policy(["content-length-range", 0, 1]), {"x-amz-date": "d"}) == against("Extra input fields: x-amz-date")


@pytest.mark.parametrize(
    ("ranges", "sizes"),
    [([], ANY_SIZE), ([(5, 10)], (5, 10)), ([("5", "10")], (5, 10)), ([(0, 10), (5, 20)], (5, 10)), ([(-1, 0)], (0, 0))],
)
def test_all_ranges_of_sizes_hold(ranges: list[tuple[object, object]], sizes: tuple[int, int]) -> None:
    assert parse_policy(policy(*(["content-length-range", low, high] for low, high in ranges))).sizes == sizes


def test_a_range_that_is_no_number_fails() -> None:
    assert verdict(policy(["content-length-range", "test", "10"])) == against(
        'Policy Condition failed: ["content-length-range", "test", "10"]'
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["eq", "starts-with", "$key"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["expiration", "conditions", "key", "acl"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.text(max_size=30) | JSON.map(encoded) | st.lists(JSON, max_size=3).map(lambda conditions: policy(*conditions)))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    assert verdict(text, {"key": "k"})[0] in {"", "AccessDenied", "InvalidPolicyDocument"}
