"""Small objects in packs, as clients see them: like any other object, whichever way they are read, copied or put together."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, lose, shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MIB = 1024 * 1024
SIZES = [1, 16, 1000, 4096, 20_000, 65_520, 65_536, 100_000, 131_072]
BODIES = {f"small/{number:03} {size}": os.urandom(size) for number, size in enumerate(SIZES * 4)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


@pytest.fixture(scope="module")
def packed(data: Path) -> Iterator[Shardgate]:
    config = data / "packed.toml"
    config.write_text((ROOT / "config" / "bench.toml").read_text() + "\n[packs]\nbelow_kib = 129\nlinger_ms = 200\n")
    with shardgate(data, config=config) as server:
        s3 = server.client(max_pool_connections=32)
        s3.create_bucket(Bucket="bucket")
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda key: s3.put_object(Bucket="bucket", Key=key, Body=BODIES[key], ContentType="text/x"), BODIES))
        yield server


@pytest.fixture
def s3(packed: Shardgate) -> S3Client:
    return packed.client()


def _body(s3: S3Client, key: str, **options: str) -> bytes:
    return s3.get_object(Bucket="bucket", Key=key, **options)["Body"].read()


def test_objects_share_packs(packed: Shardgate, data: Path) -> None:
    shards = [path for path in (data / "stores").rglob("*-0?") if path.is_file() and "/j/" not in str(path)]
    assert 6 <= len(shards) < 6 * len(BODIES)


def test_packs_are_counted(packed: Shardgate) -> None:
    packs, objects, size = (_counted(packed, name) for name in ("packs_stored_total", "packed_objects_total", "packed_bytes_total"))
    assert 1 <= packs < objects <= len(BODIES)
    assert objects <= size <= sum(map(len, BODIES.values()))
    _counted(packed, "oldest_dead_seconds")


def _counted(server: Shardgate, name: str) -> float:
    with urllib.request.urlopen(f"{server.endpoint}/-/metrics", timeout=PATIENCE_SECONDS) as answer:
        told = answer.read().decode()
    (value,) = re.findall(rf"^shardgate_{name} (\S+)$", told, re.MULTILINE)
    return float(value)


@pytest.mark.parametrize("key", list(BODIES)[:9])
def test_an_object_in_a_pack_is_like_any_other(s3: S3Client, key: str) -> None:
    body = BODIES[key]
    answer = s3.get_object(Bucket="bucket", Key=key)
    assert answer["Body"].read() == body
    assert (answer["ContentLength"], answer["ContentType"]) == (len(body), "text/x")
    head = s3.head_object(Bucket="bucket", Key=key)
    assert (head["ContentLength"], head["ETag"]) == (len(body), answer["ETag"])
    assert s3.get_object_attributes(Bucket="bucket", Key=key, ObjectAttributes=["ObjectSize"])["ObjectSize"] == len(body)
    assert _body(s3, key, IfMatch=answer["ETag"]) == body
    with pytest.raises(ClientError, match="304"):
        _body(s3, key, IfNoneMatch=answer["ETag"])


@pytest.mark.parametrize("key", list(BODIES)[2:9])
@pytest.mark.parametrize("wanted", ["bytes=0-0", "bytes=5-500", "bytes=-1", "bytes=900-", "bytes=999-10000000"])
def test_a_range_of_an_object_in_a_pack(s3: S3Client, key: str, wanted: str) -> None:
    body = BODIES[key]
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else len(body) - int(last)
    stop = min(int(last) + 1, len(body)) if first and last else len(body)
    answer = s3.get_object(Bucket="bucket", Key=key, Range=wanted)
    assert answer["Body"].read() == body[start:stop]
    assert answer["ContentRange"] == f"bytes {start}-{stop - 1}/{len(body)}"


def test_a_range_beyond_the_end_is_refused(s3: S3Client) -> None:
    with pytest.raises(ClientError, match="InvalidRange"):
        _body(s3, next(iter(BODIES)), Range="bytes=500-600")


@pytest.mark.parametrize("storage_class", ["STANDARD", "REDUCED_REDUNDANCY"], ids=["shared", "moved"])
def test_a_copy_outlives_its_source(s3: S3Client, storage_class: str) -> None:
    s3.put_object(Bucket="bucket", Key="source", Body=BODIES["small/007 100000"])
    s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/source", StorageClass=storage_class)
    s3.delete_object(Bucket="bucket", Key="source")
    assert _body(s3, "copy") == BODIES["small/007 100000"]


def test_parts_may_be_copies_of_objects_in_packs(s3: S3Client) -> None:
    large = os.urandom(5 * MIB)
    upload = s3.create_multipart_upload(Bucket="bucket", Key="made")["UploadId"]
    first = s3.upload_part(Bucket="bucket", Key="made", UploadId=upload, PartNumber=1, Body=large)["ETag"]
    source = {"Bucket": "bucket", "Key": "small/008 131072"}
    second = s3.upload_part_copy(
        Bucket="bucket", Key="made", UploadId=upload, PartNumber=2, CopySource=source, CopySourceRange="bytes=70000-130999"
    )["CopyPartResult"]["ETag"]
    parts = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
    s3.complete_multipart_upload(Bucket="bucket", Key="made", UploadId=upload, MultipartUpload={"Parts": parts})
    assert _body(s3, "made") == large + BODIES["small/008 131072"][70_000:131_000]
    assert _body(s3, "made", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}") == large[-2:] + BODIES["small/008 131072"][70_000:70_002]


def test_everything_is_read_with_two_stores_gone(s3: S3Client, packed: Shardgate, data: Path) -> None:
    """Last in this file: the stores do not come back."""
    for name in ("alder", "elm"):
        lose(data / "stores" / name)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda key: _body(s3, key), BODIES)) == list(BODIES.values())
    assert packed.process.poll() is None
