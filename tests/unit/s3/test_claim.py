"""Claims: what can be read of a sender, and what is refused before any secret is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.s3.claim import format_timestamp, parse_authorization
from proxy.s3.errors import S3Error

from .docs import DOCS_HOST, DOCS_PRESIGNED, EMPTY_SHA256, docs_headers


def refused(code: str, query: list[tuple[str, str]], headers: Mapping[str, str]) -> None:
    with pytest.raises(S3Error) as caught:
        parse_authorization(headers, query)
    assert caught.value.code == code


def test_http_date_stands_in_for_amz_date() -> None:
    headers = docs_headers("host;x-amz-content-sha256", "0" * 64, date="Fri, 24 May 2013 00:00:00 GMT")
    del headers["x-amz-date"]

    claim = parse_authorization(headers, [])

    assert claim is not None
    assert format_timestamp(claim.timestamp) == "20130524T000000Z"


def test_anonymous_requests_have_no_claim() -> None:
    assert parse_authorization({"host": "h"}, [("acl", "")]) is None


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("AWS AKID:signature", "InvalidRequest"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", "InvalidRequest"),
        ("Bearer token", "InvalidArgument"),
        ("", "InvalidArgument"),
        ("AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 nonsense", "AuthorizationHeaderMalformed"),
    ],
)
def test_other_authorizations_are_refused(authorization: str, code: str) -> None:
    refused(code, [], {"host": "h", "authorization": authorization})


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("Signature=0", "Signature=g", "AuthorizationHeaderMalformed"),
        ("Signature=0", "Signature=00", "AuthorizationHeaderMalformed"),
        ("Signature=0", "Signature=\xff", "AuthorizationHeaderMalformed"),
        ("/us-east-1/", "/\xff/", "AuthorizationHeaderMalformed"),
        ("/us-east-1/", "//", "AuthorizationHeaderMalformed"),
        ("/20130524/", "/20130525/", "AuthorizationHeaderMalformed"),
        ("/20130524/", "/2013/", "AuthorizationHeaderMalformed"),
        ("/s3/", "/sqs/", "AuthorizationHeaderMalformed"),
        ("aws4_request", "aws4", "AuthorizationHeaderMalformed"),
        ("SignedHeaders=host", "SignedHeaders=;host", "AuthorizationHeaderMalformed"),
        ("SignedHeaders=host;", "SignedHeaders=host;host;", "AuthorizationHeaderMalformed"),
        ("SignedHeaders=", "Signed=", "AuthorizationHeaderMalformed"),
        ("SignedHeaders=", "Signature=a,SignedHeaders=", "AuthorizationHeaderMalformed"),
        ("Signature=", f"Signature={'1' * 64}, OtherSignature=", "AuthorizationHeaderMalformed"),
        ("Signature=", "OtherSignature=", "AuthorizationHeaderMalformed"),
    ],
)
def test_malformed_headers_are_refused(old: str, new: str, code: str) -> None:
    headers = docs_headers("host;x-amz-content-sha256;x-amz-date", "0" * 64)
    headers["authorization"] = headers["authorization"].replace(old, new)

    refused(code, [], headers)


@pytest.mark.parametrize("date", ["", "20130524", "20139924T000000Z", "yesterday", "Fri, 99 May 2013 00:00:00 GMT"])
def test_unreadable_dates_are_refused(date: str) -> None:
    refused("AccessDenied", [], docs_headers("host", "0" * 64, x_amz_date=date))


@pytest.mark.parametrize(
    ("value", "code"),
    [("", "InvalidArgument"), ("abc", "InvalidArgument"), ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "InvalidRequest")],
)
def test_unknown_payload_hashes_are_refused(value: str, code: str) -> None:
    refused(code, [], docs_headers("host", "0" * 64, x_amz_content_sha256=value))


def test_missing_payload_hash_is_refused() -> None:
    headers = docs_headers("host", "0" * 64)
    del headers["x-amz-content-sha256"]

    refused("InvalidRequest", [], headers)


@pytest.mark.parametrize("name", [name for name, _ in DOCS_PRESIGNED])
def test_presigned_url_lacking_or_repeating_a_parameter_is_refused(name: str) -> None:
    lacking = [pair for pair in DOCS_PRESIGNED if pair[0] != name]
    repeating = [*DOCS_PRESIGNED, next(pair for pair in DOCS_PRESIGNED if pair[0] == name)]

    refused("AuthorizationQueryParametersError", lacking, {"host": DOCS_HOST})
    refused("AuthorizationQueryParametersError", repeating, {"host": DOCS_HOST})


@pytest.mark.parametrize("name", ["x-amz-signature", "x-amz-acl"])
def test_a_parameter_that_stands_for_a_header_is_given_once_in_any_case(name: str) -> None:
    repeating = [*DOCS_PRESIGNED, (name, "a"), (name.title(), "b")]

    refused("AuthorizationQueryParametersError", repeating, {"host": DOCS_HOST})


def test_two_mechanisms_at_once_are_refused() -> None:
    refused("InvalidArgument", DOCS_PRESIGNED, docs_headers("host", "0" * 64))
    refused("InvalidArgument", [("AWSAccessKeyId", "a"), ("Signature", "b")], docs_headers("host", "0" * 64))


def test_sigv2_query_is_refused() -> None:
    refused("InvalidRequest", [("AWSAccessKeyId", "a"), ("Signature", "b"), ("Expires", "1")], {"host": "h"})


def test_presigned_payload_hash_is_taken_from_the_query() -> None:
    query = [*DOCS_PRESIGNED, ("X-Amz-Content-Sha256", EMPTY_SHA256)]

    claim = parse_authorization({"host": "h"}, query)

    assert claim is not None
    assert claim.payload_hash == EMPTY_SHA256
