"""Ranges: exactly the bytes asked for, and AWS's answer to what cannot be had."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import MIB, content, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SIZE = 17 * MIB + 4321  # more than a segment, and no multiple of anything


@pytest.fixture(scope="module")
def large(s3: S3Client) -> tuple[str, str]:
    name = f"ranges-{random.randrange(10**12)}"
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=content(SIZE))
    return name, "k"


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=5-9", 5, 9),
        ("bytes=65535-65536", 65535, 65536),
        ("bytes=262143-262144", 262143, 262144),
        (f"bytes={16 * MIB - 1}-{16 * MIB}", 16 * MIB - 1, 16 * MIB),
        (f"bytes={16 * MIB}-", 16 * MIB, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        (f"bytes={SIZE - 1}-{SIZE + 100}", SIZE - 1, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-70000", SIZE - 70000, SIZE - 1),
        (f"bytes=-{SIZE + 5}", 0, SIZE - 1),
        (f"bytes=100-{10**30}", 100, SIZE - 1),
    ],
)
def test_range_gives_its_bytes(s3: S3Client, large: tuple[str, str], header: str, start: int, end: int) -> None:
    answer = s3.get_object(Bucket=large[0], Key=large[1], Range=header)
    assert answer["Body"].read() == content(SIZE)[start : end + 1]
    assert answer["ContentRange"] == f"bytes {start}-{end}/{SIZE}"
    assert answer["ContentLength"] == end - start + 1
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206


def test_random_ranges(s3: S3Client, large: tuple[str, str]) -> None:
    dice = random.Random(7)
    for _ in range(40):
        start = dice.randrange(SIZE)
        end = min(SIZE - 1, start + dice.choice((0, 100, 65536, 300_000, 5 * MIB)))
        answer = s3.get_object(Bucket=large[0], Key=large[1], Range=f"bytes={start}-{end}")
        assert answer["Body"].read() == content(SIZE)[start : end + 1]


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"])
def test_range_beyond_the_end_cannot_be_satisfied(s3: S3Client, large: tuple[str, str], header: str) -> None:
    with s3_error("InvalidRange", 416) as caught:
        s3.get_object(Bucket=large[0], Key=large[1], Range=header)
    error = caught.value.response["Error"]
    assert (error["ActualObjectSize"], error["RangeRequested"]) == (str(SIZE), header)  # type: ignore[typeddict-item]
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("header", ["bytes=", "bytes=abc", "items=0-5", "bytes=9-5", "bytes=0-1,3-4", "bytes=--5", "0-5", "bytes=-"])
def test_range_that_is_none_is_ignored(raw: RawClient, s3: S3Client, bucket: str, header: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = raw.request("GET", f"/{bucket}/k", headers={"range": header})
    assert (answer.status, answer.body) == (200, b"0123456789")
    assert "content-range" not in answer.headers


def test_head_takes_a_range(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = raw.request("HEAD", f"/{bucket}/k", headers={"range": "bytes=2-4"})
    assert (answer.status, answer.headers["content-length"], answer.headers["content-range"]) == (206, "3", "bytes 2-4/10")


def test_no_range_of_an_empty_object_can_be_satisfied(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with s3_error("InvalidRange", 416):
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=0-0")


def test_condition_comes_before_the_range(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with s3_error("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4", IfMatch='"0"')


def test_part_number_of_a_simple_object(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = s3.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert answer["Body"].read() == b"0123456789"
    assert "PartsCount" not in answer
    with s3_error("InvalidPartNumber", 416):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=2)


def test_range_and_part_number_exclude_each_other(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with s3_error("InvalidRequest", 400):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1")


def test_a_client_that_leaves_early_does_no_harm(raw: RawClient, s3: S3Client, large: tuple[str, str]) -> None:
    signed = raw.sign("GET", f"/{large[0]}/k")
    lines = [f"GET /{large[0]}/k HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items()), "", ""]
    for _ in range(5):
        with raw.connect() as connection:
            connection.sendall("\r\n".join(lines).encode())
            connection.recv(1000)
    assert s3.get_object(Bucket=large[0], Key="k", Range="bytes=-3")["Body"].read() == content(SIZE)[-3:]


def test_the_last_bytes_of_an_empty_object(s3: S3Client, bucket: str) -> None:
    """Readers of footers begin with them: Trino, Parquet."""
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    answer = s3.get_object(Bucket=bucket, Key="empty", Range="bytes=-1")
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["ContentLength"], answer["Body"].read()) == (200, 0, b"")
    with s3_error("InvalidRange", 416):
        s3.get_object(Bucket=bucket, Key="empty", Range="bytes=0-")
