"""Ranges: what exists is given, nonsense is ignored, what does not exist is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.ranges import ByteRange, parse_copy_source_range, parse_range


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=10-19", 10, 19),
        ("bytes=10-", 10, 99),
        ("bytes=90-200", 90, 99),
        ("bytes=-5", 95, 99),
        ("bytes=-100", 0, 99),
        ("bytes=-1000", 0, 99),
        ("Bytes=99-99", 99, 99),
        (" bytes=1-2 ", 1, 2),
        ("bytes=0-" + "9" * 64, 0, 99),
    ],
)
def test_satisfiable_ranges(header: str, start: int, end: int) -> None:
    found = parse_range(header, 100)

    assert found == ByteRange(start, end)
    assert found.length == end - start + 1
    assert found.content_range(100) == f"bytes {start}-{end}/100"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-1",
        "bytes=0-1,3-4",
        "bytes = 0-1",
        "items=0-1",
        "0-1",
        "bytes=²-",
        "bytes=0-" + "9" * 9999,
    ],
)
def test_what_cannot_be_read_means_the_whole_object(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-0", 0)]
)
def test_unsatisfiable_ranges(header: str, size: int) -> None:
    with pytest.raises(S3Error) as caught:
        parse_range(header, size)

    error = caught.value
    assert (error.code, error.status) == ("InvalidRange", 416)
    assert error.details == {"RangeRequested": header, "ActualObjectSize": size}
    assert error.headers == {"Content-Range": f"bytes */{size}"}


@given(size=st.integers(1, 50), first=st.integers(0, 49), length=st.integers(1, 60))
def test_a_range_selects_what_a_slice_selects(size: int, first: int, length: int) -> None:
    data = bytes(range(size))
    first %= size

    found = parse_range(f"bytes={first}-{first + length - 1}", size)
    suffix = parse_range(f"bytes=-{length}", size)

    assert found is not None
    assert suffix is not None
    assert data[found.start : found.end_inclusive + 1] == data[first : first + length]
    assert data[suffix.start : suffix.end_inclusive + 1] == data[-length:]


def test_copy_source_ranges() -> None:
    assert parse_copy_source_range(None, 100) is None
    assert parse_copy_source_range("bytes=0-99", 100) == ByteRange(0, 99)


@pytest.mark.parametrize("header", ["", "bytes=0-100", "bytes=5-", "bytes=-5", "bytes=5-4", "bytes=0-1,2-3", "0-1", "bytes=100-100"])
def test_copy_source_ranges_must_exist(header: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_copy_source_range(header, 100)

    assert caught.value.code == "InvalidArgument"
    assert caught.value.details["ArgumentName"] == "x-amz-copy-source-range"


def test_the_last_bytes_of_an_empty_object_are_the_whole_of_it() -> None:
    assert parse_range("bytes=-1", 0) is None
