"""A request's text as it enters: headers by lower-case name, the query decoded. What is not text goes no further.

HTTP servers hand over bytes that are not UTF-8 as lone surrogates (PEP 383), which no manifest, log or answer can take. A path or a query
with such bytes is refused. A header with them is read as ISO-8859-1, which is what HTTP's fields were (RFC 9110, section 5.5), and what
Python's and Java's clients still send.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from proxy.s3.errors import S3Error

MAX_PARAMETERS = 200


def read_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones joined by commas, as they are signed."""
    result: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for name, value in headers:
        lower = name.lower()
        text = value if value.isascii() else _header_text(value)
        if lower not in result:
            result[lower] = text
        elif lower in repeated:
            repeated[lower].append(text)
        else:
            repeated[lower] = [result[lower], text]
    for lower, values in repeated.items():  # joined once: hundreds of long ones, joined one after the other, are copied hundreds of times
        result[lower] = ",".join(values)
    return result


def read_query(raw_query: str) -> list[tuple[str, str]]:
    """Return the parameters in order, decoded once. InvalidURI for what is not UTF-8, and for more than 200."""
    if not raw_query:
        return []
    try:
        if not raw_query.isascii():
            raw_query.encode()
        return parse_qsl(raw_query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise S3Error("InvalidURI", URI=raw_query) from None


def _header_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value
