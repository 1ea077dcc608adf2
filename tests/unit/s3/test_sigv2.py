"""Presigned URLs of Signature Version 2, as botocore makes them and as its description has them."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.routing import Router
from proxy.s3.sigv2 import _SIGNED_SUBRESOURCES, parse_presigned, verify_presigned

from .samples import MODEL

SECRET = "secret"
NOW_MS = 1_700_000_000_000
NOW_S, WEEK_S = NOW_MS // 1000, 7 * 24 * 3600
EXPIRES = "1700000060"


def signed(text: str, *query: tuple[str, str]) -> list[tuple[str, str]]:
    """Return a query signed over `text`, in which the moment it ends is left out."""
    signature = b64encode(hmac.digest(SECRET.encode(), text.replace("EXPIRES", EXPIRES).encode(), "sha1")).decode()
    return [*query, ("AWSAccessKeyId", "key"), ("Signature", signature), ("Expires", EXPIRES)]


def check(method: str, resource: str, query: Sequence[tuple[str, str]], headers: dict[str, str] | None = None) -> None:
    claim = parse_presigned(query, NOW_MS)
    assert claim is not None
    assert claim.access_key == "key"
    verify_presigned(claim, SECRET, method=method, resource=resource, query=query, headers=headers or {})


def refused(code: str, method: str, resource: str, query: Sequence[tuple[str, str]], headers: dict[str, str] | None = None) -> None:
    with pytest.raises(S3Error) as caught:
        check(method, resource, query, headers)
    assert caught.value.code == code


def test_values_are_signed_as_they_are_once_decoded() -> None:
    value = "attachment; filename*=UTF-8''%C3%A9.pdf"
    text = f"GET\n\n\nEXPIRES\n/bucket/k?response-content-disposition={value}&versionId=v"
    check("GET", "/bucket/k", signed(text, ("versionId", "v"), ("response-content-disposition", value)))
    refused("SignatureDoesNotMatch", "GET", "/bucket/k", signed(text, ("versionId", "v"), ("response-content-disposition", "other")))


def test_spaces_within_a_header_are_kept_and_those_around_it_are_not() -> None:
    text = "PUT\n\n\nEXPIRES\nx-amz-meta-a:one  two\n/bucket/k"
    check("PUT", "/bucket/k", signed(text, ("x-amz-meta-a", " one  two ")))
    check("PUT", "/bucket/k", signed(text), {"x-amz-meta-a": "one  two"})
    refused("SignatureDoesNotMatch", "PUT", "/bucket/k", signed(text), {"x-amz-meta-a": "one two"})


def test_a_header_counts_before_the_parameter_that_stands_for_it() -> None:
    text = "PUT\nbWQ1\na/b\nEXPIRES\nx-amz-acl:private\n/bucket/k"
    query = signed(text, ("content-md5", "bWQ1"), ("Content-Type", "a/b"), ("X-Amz-Acl", "private"))
    check("PUT", "/bucket/k", query)
    for name in ("content-md5", "content-type", "x-amz-acl"):
        refused("SignatureDoesNotMatch", "PUT", "/bucket/k", query, {name: "other"})


@pytest.mark.parametrize("written", ["/bucket", "/bucket/"])
@pytest.mark.parametrize("sent", ["/bucket", "/bucket/"])
def test_a_bucket_is_signed_with_or_without_a_slash(written: str, sent: str) -> None:
    check("GET", sent, signed(f"GET\n\n\nEXPIRES\n{written}"))
    refused("SignatureDoesNotMatch", "GET", "/other", signed(f"GET\n\n\nEXPIRES\n{written}"))


@pytest.mark.parametrize(("written", "sent"), [("/b/k", "/b/k/"), ("/b/k/", "/b/k"), ("/b/", "/b//"), ("/b//", "/b/"), ("/", "//")])
def test_a_slash_of_a_key_is_part_of_it(written: str, sent: str) -> None:
    refused("SignatureDoesNotMatch", "GET", sent, signed(f"GET\n\n\nEXPIRES\n{written}"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("x-amz-copy-source", "a"), ("x-amz-copy-source", "b")),
        (("x-amz-copy-source", "a"), ("X-Amz-Copy-Source", "b")),
        (("content-type", "a"), ("Content-Type", "b")),
        (("versionId", "a"), ("versionId", "b")),
        (("torrent", ""), ("torrent", "")),
        (("AWSAccessKeyId", "other"), ("x", "")),
        (("Expires", "1"), ("x", "")),
        (("Signature", "s"), ("x", "")),
        (("X-Amz-Signature", "s"), ("x", "")),
        (("x-amz-algorithm", "s"), ("x", "")),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_what_is_signed_is_given_once(first: tuple[str, str], second: tuple[str, str], *, behind: bool) -> None:
    query = signed("PUT\n\n\nEXPIRES\n/b/k")
    refused("InvalidArgument", "PUT", "/b/k", [*query, first, second] if behind else [first, second, *query])


@pytest.mark.parametrize(
    ("expires", "good"),
    [
        (f"{NOW_S}", True),
        (f"{NOW_S - 1}", False),
        (f"{NOW_S + WEEK_S}", True),
        (f"{NOW_S + WEEK_S + 1}", False),
        ("9" * 15, False),
        ("9" * 5000, False),
        ("-1", False),
        ("soon", False),
        ("", False),
    ],
)
def test_an_address_lives_until_it_says_and_for_a_week_at_most(expires: str, good: bool) -> None:
    signature = b64encode(hmac.digest(SECRET.encode(), f"GET\n\n\n{expires}\n/b/k".encode(), "sha1")).decode()
    query = [("AWSAccessKeyId", "key"), ("Signature", signature), ("Expires", expires)]
    if good:
        check("GET", "/b/k", query)
    else:
        refused("AccessDenied", "GET", "/b/k", query)


def test_a_session_token_is_claimed_where_it_is_signed() -> None:
    text = "GET\n\n\nEXPIRES\nx-amz-security-token:t\n/b/k"
    query = signed(text, ("x-amz-security-token", "t"))
    check("GET", "/b/k", query)
    claim = parse_presigned(query, NOW_MS)
    assert claim is not None
    assert claim.security_token == "t"
    refused("InvalidToken", "GET", "/b/k", signed("GET\n\n\nEXPIRES\n/b/k"), {"x-amz-security-token": "t"})


def test_no_operation_can_be_made_another_by_a_parameter_that_is_not_signed() -> None:
    assert Router(MODEL)._subresources <= _SIGNED_SUBRESOURCES
