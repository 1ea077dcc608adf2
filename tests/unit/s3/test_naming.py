"""Names of buckets and keys."""

from __future__ import annotations

from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.naming import check_bucket_name, check_key, url_encode_key


@pytest.mark.parametrize("name", ["abc", "a-b", "a.b.c", "1234", "0a0", "a" * 63, "192.168.5", "192.168.5.4.3", "a--b", "a.-b", "xn-a"])
def test_good_bucket_names(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "a" * 64,
        "Abc",
        "a_b",
        "a b",
        "-abc",
        "abc-",
        ".abc",
        "abc.",
        "a..b",
        "192.168.5.4",
        "xn--abc",
        "sthree-abc",
        "amzn-s3-demo-bucket",
        "abc-s3alias",
        "abc--ol-s3",
        "abc.mrap",
        "abc--x-s3",
        "abc--table-s3",
        "bücher",
        "abc\n",
        "a/b",
        "-",
    ],
)
def test_bad_bucket_names(name: str) -> None:
    with pytest.raises(S3Error, match="InvalidBucketName"):
        check_bucket_name(name)


@pytest.mark.parametrize("key", ["..", "../", "../a", "/../a", "a/../..", "a/../../b", "a//../../b", "a/b/../../../a/b/c", "./../.."])
def test_a_key_that_climbs_above_the_bucket_is_refused(key: str) -> None:
    with pytest.raises(S3Error, match="InvalidURI"):
        check_key(key)


@pytest.mark.parametrize("key", ["k", "k" * 1024, "ü" * 512, "🙂" * 256, "/", "a/../", "a/b/../../c", "..a", "a/..b/...", "a//b", "\x00"])
def test_good_keys(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize(("key", "size"), [("k" * 1025, 1025), ("ü" * 512 + "k", 1025), ("🙂" * 257, 1028)])
def test_keys_that_are_too_long(key: str, size: int) -> None:
    with pytest.raises(S3Error) as caught:
        check_key(key)

    assert (caught.value.code, caught.value.details) == ("KeyTooLongError", {"Size": size, "MaxSizeAllowed": 1024})


def test_a_key_is_not_empty() -> None:
    with pytest.raises(S3Error, match="InvalidArgument"):
        check_key("")


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a/b-c_d.e~f*g", "a/b-c_d.e~f*g"),
        ("a b+c", "a+b%2Bc"),
        ("100%", "100%25"),
        ("ü🙂", "%C3%BC%F0%9F%99%82"),
        ("a\x01\n\x00&=?#\"'(),:;@$!", "a%01%0A%00%26%3D%3F%23%22%27%28%29%2C%3A%3B%40%24%21"),
        ("", ""),
    ],
)
def test_listings_encode_keys(text: str, encoded: str) -> None:
    assert url_encode_key(text) == encoded


@given(st.text())
def test_any_key_is_decoded_again(text: str) -> None:
    assert unquote_plus(url_encode_key(text)) == text
    assert url_encode_key(text).isascii()
