"""CORS rules: what may be put, and which requests match."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.cors import MAX_REQUESTED_HEADERS, cors_document, cross_origin_headers, parse_rules, preflight_headers
from proxy.s3.errors import S3Error
from proxy.s3.routing import Target

OBJECT = Target("bucket", "key")


def rule(**members: object) -> dict[str, object]:
    return {"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://a.test"], **members}


def answer(headers: dict[str, str], *rules: dict[str, object], method: str = "GET") -> dict[str, str]:
    return cross_origin_headers(parse_rules(cors_document(rules)), method, headers)


def refusal(*rules: dict[str, object]) -> tuple[str, str]:
    with pytest.raises(S3Error) as caught:
        cors_document(rules)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"AllowedMethods": ["PATCH"]}, "InvalidRequest", "Found unsupported HTTP method in CORS config. Unsupported method is PATCH"),
        ({"AllowedMethods": ["get"]}, "InvalidRequest", "Unsupported method is get"),
        ({"AllowedOrigins": ["*a*"]}, "InvalidRequest", 'AllowedOrigin "*a*" can not have more than one wildcard.'),
        ({"AllowedHeaders": ["x-*-*"]}, "InvalidRequest", 'AllowedHeader "x-*-*" can not have more than one wildcard.'),
        ({"ExposeHeaders": ["*"]}, "InvalidRequest", 'ExposeHeader "*" contains wildcard.'),
        ({"ExposeHeaders": ["a\r\nb: c"]}, "InvalidRequest", "is no name of a header"),
        ({"ID": "i" * 256}, "InvalidRequest", "ID length should not exceed allowed limit of 255"),
        ({"MaxAgeSeconds": -1}, "MalformedXML", ""),
        ({"MaxAgeSeconds": 2**31}, "MalformedXML", ""),
        ({"AllowedOrigins": []}, "MalformedXML", ""),
    ],
)
def test_a_rule_that_s3_refuses_is_refused_in_its_words(members: dict[str, object], code: str, words: str) -> None:
    found = refusal(rule(), rule(**members))
    assert found[0] == code
    assert words in found[1]


def test_a_configuration_has_between_one_and_a_hundred_rules_in_64_kib() -> None:
    assert refusal()[0] == "MalformedXML"
    assert len(json.loads(cors_document([rule()] * 100))) == 100
    assert refusal(*[rule()] * 101)[0] == "InvalidRequest"
    assert refusal(rule(AllowedOrigins=["o" * 65536]))[0] == "MaxMessageLengthExceeded"


def test_what_is_kept_is_what_was_put() -> None:
    rules = [rule(ID="one", AllowedHeaders=["X-Amz-*"], ExposeHeaders=["ETag"], MaxAgeSeconds=0), rule(AllowedOrigins=["", "ü*"])]
    assert json.loads(cors_document(rules)) == rules


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("https://a.test", ["https://a.test"], ["http://a.test", "https://a.test:443", "https://A.test", "https://a.test/"]),
        ("http://*.a.test", ["http://b.a.test", "http://b.c.a.test", "http://.a.test"], ["http://a.test", "http://b.a.test/"]),
        ("start*end", ["startend", "start1end"], ["start", "0start12end", "startend0", "starend"]),
        ("aba*aba", ["abaaba"], ["aba", "abaab"]),
        ("*", ["anything", "null", ""], []),
    ],
)
def test_a_wildcard_stands_for_any_text_and_everything_else_for_itself(pattern: str, matching: list[str], others: list[str]) -> None:
    assert [one for one in [*matching, *others] if answer({"origin": one}, rule(AllowedOrigins=[pattern]))] == matching


def test_the_first_rule_that_matches_makes_the_answer() -> None:
    rules = (
        rule(AllowedOrigins=["https://b.test"], MaxAgeSeconds=1),
        rule(AllowedMethods=["DELETE"], MaxAgeSeconds=2),
        rule(MaxAgeSeconds=3, ExposeHeaders=["ETag", "x-amz-meta-a"]),
        rule(MaxAgeSeconds=4),
    )
    assert answer({"origin": "https://a.test"}, *rules) == {
        "Access-Control-Allow-Origin": "https://a.test",
        "Access-Control-Allow-Methods": "GET, PUT",
        "Access-Control-Expose-Headers": "ETag, x-amz-meta-a",
        "Access-Control-Max-Age": "3",
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }


def test_any_origin_is_told_as_such_and_never_with_credentials() -> None:
    told = answer({"origin": "https://b.test"}, rule(AllowedOrigins=["https://b.test", "*"]))
    assert told["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in told


def test_requested_headers_match_in_any_case_and_all_of_them() -> None:
    allowing = rule(AllowedHeaders=["X-Amz-Meta-*", "content-type"])
    asked = {"origin": "https://a.test", "access-control-request-headers": "Content-Type, x-AMZ-meta-A,,content-type"}
    assert answer(asked, allowing)["Access-Control-Allow-Headers"] == "content-type, x-amz-meta-a"
    assert answer(asked | {"access-control-request-headers": "content-type,x-amz-acl"}, allowing) == {}
    assert answer(asked, rule()) == {}


def test_more_headers_than_any_browser_asks_for_match_nothing() -> None:
    names = ",".join(f"h{number}" for number in range(MAX_REQUESTED_HEADERS + 1))
    assert answer({"origin": "https://a.test", "access-control-request-headers": names}, rule(AllowedHeaders=["*"])) == {}


def test_the_method_that_is_asked_for_counts_more_than_the_requests_own() -> None:
    asked = {"origin": "https://a.test", "access-control-request-method": "DELETE"}
    assert answer(asked, rule(), method="GET") == {}
    assert answer(asked | {"access-control-request-method": "GET"}, rule(), method="DELETE")


@pytest.mark.parametrize(
    ("headers", "code", "words"),
    [
        ({}, "BadRequest", "Insufficient information. Origin request header needed."),
        ({"origin": "o"}, "BadRequest", "Invalid Access-Control-Request-Method: null"),
        ({"origin": "o", "access-control-request-method": "OPTIONS"}, "BadRequest", "Invalid Access-Control-Request-Method: OPTIONS"),
        ({"origin": "o", "access-control-request-method": "GET"}, "AccessForbidden", "CORSResponse: This CORS request is not allowed."),
    ],
)
def test_a_preflight_is_refused_in_s3s_words(headers: dict[str, str], code: str, words: str) -> None:
    with pytest.raises(S3Error) as caught:
        preflight_headers(parse_rules(cors_document([rule()])), OBJECT, headers)
    assert caught.value.code == code
    assert caught.value.message.startswith(words)


def test_a_refused_preflight_names_method_and_kind_of_resource() -> None:
    asked = {"origin": "o", "access-control-request-method": "PUT"}
    for rules, target, kind in (((), OBJECT, "OBJECT"), ((), Target("bucket", None), "BUCKET"), (None, OBJECT, "BUCKET")):
        with pytest.raises(S3Error) as caught:
            preflight_headers(rules, target, asked)
        assert caught.value.details == {"Method": "PUT", "ResourceType": kind}


TEXT = st.text(max_size=12)
RULES = st.lists(
    st.fixed_dictionaries(
        {"AllowedMethods": st.lists(st.sampled_from(["GET", "PUT", "PATCH", ""]) | TEXT), "AllowedOrigins": st.lists(TEXT)},
        optional={
            "ID": TEXT,
            "AllowedHeaders": st.lists(TEXT),
            "ExposeHeaders": st.lists(TEXT),
            "MaxAgeSeconds": st.integers(),
        },
    ),
    max_size=4,
)


@given(RULES, TEXT, TEXT, TEXT)
def test_any_rules_are_refused_or_kept_and_no_answer_of_theirs_ends_a_header(
    rules: list[dict[str, object]], origin: str, method: str, names: str
) -> None:
    try:
        document = cors_document(rules)
    except S3Error:
        return
    assert json.loads(document) == rules
    origin, names = (text.replace("\r", "").replace("\n", "") for text in (origin, names))
    headers = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": names}
    told = cross_origin_headers(parse_rules(document), "GET", headers)
    assert not any("\r" in value or "\n" in value for value in told.values())
