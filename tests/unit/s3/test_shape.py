"""Shapes: what is read of a head by its shape is what the long way reads of it, and nothing fits that is not quite alike."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.claim import parse_authorization
from proxy.s3.request import read_headers, read_query
from proxy.s3.shape import Shape, shape_of
from proxy.s3.sigv4 import canonical_request
from tests.blackbox.signer import UNSIGNED, Signer

SIGNER = Signer("SHAPEKEYSHAPEKEY1234", "shapesecret", host="h:9000")
WHEN = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)


def head(
    method: str = "GET",
    path: str = "/b/k",
    query: str = "",
    *,
    more: dict[str, str] | None = None,
    unsigned: dict[str, str] | None = None,
    when: datetime = WHEN,
    payload: str = UNSIGNED,
) -> str:
    """Return the head of a signed request; `more` is signed, too."""
    headers = SIGNER.sign(method, path, read_query(query), more or {}, payload_hash=payload, when=when).headers
    target = f"{path}?{query}" if query else path
    lines = [f"{method} {target} HTTP/1.1", *[f"{name.title()}: {value}" for name, value in {**headers, **(unsigned or {})}.items()]]
    return "\r\n".join([*lines, "", ""])


def shape(text: str) -> Shape | None:
    headers = headers_of(text)
    claim = parse_authorization(headers, read_query(text.split()[1].partition("?")[2]))
    assert claim is not None
    return shape_of(text, claim)


def headers_of(text: str) -> dict[str, str]:
    return read_headers((line.partition(":")[0], line.partition(":")[2].strip()) for line in text.split("\r\n")[1:] if line)


words = st.text("abcXYZ019-._~%/+=", min_size=1, max_size=20)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
moments = st.datetimes(min_value=datetime(2026, 11, 26), max_value=datetime(2026, 11, 26, 23, 59), timezones=st.just(UTC))
changes = st.fixed_dictionaries({"x-amz-meta-a": values, "x-amz-meta-100%": values, "range": values, "x-amz-checksum-crc32": values}).map(
    lambda some: dict(sorted(some.items()))
)


@given(first=st.tuples(words, changes, moments), second=st.tuples(words, changes, moments), method=st.sampled_from(["GET", "PUT", "HEAD"]))
def test_a_shape_reads_what_the_long_way_reads(
    first: tuple[str, dict[str, str], datetime], second: tuple[str, dict[str, str], datetime], method: str
) -> None:
    always = {"user-agent": "a  client/1.0 (100% %s)", "amz-sdk-invocation-id": "x"}
    one, other = (
        head(method, f"/b/{path}", "x-id=Do", more=more, unsigned=always, when=when, payload=UNSIGNED)
        for path, more, when in (first, second)
    )
    found = shape(one)
    assert found is not None
    read = found.read(other)
    assert read is not None
    raw_path = f"/b/{second[0]}"
    assert read.raw_path == f"{raw_path}?x-id=Do"
    assert list(read.headers.items()) == list(headers_of(other).items())
    claim = parse_authorization(read.headers, found.query)
    assert claim is not None
    assert found.claim(read.headers) == claim
    long = canonical_request(claim, method=method, raw_path=raw_path, query=[("x-id", "Do")], headers=headers_of(other))
    assert found.canonical_request(raw_path, read.headers, claim.payload_hash) == long


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GET ", "PUT "), ("/b/k ", "/b/k?acl "), ("/b/k ", "/b/k  "), ("/b/k ", "/b/\xe4 "), ("/b/k ", '/b/" '), ("/b/k ", "/b/k#x "),
        ("/b/k ", "http://h/b/k "), (" HTTP/1.1", " HTTP/1.0"), ("Host: h", "Host:  h"), ("Host: h", "Host : h"), ("Host: h", "host: h"),
        ("\r\nRange", "\nRange"), ("\r\nRange", "\r\n Range"), ("bytes=0-3", "bytes=0-3 "), ("bytes=0-3", ""), ("bytes=0-3", "a\tb"),
        ("bytes=0-3", "a b"), ("bytes=0-3", "a\x00b"), ("bytes=0-3", "a\rb"), ("bytes=0-3", "a\nb"), ("bytes=0-3", "\xe4"),
        ("bytes=0-3", "a\r\nX: y"), ("Length: 5", "Length: 5, 6"), ("Length: 5", "Length: -5"), ("Length: 5", "Length: +5"),
        ("Length: 5", "Length: 0x5"), ("Length: 5", "Length: 123456"), ("Length: 5\r\n", "Length: 5\r\nContent-Length: 5\r\n"),
        ("Length: 5\r\n", "Length: 5\r\nTransfer-Encoding: chunked\r\n"), ("us-east-1", "eu-west-1"), ("Signature=", "Signature=a"),
        ("SHAPEKEY", "shapekey"), ("\r\n\r\n", "\r\n"), ("\r\n\r\n", "\r\n\r\n\r\n"), ("\r\n\r\n", "\r\nX: y\r\n\r\n"),
    ],
)  # fmt: skip
def test_nothing_fits_that_differs_elsewhere(old: str, new: str) -> None:
    text = head(unsigned={"content-length": "5", "range": "bytes=0-3"})
    found = shape(text)
    assert found is not None
    assert found.read(text) is not None
    assert text.count(old) >= 1
    assert found.read(text.replace(old, new, 1)) is None


@pytest.mark.parametrize(
    "text",
    [
        head("POST"),
        head(path="/b/\xe4"),
        head(query="versionId=1"),
        head(query="x-id=a&acl="),
        head(unsigned={"x": ""}),
        head(unsigned={"x": "\xe4"}),
        head(unsigned={"x": "a\tb"}),
        head().replace("Host: ", "Host:"),
        head().replace("\r\n\r\n", "\r\nX: a\r\nx: b\r\n\r\n"),
        head(more={"x-amz-server-side-encryption-customer-key": "c2VjcmV0"}),
    ],
)
def test_whatever_is_unusual_or_secret_has_no_shape(text: str) -> None:
    assert shape(text) is None


def test_a_signature_that_does_not_end_its_header_has_no_shape() -> None:
    text = head()
    terms, signature = text.partition("Signature=")[::2]
    signature = signature.partition("\r\n")[0]
    moved = text.replace(f", Signature={signature}", "").replace("Credential=", f"Signature={signature}, Credential=")
    assert terms != moved
    assert shape(moved) is None
