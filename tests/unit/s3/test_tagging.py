"""Tags, in documents and in the header."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.tagging import check_tags, parse_tagging_header


def tag(key: str, value: str = "v") -> dict[str, object]:
    return {"Key": key, "Value": value}


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=&b", {"a": "", "b": ""}),
        ("a+b=c%20d", {"a b": "c d"}),
        ("%C3%BC=%2B%2F%40", {"ü": "+/@"}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_the_header_is_a_query(header: str, tags: dict[str, str]) -> None:
    assert parse_tagging_header(header) == tags


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("a=%ff", "InvalidArgument"),
        ("&".join(f"k{n}=" for n in range(101)), "InvalidArgument"),
        ("=v", "InvalidArgument"),
        ("=", "InvalidArgument"),
        ("a=1&=", "InvalidArgument"),
        ("a=1&a=2", "InvalidArgument"),
        ("a=1&%61=2", "InvalidArgument"),
        ("aws:a=1", "InvalidTag"),
        ("a%0A=1", "InvalidTag"),
        ("a=%3C", "InvalidTag"),
        ("&".join(f"k{n}=" for n in range(11)), "BadRequest"),
    ],
)
def test_bad_headers(header: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_tagging_header(header)

    assert (caught.value.code, caught.value.status) == (code, 400)


@pytest.mark.parametrize("tags", [[], [tag("k" * 128, "v" * 256)], [tag("a b_c+d-e=f.g:h/i@j", "")], [tag("é漢字\u00a0٣")]])
def test_good_tags(tags: list[dict[str, object]]) -> None:
    assert check_tags(tags, limit=10) == {entry["Key"]: entry["Value"] for entry in tags}


@pytest.mark.parametrize("bad", [tag(""), tag("k" * 129), tag("k", "v" * 257), tag("k!"), tag("k", "\t"), tag("k", "a\nb"), tag("aws:k")])
def test_bad_tags(bad: dict[str, object]) -> None:
    with pytest.raises(S3Error, match="InvalidTag"):
        check_tags([bad], limit=10)


def test_limits() -> None:
    tags = [tag(f"k{n}") for n in range(50)]

    assert len(check_tags(tags, limit=50)) == 50
    with pytest.raises(S3Error, match="BadRequest: Object tags cannot be greater than 10"):
        check_tags(tags[:11], limit=10)


@given(st.dictionaries(st.text("ab c+-=._:/@é", min_size=1, max_size=20), st.text("ab c+-=._:/@é", max_size=20), max_size=10))
def test_any_tags_pass_through_the_header(tags: dict[str, str]) -> None:
    assert parse_tagging_header("&".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in tags.items())) == tags


@given(st.text())
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        parse_tagging_header(header)
    except S3Error as error:
        assert error.code in {"InvalidArgument", "InvalidTag", "BadRequest"}
