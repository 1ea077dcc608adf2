"""Transfer acceleration: a bucket's second name works while its owner has it enabled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
import requests

from tests.blackbox.conftest import ACCELERATE_DOMAIN, LOCATION, NewBucket
from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawAnswer, RawClient
from tests.blackbox.signer import Signer
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def accelerate(s3: S3Client, bucket: str, status: str = "Enabled") -> None:
    s3.put_bucket_accelerate_configuration(Bucket=bucket, AccelerateConfiguration={"Status": status})  # type: ignore[typeddict-item]


@pytest.fixture
def quick(server: Shardgate, bucket: str) -> RawClient:
    """Asks for the bucket by its accelerated name."""
    return RawClient("127.0.0.1", server.port, Signer(server.access_key, server.secret_key, host=f"{bucket}.{ACCELERATE_DOMAIN}"))


def test_the_setting_is_read_as_it_was_made(s3: S3Client, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    for status in ("Suspended", "Enabled", "Suspended"):
        accelerate(s3, bucket, status)
        assert s3.get_bucket_accelerate_configuration(Bucket=bucket)["Status"] == status


def test_an_enabled_bucket_is_served_by_its_accelerated_name(s3: S3Client, quick: RawClient, bucket: str) -> None:
    accelerate(s3, bucket)
    assert quick.request("PUT", "/a/k", body=b"data").status == 200
    assert quick.request("GET", "/a/k").body == b"data"
    assert s3.get_object(Bucket=bucket, Key="a/k")["Body"].read() == b"data"
    assert b"<Key>a/k</Key>" in quick.request("GET", "/", [("list-type", "2")]).body
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_uploads_in_parts_are_told_their_accelerated_address(s3: S3Client, quick: RawClient, bucket: str) -> None:
    accelerate(s3, bucket)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = quick.request("PUT", "/k", [("partNumber", "1"), ("uploadId", upload)], body=b"part").headers["etag"]
    document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part}</ETag></Part></CompleteMultipartUpload>"
    answer = quick.request("POST", "/k", [("uploadId", upload)], body=document.encode())
    address = next(element.text for element in ElementTree.fromstring(answer.body) if element.tag.endswith("Location"))
    assert address == f"http://{bucket}.{ACCELERATE_DOMAIN}/k"


@pytest.mark.parametrize(("status", "complaint"), [(None, "not configured"), ("Suspended", "disabled")])
@pytest.mark.parametrize(("method", "path"), [("GET", "/k"), ("PUT", "/k"), ("HEAD", "/k"), ("GET", "/"), ("POST", "/")])
def test_a_bucket_without_acceleration_is_not(
    s3: S3Client, quick: RawClient, bucket: str, status: str | None, complaint: str, method: str, path: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    if status is not None:
        accelerate(s3, bucket, status)
    answer = quick.request(method, path, [("delete", "")] if method == "POST" else (), body=b"" if method in {"GET", "HEAD"} else b"new")
    assert answer.status == 400
    if method != "HEAD":
        assert answer.error["Code"] == "InvalidRequest"
        assert complaint in answer.error["Message"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"data"


def test_forms_are_bound_by_it_as_well(server: Shardgate, s3: S3Client, bucket: str) -> None:
    form = s3.generate_presigned_post(bucket, "k")

    def post() -> int:
        host = {"Host": f"{bucket}.{ACCELERATE_DOMAIN}"}
        return requests.post(server.endpoint, data=form["fields"], files={"file": b"x"}, headers=host, timeout=PATIENCE_SECONDS).status_code

    assert post() == 400
    accelerate(s3, bucket)
    assert post() == 204


def test_what_concerns_the_bucket_itself_is_not_accelerated(s3: S3Client, quick: RawClient, bucket: str) -> None:
    accelerate(s3, bucket)
    for method in ("PUT", "DELETE"):
        assert quick.request(method, "/").verdict == (400, "InvalidRequest")
    s3.head_bucket(Bucket=bucket)


def test_the_domain_itself_is_no_name_of_the_server(server: Shardgate, bucket: str) -> None:
    bare = RawClient("127.0.0.1", server.port, Signer(server.access_key, server.secret_key, host=ACCELERATE_DOMAIN))
    answer: RawAnswer = bare.request("GET", f"/{bucket}")
    assert (answer.status, answer.error["Code"]) == (400, "InvalidRequest")
    assert "virtual style" in answer.error["Message"]


def test_a_name_with_periods_cannot_be_accelerated(s3: S3Client, bucket: str) -> None:
    name = f"a.{bucket}"[:63]
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": LOCATION})  # type: ignore[typeddict-item]
    with s3_error("InvalidRequest", 400) as refused:
        accelerate(s3, name)
    assert "periods" in str(refused.value)
    accelerate(s3, name, "Suspended")


def test_a_status_that_is_none_is_malformed(s3: S3Client, bucket: str) -> None:
    with s3_error("MalformedXML", 400):
        accelerate(s3, bucket, "enabled")
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)


def test_only_who_may_sets_it(s3: S3Client, other_s3: S3Client, with_acls: NewBucket) -> None:
    name = with_acls()
    with s3_error("AccessDenied", 403):
        accelerate(other_s3, name)
    with s3_error("AccessDenied", 403):
        other_s3.get_bucket_accelerate_configuration(Bucket=name)


def test_where_no_name_is_faster_it_cannot_be_enabled(tmp_path: Path) -> None:
    with shardgate(tmp_path, config=ROOT / "config" / "bench.toml") as server:
        s3 = server.client()
        s3.create_bucket(Bucket="bucket")
        with s3_error("InvalidRequest", 400) as refused:
            accelerate(s3, "bucket")
        assert "accelerate_domains" in str(refused.value)
        accelerate(s3, "bucket", "Suspended")
        assert s3.get_bucket_accelerate_configuration(Bucket="bucket")["Status"] == "Suspended"
