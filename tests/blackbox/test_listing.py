"""Listings: what is there, in the order of UTF-8 bytes, page by page, beside a simple model."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import AWKWARD_KEYS, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

TREE = ("a.txt", "b/1", "b/2", "b/c/3", "b/c/4", "b-c", "b0", "d/", "d/5", "e//f", "e/g", "z")


@pytest.fixture
def tree(s3: S3Client, bucket: str) -> str:
    fill(s3, bucket, TREE)
    return bucket


def fill(s3: S3Client, bucket: str, keys: tuple[str, ...] | list[str]) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b"x"), keys))


def ordered(keys: list[str] | tuple[str, ...]) -> list[str]:
    return sorted(keys, key=lambda key: key.encode())


def expected(keys: tuple[str, ...] | list[str], prefix: str, delimiter: str, after: str = "") -> list[str]:
    """Return keys and common prefixes in one list, as a listing gives them."""
    found: dict[str, None] = {}
    for key in ordered(keys):
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if cut < 0 else key[: cut + len(delimiter)]
        if entry.encode() > after.encode():
            found[entry] = None
    return list(found)


def entries_v2(s3: S3Client, bucket: str, page: int, **options: str) -> list[str]:
    """Return all entries of a V2 listing, checking each page's own numbers."""
    entries: list[str] = []
    token: dict[str, str] = {}
    while True:
        answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=page, **options, **token)  # type: ignore[arg-type]
        keys = [one["Key"] for one in answer.get("Contents", [])]
        prefixes = [one["Prefix"] for one in answer.get("CommonPrefixes", [])]
        assert answer["KeyCount"] == len(keys) + len(prefixes) <= page
        entries += ordered(keys + prefixes)
        if not answer["IsTruncated"]:
            assert "NextContinuationToken" not in answer
            return entries
        token = {"ContinuationToken": answer["NextContinuationToken"]}


def entries_v1(s3: S3Client, bucket: str, page: int, **options: str) -> list[str]:
    entries: list[str] = []
    marker: dict[str, str] = {}
    while True:
        answer = s3.list_objects(Bucket=bucket, MaxKeys=page, **options, **marker)  # type: ignore[arg-type]
        new = ordered([one["Key"] for one in answer.get("Contents", [])] + [one["Prefix"] for one in answer.get("CommonPrefixes", [])])
        entries += new
        if not answer["IsTruncated"]:
            return entries
        # Without a delimiter AWS gives no NextMarker: the last key is the next marker.
        assert ("NextMarker" in answer) == ("Delimiter" in options)
        marker = {"Marker": answer.get("NextMarker", new[-1])}


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
@pytest.mark.parametrize("entries", [entries_v1, entries_v2])
@pytest.mark.parametrize(
    ("prefix", "delimiter"),
    [("", ""), ("", "/"), ("b", "/"), ("b/", "/"), ("b/c", ""), ("e/", "/"), ("d/", "/"), ("", "/c/"), ("nothing", "/"), ("", "b")],
)
def test_listing_agrees_with_the_model(
    s3: S3Client, tree: str, entries: Callable[..., list[str]], page: int, prefix: str, delimiter: str
) -> None:
    options = {name: value for name, value in (("Prefix", prefix), ("Delimiter", delimiter)) if value}
    assert entries(s3, tree, page, **options) == expected(TREE, prefix, delimiter)


# With a delimiter, AWS does not say whether the prefix a start lies in is listed again; such starts are left out.
@pytest.mark.parametrize(
    ("after", "delimiter"),
    [
        ("", ""),
        ("a", ""),
        ("a.txt", ""),
        ("b/1", ""),
        ("b/zzz", ""),
        ("d/", ""),
        ("zz", ""),
        ("a", "/"),
        ("b-c", "/"),
        ("b0", "/"),
        ("z", "/"),
    ],
)
def test_listing_starts_after_the_key_asked_for(s3: S3Client, tree: str, after: str, delimiter: str) -> None:
    options = {"Delimiter": delimiter} if delimiter else {}
    listed = entries_v2(s3, tree, 2, StartAfter=after, **options)
    assert listed == expected(TREE, "", delimiter, after)


def test_order_is_that_of_utf8_bytes(s3: S3Client, bucket: str) -> None:
    keys = ["\uff5e", "\U0001f600", "\u00e9", "z", "Z", "a", "~", "\u4e2d", "\ue000", "a\u0301", "0", " "]
    fill(s3, bucket, keys)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ordered(keys)
    assert entries_v2(s3, bucket, 1) == ordered(keys)


def test_awkward_keys_are_listed_exactly(s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, list(AWKWARD_KEYS))
    assert entries_v2(s3, bucket, 3) == ordered(AWKWARD_KEYS)
    assert entries_v1(s3, bucket, 3) == ordered(AWKWARD_KEYS)
    assert entries_v2(s3, bucket, 3, Delimiter="/") == expected(AWKWARD_KEYS, "", "/")


@pytest.mark.parametrize("seed", range(3))
def test_random_trees_agree_with_the_model(s3: S3Client, bucket: str, seed: int) -> None:
    dice = random.Random(seed)
    keys = list(
        {"".join(dice.choice(("a", "b", "/", "//", "-", "\u00e9", "\U0001f600")) for _ in range(dice.randint(1, 6))) for _ in range(60)}
    )
    fill(s3, bucket, keys)
    for prefix, delimiter in (("", "/"), ("a", "/"), ("a/", "/"), ("", "a"), ("b", "//"), ("", "\u00e9"), ("", "")):
        options = {name: value for name, value in (("Prefix", prefix), ("Delimiter", delimiter)) if value}
        assert entries_v2(s3, bucket, 7, **options) == expected(keys, prefix, delimiter)


def test_listing_describes_each_object(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"12345")["ETag"]
    answer = s3.list_objects_v2(Bucket=bucket)
    [found] = answer["Contents"]
    assert (found["Key"], found["Size"], found["ETag"], found["StorageClass"]) == ("k", 5, etag, "STANDARD")
    assert "Owner" not in found
    assert (answer["Name"], answer["MaxKeys"], answer["KeyCount"], answer["IsTruncated"]) == (bucket, 1000, 1, False)


def test_owner_is_told_when_asked_for(s3: S3Client, tree: str) -> None:
    owner = s3.list_buckets()["Owner"]["ID"]
    assert s3.list_objects_v2(Bucket=tree, FetchOwner=True)["Contents"][0]["Owner"]["ID"] == owner
    assert s3.list_objects(Bucket=tree)["Contents"][0]["Owner"]["ID"] == owner


def test_max_keys_zero_lists_nothing_and_is_complete(s3: S3Client, tree: str) -> None:
    for answer in (s3.list_objects_v2(Bucket=tree, MaxKeys=0), s3.list_objects(Bucket=tree, MaxKeys=0)):
        assert "Contents" not in answer
        assert answer["IsTruncated"] is False


def test_a_thousand_keys_are_the_most_of_a_page(s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, [f"{number:05d}" for number in range(1005)])
    answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)
    assert (answer["MaxKeys"], answer["KeyCount"], answer["IsTruncated"]) == (1000, 1000, True)
    assert len(entries_v2(s3, bucket, 1000)) == 1005


@pytest.mark.parametrize("value", ["-1", "x", "1e3", "99999999999"])
def test_bad_max_keys_is_refused(raw: RawClient, bucket: str, value: str) -> None:
    assert raw.request("GET", f"/{bucket}", [("list-type", "2"), ("max-keys", value)]).verdict == (400, "InvalidArgument")


@pytest.mark.parametrize("query", [[("max-keys", "")], [("list-type", "2"), ("max-keys", "")], [("uploads", ""), ("max-uploads", "")]])
def test_a_limit_without_a_value_is_none(raw: RawClient, bucket: str, query: list[tuple[str, str]]) -> None:
    assert raw.request("GET", f"/{bucket}", query).verdict == (200, "")


def test_bad_continuation_token_is_refused(s3: S3Client, bucket: str) -> None:
    with s3_error("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="not a token")


def test_bad_encoding_type_is_refused(raw: RawClient, bucket: str) -> None:
    assert raw.request("GET", f"/{bucket}", [("encoding-type", "base64")]).verdict == (400, "InvalidArgument")


def test_url_encoding_covers_every_name_in_the_answer(raw: RawClient, s3: S3Client, bucket: str) -> None:
    fill(s3, bucket, ["p q+/\u00e9 1", "p q+/sub/x"])
    query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", "p q+/"), ("delimiter", "/"), ("start-after", "p q")]
    body = raw.request("GET", f"/{bucket}", query).body.decode()
    assert "<EncodingType>url</EncodingType>" in body
    assert "<Prefix>p+q%2B/</Prefix>" in body or "<Prefix>p%20q%2B/</Prefix>" in body
    assert "<Key>p+q%2B/%C3%A9+1</Key>" in body or "<Key>p%20q%2B/%C3%A9%201</Key>" in body


def test_listing_follows_every_write_at_once(s3: S3Client, bucket: str) -> None:
    for number in range(10):
        s3.put_object(Bucket=bucket, Key=f"{number}", Body=b"")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == number + 1
    for number in range(10):
        s3.delete_object(Bucket=bucket, Key=f"{number}")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 9 - number


def test_a_token_stays_good_when_its_key_is_deleted(s3: S3Client, tree: str) -> None:
    first = s3.list_objects_v2(Bucket=tree, MaxKeys=2)
    for one in first["Contents"]:
        s3.delete_object(Bucket=tree, Key=one["Key"])
    rest = s3.list_objects_v2(Bucket=tree, ContinuationToken=first["NextContinuationToken"])
    assert [one["Key"] for one in rest["Contents"]] == ordered(TREE)[2:]


def test_the_first_version_does_not_begin_where_the_second_does(raw: RawClient, bucket: str) -> None:
    for name in ("start-after", "continuation-token"):
        assert raw.request("GET", f"/{bucket}", [(name, "a")]).verdict == (400, "InvalidArgument")
    assert raw.request("GET", f"/{bucket}", [("list-type", "2"), ("start-after", "a")]).verdict == (200, "")


def test_the_second_version_does_not_begin_where_the_first_does(raw: RawClient, bucket: str) -> None:
    assert raw.request("GET", f"/{bucket}", [("list-type", "2"), ("marker", "a")]).verdict == (400, "InvalidArgument")
