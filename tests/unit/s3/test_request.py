"""A request's text as it enters: nothing that is not text goes further."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.request import read_headers, read_query


def test_headers_are_named_in_lower_case_and_repeated_ones_joined_in_order() -> None:
    headers = [("Host", "h"), ("X-Amz-Meta-A", "1"), ("x-amz-meta-a", "2"), ("Date", "d"), ("X-AMZ-META-A", "3")]
    assert read_headers(headers) == {"host": "h", "x-amz-meta-a": "1,2,3", "date": "d"}


def test_headers_that_are_not_utf8_are_latin_1() -> None:
    assert read_headers([("a", "caf\udce9"), ("b", "café"), ("b", "\udcff")]) == {"a": "café", "b": "café,ÿ"}


@given(
    st.lists(
        st.tuples(st.sampled_from(("a", "A", "b")), st.binary(max_size=20).map(lambda octets: octets.decode("utf-8", "surrogateescape")))
    )
)
def test_any_bytes_of_headers_become_text(headers: list[tuple[str, str]]) -> None:
    for value in read_headers(headers).values():
        value.encode()


class Counted(str):
    """A text that counts how many of its characters are copied where two are joined."""

    __slots__ = ()
    copied = 0

    def __format__(self, spec: str) -> str:
        Counted.copied += len(self)
        return str(self)

    def __add__(self, other: str) -> str:
        Counted.copied += len(self)
        return Counted(str(self) + other)


def test_repeated_headers_are_copied_once() -> None:
    Counted.copied = 0
    joined = read_headers([("a", Counted("x" * 100)) for _ in range(1000)])["a"]
    assert len(joined) == 1000 * 101 - 1
    assert Counted.copied == 0


@pytest.mark.parametrize(
    ("raw_query", "query"),
    [
        ("", []),
        ("acl", [("acl", "")]),
        ("a=%25C3&b=x+y&a=", [("a", "%C3"), ("b", "x y"), ("a", "")]),
        ("prefix=%C3%BC", [("prefix", "ü")]),
        ("prefix=ü", [("prefix", "ü")]),
    ],
)
def test_the_query_is_decoded_once(raw_query: str, query: list[tuple[str, str]]) -> None:
    assert read_query(raw_query) == query


@pytest.mark.parametrize("raw_query", ["prefix=\udcff", "\udcff", "prefix=%FF", "%FF=a", "a=%ED%A0%80", "a&" * 200 + "a"])
def test_a_query_that_is_not_text_or_too_long_is_refused(raw_query: str) -> None:
    with pytest.raises(S3Error) as caught:
        read_query(raw_query)
    assert (caught.value.code, caught.value.status) == ("InvalidURI", 400)
