"""Shapes: what the requests of one client have in common is read once.

The problem. A client's heads are nearly all the same: of ten lines three or four differ, and only in their values. To parse such a head, to
find out what it asks for, and to write down what was signed takes half the time of a small request.

The idea. A head that was read and proved once becomes a pattern. All of it is literal, except the path and those values that change from
request to request: a date, a signature, a length. What rests on the literal part alone is known of every head that fits the pattern. A head
that fits none goes the long way, and comes to the same end.

A pattern is strict. What may differ is visible ASCII, in its place on its line. So no head fits that HTTP's parser would read in another
way, refuse, or take for more than one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from proxy.s3.claim import HEX_SHA256, SIGNATURE, Claim, check_scope_date, header_payload_hash, header_timestamp, malformed
from proxy.s3.parsing import META
from proxy.s3.request import read_query
from proxy.s3.sigv4 import canonical_path, canonical_query, trimmed

MAX_SHAPED_SIZE = 4 * 1024  # of a head that is given a shape
_LINE = re.compile(r"([A-Za-z0-9!#$%&'*+\-.^_`|~]+): ([!-~](?:[ -~]*[!-~])?)")  # one space, none at the end
_PATH = r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*"  # RFC 3986, section 3.3
_REQUEST_LINE = re.compile(rf"(GET|HEAD|PUT|DELETE) ({_PATH})(\?x-id=[A-Za-z]+)? HTTP/1\.1")  # some SDKs name the operation so
_VISIBLE = r"([!-~]+)"
_LENGTH = "content-length"
_VARYING = {
    _LENGTH: r"([0-9]{1,5})",
    **dict.fromkeys(
        (
            "amz-sdk-invocation-id", "content-md5", "if-match", "if-none-match", "range", "traceparent", "x-amz-content-sha256",
            "x-amz-date", "x-amz-decoded-content-length", "x-amzn-trace-id", "x-amz-checksum-crc32", "x-amz-checksum-crc32c",
            "x-amz-checksum-crc64nvme", "x-amz-checksum-sha1", "x-amz-checksum-sha256",
        ),
        _VISIBLE,
    ),
}  # fmt: skip
_SIGNATURE_DIGITS = 64
_OF_CUSTOMERS = "-customer-"  # keys of customers are in no memory longer than their request


class Head(Struct, frozen=True):
    """The head of a request that fits a shape. `raw_path` is the whole target; the headers are as `read_headers` returns them."""

    raw_path: str
    headers: dict[str, str]


class Shape:
    """The shape of a head whose claim is in its Authorization header."""

    __slots__ = ("_asked", "_canonical", "_claim", "_holes", "_names", "_pattern", "_terms", "_written", "method", "query", "raw_query")

    def __init__(self, method: str, raw_query: str, lines: Iterable[tuple[str, str]], claim: Claim) -> None:
        """Take the lines of a head that was proved: names as sent, values trimmed."""
        self.method = method
        self.raw_query = raw_query
        self.query = read_query(raw_query)
        self._written: dict[str, str] = {}
        self._names: list[str] = []
        self._terms = ""
        self._asked = f"?{raw_query}" if raw_query else ""
        self._pattern = re.compile(
            rf"{method} ({_PATH}){re.escape(self._asked)} HTTP/1\.1\r\n{''.join(self._line(*line) for line in lines)}\r\n"
        )
        self._canonical, self._holes = self._to_sign(claim.signed_headers)
        self._claim = claim

    def read(self, head: str) -> Head | None:
        """Return what a head of this shape says; None if it has another."""
        found = self._pattern.fullmatch(head)
        if found is None:
            return None
        path, *values = found.groups()
        headers = self._written.copy()
        headers.update(zip(self._names, values, strict=True))
        headers["authorization"] = self._terms + headers["authorization"]
        return Head(path + self._asked, headers)

    def claim(self, headers: Mapping[str, str]) -> Claim:
        """As `parse_authorization`: but for three values, all claims of a shape say the same."""
        first = self._claim
        timestamp = header_timestamp(headers)
        if timestamp is not first.timestamp:
            check_scope_date(first.date, timestamp, malformed)
        return Claim(
            access_key=first.access_key,
            date=first.date,
            region=first.region,
            signed_headers=first.signed_headers,
            signature=headers["authorization"][-_SIGNATURE_DIGITS:],
            timestamp=timestamp,
            payload_hash=header_payload_hash(headers),
            security_token=first.security_token,
        )

    def canonical_request(self, raw_path: str, headers: Mapping[str, str], payload_hash: str) -> str:
        """As `sigv4.canonical_request`."""
        return self._canonical % (canonical_path(raw_path), *[headers[name] for name in self._holes], payload_hash)

    @property
    def varying(self) -> Sequence[str]:
        """The headers whose values differ from request to request, by lower-case name."""
        return self._names

    def _line(self, name: str, value: str) -> str:
        """Note a header, and return what it looks like."""
        lower = name.lower()
        self._written[lower] = value  # in its place, even if its value differs each time
        literal, varies = f"{name}: ", _VARYING.get(lower, _VISIBLE if lower.startswith(META) and " " not in value else None)
        if lower == "authorization":
            self._terms = value[:-_SIGNATURE_DIGITS]
            literal, varies = f"{name}: {self._terms}", r"([0-9a-f]{64})"
        if varies is None:
            return re.escape(f"{literal}{value}\r\n")
        self._names.append(lower)
        return rf"{re.escape(literal)}{varies}\r\n"

    def _to_sign(self, signed: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """Return the text that is signed, with holes for the path, the headers named, and the payload's hash."""
        holes = tuple(name for name in signed if name in self._names)
        known = [f"{_literal(name)}:{'%s' if name in holes else _literal(trimmed(self._written.get(name, '')))}\n" for name in signed]
        return f"{self.method}\n%s\n{_literal(canonical_query(self.query))}\n{''.join(known)}\n{_literal(';'.join(signed))}\n%s", holes


def shape_of(head: str, claim: Claim) -> Shape | None:
    """Return the shape of a head that the claim was proved of; None if it is not of the kind that is kept."""
    opening, *written = head.removesuffix("\r\n\r\n").split("\r\n")
    line, found = _REQUEST_LINE.fullmatch(opening), [_LINE.fullmatch(one) for one in written]
    lines = [(one[1], one[2]) for one in found if one is not None]
    names = {name.lower() for name, _ in lines}
    if line is None or claim.presigned or len(names) != len(written) or any(_OF_CUSTOMERS in name for name in names):
        return None
    authorization = next((value for name, value in lines if name.lower() == "authorization"), "")
    if not HEX_SHA256.fullmatch(authorization[-_SIGNATURE_DIGITS:]) or not authorization[:-_SIGNATURE_DIGITS].endswith(SIGNATURE):
        return None
    return Shape(line[1], (line[3] or "").removeprefix("?"), lines, claim)


def _literal(text: str) -> str:
    return text.replace("%", "%%")
