"""The whole way, with real clients: objects go in as S3 and lie in the stores as sealed shards."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.servers import Shardgate, shardgate

AWKWARD_KEYS = [
    "a b",
    "a+b",
    "a//b",
    "%41",
    "100%",
    "emoji \N{GRINNING FACE}",
    "up/../and/away",
    "./x",
    "tail/",
    "q?x=1&y#z",
    "é",
    "e\u0301",
    "k" * 1024,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardgate]:
    with shardgate(tmp_path_factory.mktemp("shardgate")) as running:
        yield running


@pytest.fixture(scope="module")
def s3(server: Shardgate):
    return server.client()


@pytest.fixture
def bucket(s3, request) -> str:
    name = "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    s3.create_bucket(Bucket=name)
    return name


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"], error.value.response["Error"]["Code"]


def body(s3, bucket: str, key: str, **options) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()


@pytest.mark.parametrize("size", [0, 1, 4096, 65_536, 262_145, 5_000_000, 20_000_000])
def test_any_size_comes_back(s3, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert got["ContentLength"] == size


def test_no_store_holds_plaintext(s3, server: Shardgate, bucket: str) -> None:
    secret = b"the quick brown fox jumps over the lazy dog " * 3000
    s3.put_object(Bucket=bucket, Key="very-secret-name", Body=secret, Metadata={"hidden": "value-not-to-be-seen"})
    shards = [path for path in (server.data / "stores").rglob("*") if path.is_file() and path.name != ".shardgate-store"]
    assert len(shards) >= 6
    for path in shards:
        text = path.read_bytes()
        assert b"quick brown" not in text
        assert b"very-secret-name" not in text + str(path).encode()
        assert b"value-not-to-be-seen" not in text


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_awkward_keys(s3, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert body(s3, bucket, key) == key.encode()
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key=key)
    assert code(error) == (404, "NoSuchKey")


def test_bucket_life(s3, bucket: str) -> None:
    s3.create_bucket(Bucket=bucket)  # one's own again: us-east-1 answers 200
    assert bucket in [item["Name"] for item in s3.list_buckets()["Buckets"]]
    s3.head_bucket(Bucket=bucket)
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket=bucket)
    assert code(error) == (409, "BucketNotEmpty")
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket=bucket)
    assert code(error) == (404, "NoSuchBucket")


@pytest.mark.parametrize("name", ["UPPER", "1.2.3.4", "a..b", "xn--a"])
def test_bad_bucket_names(server: Shardgate, name: str) -> None:
    client = server.client(s3={"addressing_style": "path"})
    with pytest.raises(ClientError) as error:
        client.create_bucket(Bucket=name)
    assert code(error) == (400, "InvalidBucketName")


def test_listing_pages_prefixes_and_encoding(s3, bucket: str) -> None:
    keys = sorted(["a/1", "a/2", "b", "c/d/e", "c/d/f", "z &<", "\N{GRINNING FACE}"], key=str.encode)
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    assert [item["Key"] for page in pages for item in page["Contents"]] == keys
    answer = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [item["Prefix"] for item in answer["CommonPrefixes"]] == ["a/", "c/"]
    assert [item["Key"] for item in answer["Contents"]] == [key for key in keys if "/" not in key]
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, StartAfter="b")["Contents"]] == keys[keys.index("b") + 1 :]
    assert s3.list_objects_v2(Bucket=bucket, Prefix="c/", Delimiter="/")["CommonPrefixes"] == [{"Prefix": "c/d/"}]
    one = s3.list_objects(Bucket=bucket, MaxKeys=1, Delimiter="/")
    assert (one["IsTruncated"], one["NextMarker"]) == (True, "a/")
    assert "Owner" in s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"][0]


def test_metadata_and_system_headers(s3, bucket: str) -> None:
    headers = {
        "ContentType": "text/x-test",
        "CacheControl": "no-cache",
        "ContentDisposition": "attachment",
        "ContentEncoding": "x",
        "ContentLanguage": "de",
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"a": "b", "c-d": "e f"}, **headers)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["Metadata"] == {"a": "b", "c-d": "e f"}
    assert {name: head[name] for name in headers} == headers
    assert s3.get_object(Bucket=bucket, Key="k", ResponseContentType="x/y")["ContentType"] == "x/y"
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"a": "b" * 2100})
    assert code(error) == (400, "MetadataTooLarge")


def test_ranges(s3, bucket: str) -> None:
    data = os.urandom(1_500_000)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    for header, expected in {
        "bytes=0-0": data[:1],
        "bytes=100-299999": data[100:300_000],
        "bytes=-7": data[-7:],
        "bytes=1499999-": data[-1:],
        "bytes=262144-": data[262_144:],
    }.items():
        got = s3.get_object(Bucket=bucket, Key="k", Range=header)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["Body"].read() == expected
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=1500000-")
    assert code(error) == (416, "InvalidRange")


def test_conditions(s3, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert code(error) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert code(error)[0] == 304
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", IfMatch='"other"')
    assert code(error)[0] == 412
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch='"other"')
    assert code(error) == (412, "PreconditionFailed")
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="absent", Body=b"2", IfMatch=etag)
    assert code(error) == (404, "NoSuchKey")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(s3, bucket: str, algorithm: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"hello"
    assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="bad", Body=b"hello", **{f"Checksum{algorithm}": put[f"Checksum{algorithm}"].swapcase()})
    assert code(error)[0] == 400
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key="bad")
    assert code(error)[0] == 404


def test_content_md5(s3, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ContentMD5="XrY7u+Ae7tCTyyK7j1rNww==")
    assert code(error) == (400, "BadDigest")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ContentMD5="nonsense")
    assert code(error) == (400, "InvalidDigest")


def test_multipart(s3, bucket: str) -> None:
    parts = [os.urandom(5 * 1024 * 1024), os.urandom(5 * 1024 * 1024 + 1), os.urandom(1000)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", Metadata={"a": "b"})["UploadId"]
    etags = [s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(parts, 1)]
    assert [item["ETag"] for item in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]] == etags
    assert s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["UploadId"] == upload
    listed = {"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]}
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": listed["Parts"][::-1]})
    assert code(error) == (400, "InvalidPartOrder")
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=listed)
    joined = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert done["ETag"] == f'"{joined}-3"'
    assert body(s3, bucket, "k") == b"".join(parts)
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert second["Body"].read() == parts[1]
    assert second["PartsCount"] == 3
    again = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=listed)
    assert again["ETag"] == done["ETag"]


def test_multipart_refusals(s3, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = [s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)]
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": n, "ETag": e} for n, e in enumerate(etags, 1)]},
        )
    assert code(error) == (400, "EntityTooSmall")
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(
            Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 3, "ETag": etags[0]}]}
        )
    assert code(error) == (400, "InvalidPart")
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=10_001, Body=b"")
    assert code(error) == (400, "InvalidArgument")
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"")
    assert code(error) == (404, "NoSuchUpload")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "SHA256"])
def test_multipart_checksums_through_the_transfer_manager(s3, bucket: str, algorithm: str) -> None:
    data = os.urandom(12_000_000)
    config = TransferConfig(multipart_threshold=5 * 1024 * 1024, multipart_chunksize=5 * 1024 * 1024)
    s3.upload_fileobj(io.BytesIO(data), bucket, "k", Config=config, ExtraArgs={"ChecksumAlgorithm": algorithm})
    target = io.BytesIO()
    s3.download_fileobj(bucket, "k", target, Config=config)
    assert target.getvalue() == data
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "ObjectSize"])
    assert attributes["ObjectSize"] == len(data)
    assert attributes["ObjectParts"]["TotalPartsCount"] == 3
    assert attributes["Checksum"]["ChecksumType"] == ("FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE")


def test_versioning(s3, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"null")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"] is True
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k")
    assert code(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert code(error) == (405, "MethodNotAllowed")
    assert body(s3, bucket, "k", VersionId=first) == b"1"
    assert body(s3, bucket, "k", VersionId="null") == b"null"
    listed = s3.list_object_versions(Bucket=bucket)
    assert [item["VersionId"] for item in listed["Versions"]] == [second, first, "null"]
    assert listed["DeleteMarkers"][0]["IsLatest"] is True
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert body(s3, bucket, "k") == b"2"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"null again")
    assert body(s3, bucket, "k", VersionId="null") == b"null again"
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 3


def test_copies(s3, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from/a b+", Body=b"data", Metadata={"a": "b"}, Tagging="x=y")
    s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from/a b+"})
    s3.delete_object(Bucket=bucket, Key="from/a b+")
    head = s3.head_object(Bucket=bucket, Key="to")
    assert head["Metadata"] == {"a": "b"}
    assert s3.get_object_tagging(Bucket=bucket, Key="to")["TagSet"] == [{"Key": "x", "Value": "y"}]
    assert body(s3, bucket, "to") == b"data"
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "to"})
    assert code(error) == (400, "InvalidRequest")
    s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "to"}, MetadataDirective="REPLACE", Metadata={"c": "d"})
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"c": "d"}
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    part = s3.upload_part_copy(
        Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, CopySource={"Bucket": bucket, "Key": "to"}, CopySourceRange="bytes=1-2"
    )
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=parts)
    assert body(s3, bucket, "m") == b"at"


def test_tagging(s3, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]
    assert s3.head_object(Bucket=bucket, Key="k").get("TagCount", 1) == 1
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    with pytest.raises(ClientError) as error:
        s3.get_bucket_tagging(Bucket=bucket)
    assert code(error) == (404, "NoSuchTagSet")
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "b", "Value": "2"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "b", "Value": "2"}]


def test_delete_objects(s3, bucket: str) -> None:
    for key in ("a", "b", "c&d"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "c&d"}, {"Key": "absent"}]})
    assert sorted(item["Key"] for item in answer["Deleted"]) == ["a", "absent", "c&d"]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b"]


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned(server: Shardgate, bucket: str, version: str) -> None:
    s3 = server.client(signature_version=version)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b"})
    with urllib.request.urlopen(urllib.request.Request(url, data=b"presigned", method="PUT", headers={"Content-Type": ""})) as answer:
        assert answer.status == 200
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"presigned"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.replace("Signature=", "Signature=0"))


def test_strangers_are_refused(server: Shardgate, bucket: str) -> None:
    def client(access_key: str, secret_key: str):
        return boto3.client(
            "s3", endpoint_url=server.endpoint, region_name="us-east-1", aws_access_key_id=access_key, aws_secret_access_key=secret_key
        )

    with pytest.raises(ClientError) as error:
        client("SGUNKNOWN", "x" * 20).list_buckets()
    assert code(error) == (403, "InvalidAccessKeyId")
    with pytest.raises(ClientError) as error:
        client(server.access_key, "x" * 20).list_buckets()
    assert code(error) == (403, "SignatureDoesNotMatch")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{server.endpoint}/{bucket}")


def test_another_tenants_bucket_is_closed(server: Shardgate, s3, bucket: str) -> None:
    command = [sys.executable, "-m", "proxy.cli.main", "tenant", "add", "other", "--config", str(server.config)]
    keys = ["--access-key", "OTHERTENANT", "--secret-key", "other-secret-key"]
    subprocess.run([*command, *keys], check=True, env={**os.environ, "SHARDGATE_DATA": str(server.data)}, stdout=subprocess.DEVNULL)
    other = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="OTHERTENANT",
        aws_secret_access_key="other-secret-key",
    )
    assert other.list_buckets()["Buckets"] == []
    with pytest.raises(ClientError) as error:
        other.list_objects_v2(Bucket=bucket)
    assert code(error) == (403, "AccessDenied")
    with pytest.raises(ClientError) as error:
        other.create_bucket(Bucket=bucket)
    assert code(error) == (409, "BucketAlreadyExists")


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("put_bucket_analytics_configuration", {"Id": "x", "AnalyticsConfiguration": {"Id": "x", "StorageClassAnalysis": {}}}),
        ("get_object_torrent", {"Key": "k"}),
    ],
)
def test_what_is_not_served_says_so(s3, bucket: str, operation: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ClientError) as error:
        getattr(s3, operation)(Bucket=bucket, **arguments)
    assert code(error) == (501, "NotImplemented")
