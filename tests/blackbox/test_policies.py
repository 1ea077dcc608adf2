"""Bucket policies: what they give to other tenants and to everybody, and what they take from the owner."""

from __future__ import annotations

import io
import json
import os
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from tests.blackbox.conftest import OTHER_ACCOUNT
from tests.blackbox.expect import s3_error
from tests.servers import Shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

OTHER = {"AWS": f"arn:aws:iam::{OTHER_ACCOUNT}:root"}


@pytest.fixture
def other_bucket(other_s3: S3Client) -> str:
    name = f"other-{uuid.uuid4()}"
    other_s3.create_bucket(Bucket=name)
    return name


def put_policy(s3: S3Client, bucket: str, *statements: dict[str, object]) -> str:
    """Put a policy, a public one too; `%` stands for the bucket's ARN."""
    s3.delete_public_access_block(Bucket=bucket)
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)}).replace("%", f"arn:aws:s3:::{bucket}")
    s3.put_bucket_policy(Bucket=bucket, Policy=text)
    return text


def allow(action: str | list[str], resource: str | list[str] = "%/*", principal: object = OTHER, **more: object) -> dict[str, object]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource, **more}


def deny(action: str | list[str], resource: str | list[str] = "%/*", principal: object = "*", **more: object) -> dict[str, object]:
    return {**allow(action, resource, principal, **more), "Effect": "Deny"}


def anonymous_status(server: Shardgate, path: str, method: str = "GET", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method, headers=named)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_policy_is_told_as_it_was_put_and_removed(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)
    text = put_policy(s3, bucket, allow("s3:GetObject"))
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == text
    for _ in range(2):
        s3.delete_bucket_policy(Bucket=bucket)
    with s3_error("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)


def test_a_faulty_policy_changes_nothing(s3: S3Client, bucket: str) -> None:
    text = put_policy(s3, bucket, allow("s3:GetObject"))
    for faulty in ("{}", "no policy", text.replace(bucket, "another-bucket"), text.replace("Allow", "Permit")):
        with s3_error("MalformedPolicy", 400):
            s3.put_bucket_policy(Bucket=bucket, Policy=faulty)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == text


@pytest.mark.parametrize("name", ["999999999999", f"arn:aws:iam::{OTHER_ACCOUNT}:user/nobody", "arn:aws:iam::999999999999:role/x"])
def test_whom_a_policy_names_must_be_there(s3: S3Client, bucket: str, name: str) -> None:
    with s3_error("MalformedPolicy", 400) as caught:
        put_policy(s3, bucket, allow("s3:GetObject", principal={"AWS": name}))
    assert caught.value.response["Error"]["Message"] == "Invalid principal in policy"


def test_another_tenant_does_what_it_was_given_and_no_more(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="open/a", Body=b"data")
    s3.put_object(Bucket=bucket, Key="closed/a", Body=b"data")
    with s3_error("AccessDenied", 403):
        other_s3.get_object(Bucket=bucket, Key="open/a")
    put_policy(
        s3,
        bucket,
        allow(["s3:GetObject", "s3:PutObject"], "%/open/*"),
        allow("s3:ListBucket", "%", Condition={"StringLike": {"s3:prefix": "open/*"}}),
    )
    assert other_s3.get_object(Bucket=bucket, Key="open/a")["Body"].read() == b"data"
    other_s3.put_object(Bucket=bucket, Key="open/b", Body=b"theirs")
    assert s3.get_object(Bucket=bucket, Key="open/b")["Body"].read() == b"theirs"
    assert [one["Key"] for one in other_s3.list_objects_v2(Bucket=bucket, Prefix="open/")["Contents"]] == ["open/a", "open/b"]
    for attempt in (
        lambda: other_s3.get_object(Bucket=bucket, Key="closed/a"),
        lambda: other_s3.delete_object(Bucket=bucket, Key="open/a"),
        lambda: other_s3.list_objects_v2(Bucket=bucket),
        lambda: other_s3.get_bucket_policy(Bucket=bucket),
        lambda: other_s3.delete_bucket(Bucket=bucket),
    ):
        with s3_error("AccessDenied", 403):
            attempt()
    s3.delete_bucket_policy(Bucket=bucket)
    with s3_error("AccessDenied", 403):
        other_s3.get_object(Bucket=bucket, Key="open/a")


def test_another_tenant_uploads_in_parts_and_copies(s3: S3Client, other_s3: S3Client, bucket: str, other_bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data")
    put_policy(s3, bucket, allow(["s3:GetObject", "s3:PutObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]))
    upload = other_s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = other_s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
    other_s3.complete_multipart_upload(
        Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    assert s3.get_object(Bucket=bucket, Key="parts")["Body"].read() == b"part"
    other_s3.copy_object(Bucket=other_bucket, Key="taken", CopySource=f"{bucket}/a")
    assert other_s3.get_object(Bucket=other_bucket, Key="taken")["Body"].read() == b"data"
    with s3_error("AccessDenied", 403):
        other_s3.copy_object(Bucket=other_bucket, Key="taken", CopySource={"Bucket": bucket, "Key": "a", "VersionId": "null"})


def test_a_list_of_deletions_is_judged_key_by_key(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    for key in ("open/a", "closed/a"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"data")
    put_policy(
        s3, bucket, allow("s3:DeleteObject", "%/open/*"), allow("s3:DeleteObject", "%/*", Condition={"Bool": {"aws:SecureTransport": True}})
    )
    answer = other_s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "open/a"}, {"Key": "closed/a"}]})
    assert [one["Key"] for one in answer["Deleted"]] == ["open/a"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("closed/a", "AccessDenied")]


def test_everybody_reads_what_was_opened_to_everybody(s3: S3Client, server: Shardgate, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="open/a", Body=b"data")
    assert anonymous_status(server, f"/{bucket}/open/a") == 403
    put_policy(s3, bucket, allow("s3:GetObject", "%/open/*", "*"))
    assert anonymous_status(server, f"/{bucket}/open/a") == 200
    assert anonymous_status(server, f"/{bucket}/open/a", "HEAD") == 200
    assert anonymous_status(server, f"/{bucket}/closed/a") == 403
    assert anonymous_status(server, f"/{bucket}") == 403
    assert anonymous_status(server, f"/{bucket}/open/a", "DELETE") == 403


def test_a_key_that_is_not_there_is_told_to_those_alone_who_may_list(
    s3: S3Client, other_s3: S3Client, server: Shardgate, bucket: str
) -> None:
    put_policy(s3, bucket, allow("s3:GetObject", "%/*", "*"))
    assert anonymous_status(server, f"/{bucket}/missing") == 403
    assert anonymous_status(server, f"/{bucket}/missing", "HEAD") == 403
    put_policy(s3, bucket, allow("s3:GetObject", "%/*", "*"), allow("s3:ListBucket", "%", "*"))
    assert anonymous_status(server, f"/{bucket}/missing") == 404
    with s3_error("NoSuchKey", 404):
        other_s3.get_object(Bucket=bucket, Key="missing")


def test_a_bucket_that_is_not_there_is_told_to_everybody(server: Shardgate) -> None:
    assert anonymous_status(server, "/no-bucket-of-this-name/key") == 404


def test_an_explicit_denial_binds_the_owner_but_for_the_policy_itself(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data")
    put_policy(s3, bucket, deny("s3:*", ["%", "%/*"]))
    for attempt in (
        lambda: s3.get_object(Bucket=bucket, Key="a"),
        lambda: s3.list_objects_v2(Bucket=bucket),
        lambda: s3.delete_bucket(Bucket=bucket),
    ):
        with s3_error("AccessDenied", 403) as caught:
            attempt()
        assert caught.value.response["Error"]["Message"].endswith("with an explicit deny in a resource-based policy")
    assert "Deny" in s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"data"


def test_a_policy_is_the_business_of_the_owner_s_account(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    put_policy(s3, bucket, allow("s3:*", ["%", "%/*"]))
    assert other_s3.get_bucket_versioning(Bucket=bucket)
    for attempt in (
        lambda: other_s3.get_bucket_policy(Bucket=bucket),
        lambda: other_s3.delete_bucket_policy(Bucket=bucket),
        lambda: put_policy(other_s3, bucket, allow("s3:GetObject")),
    ):
        with s3_error("MethodNotAllowed", 405):
            attempt()


def test_the_tags_of_an_object_open_it(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data", Tagging="security=public")
    s3.put_object(Bucket=bucket, Key="b", Body=b"data", Tagging="security=secret")
    put_policy(s3, bucket, allow("s3:GetObject", Condition={"StringEquals": {"s3:ExistingObjectTag/security": "public"}}))
    assert other_s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"data"
    with s3_error("AccessDenied", 403):
        other_s3.get_object(Bucket=bucket, Key="b")


def test_the_tags_of_a_document_are_judged_before_they_are_put(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data")
    condition = {"StringEquals": {"s3:RequestObjectTag/team": "red"}, "ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["team"]}}
    put_policy(s3, bucket, allow("s3:PutObjectTagging", Condition=condition))
    other_s3.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "team", "Value": "red"}]})
    for tags in ({"team": "blue"}, {"team": "red", "more": "x"}, {}):
        with s3_error("AccessDenied", 403):
            tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
            other_s3.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": tag_set})  # type: ignore[typeddict-item]
    assert s3.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == [{"Key": "team", "Value": "red"}]


@pytest.mark.parametrize(
    ("condition", "headers", "status"),
    [
        ({"StringLike": {"aws:UserAgent": "mirror/*"}}, {"User_Agent": "mirror/1"}, 200),
        ({"StringLike": {"aws:UserAgent": "mirror/*"}}, {"User_Agent": "other"}, 403),
        ({"StringLike": {"aws:Referer": "https://site.example/*"}}, {"Referer": "https://site.example/page"}, 200),
        ({"StringLike": {"aws:Referer": "https://site.example/*"}}, {}, 403),
        ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, {}, 200),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, {}, 403),
        ({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}, {"X_Forwarded_For": "192.0.2.7"}, 403),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"X_Forwarded_Proto": "https"}, 403),
        ({"Bool": {"aws:SecureTransport": "false"}}, {}, 200),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, {}, 200),
        ({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, {}, 403),
        ({"StringEquals": {"aws:PrincipalType": "Anonymous"}}, {}, 200),
        ({"Null": {"s3:authType": "true"}}, {}, 200),
    ],
)
def test_a_condition_goes_by_what_the_request_is(
    s3: S3Client, server: Shardgate, bucket: str, condition: dict[str, object], headers: dict[str, str], status: int
) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data")
    put_policy(s3, bucket, allow("s3:GetObject", principal="*", Condition=condition))
    assert anonymous_status(server, f"/{bucket}/a", **headers) == status


def test_presigned_requests_can_be_told_from_others(s3: S3Client, server: Shardgate, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data")
    put_policy(s3, bucket, deny("s3:GetObject", Condition={"StringNotEquals": {"s3:authType": "REST-QUERY-STRING"}}))
    with s3_error("AccessDenied", 403):
        s3.get_object(Bucket=bucket, Key="a")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})
    assert urllib.request.urlopen(url).status == 200
    put_policy(s3, bucket, deny("s3:GetObject", Condition={"NumericGreaterThan": {"s3:signatureAge": "600000"}}))
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"data"


def test_uploads_without_encryption_are_refused_where_the_policy_says_so(s3: S3Client, bucket: str) -> None:
    put_policy(s3, bucket, deny("s3:PutObject", Condition={"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}))
    with s3_error("AccessDenied", 403):
        s3.put_object(Bucket=bucket, Key="a", Body=b"data")
    s3.put_object(Bucket=bucket, Key="a", Body=b"data", ServerSideEncryption="AES256")


SSE = "s3:x-amz-server-side-encryption"
PART = b"p" * (5 * 1024 * 1024)
UNENCRYPTED = deny("s3:PutObject", Condition={"Null": {SSE: "true"}})


@pytest.mark.parametrize("condition", [{"Null": {SSE: "true"}}, {"StringNotEquals": {SSE: ["AES256", "aws:kms"]}}])
@pytest.mark.parametrize("encryption", ["AES256", "aws:kms"])
def test_a_large_file_is_judged_by_the_encryption_that_its_upload_began_with(
    s3: S3Client, bucket: str, condition: dict[str, object], encryption: str
) -> None:
    put_policy(s3, bucket, deny("s3:PutObject", Condition=condition))
    data = os.urandom(1024 * 1024) * 20
    with s3_error("AccessDenied", 403):
        s3.upload_fileobj(io.BytesIO(data), bucket, "large")
    s3.upload_fileobj(io.BytesIO(data), bucket, "large", ExtraArgs={"ServerSideEncryption": encryption})
    assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == data


def test_parts_of_another_encryption_than_the_policy_s_are_refused(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=PART)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ServerSideEncryption="AES256")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=PART)
    put_policy(s3, bucket, deny("s3:PutObject", Condition={"StringNotEquals": {SSE: "aws:kms"}}))
    with s3_error("AccessDenied", 403):
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=2, Body=PART)
    with s3_error("AccessDenied", 403):
        s3.upload_part_copy(Bucket=bucket, Key="k", UploadId=upload, PartNumber=2, CopySource=f"{bucket}/source")
    with s3_error("AccessDenied", 403):
        s3.complete_multipart_upload(
            Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        )
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)


def test_an_upload_that_leaves_its_encryption_to_the_bucket_has_named_none(s3: S3Client, bucket: str) -> None:
    put_policy(s3, bucket, deny("s3:PutObject", Condition={"Null": {SSE: "false"}, "StringNotEquals": {SSE: "aws:kms"}}))
    s3.upload_fileobj(io.BytesIO(PART * 2), bucket, "large")
    assert s3.head_object(Bucket=bucket, Key="large")["ContentLength"] == 2 * len(PART)


def test_an_upload_that_is_not_there_is_told_to_who_might_write_to_it(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    put_policy(s3, bucket, UNENCRYPTED)
    with s3_error("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="k", UploadId="x" * 64, PartNumber=1, Body=b"data")
    with s3_error("AccessDenied", 403):
        other_s3.upload_part(Bucket=bucket, Key="k", UploadId="x" * 64, PartNumber=1, Body=b"data")
    put_policy(s3, bucket, allow("s3:PutObject", Condition={"StringEquals": {SSE: "AES256"}}))
    with s3_error("NoSuchUpload", 404):
        other_s3.upload_part(Bucket=bucket, Key="k", UploadId="x" * 64, PartNumber=1, Body=b"data")
    with s3_error("AccessDenied", 403):
        other_s3.create_multipart_upload(Bucket=bucket, Key="k")


def test_a_completion_is_answered_again_under_a_policy_about_encryption(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=PART)
    put_policy(s3, bucket, UNENCRYPTED)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ServerSideEncryption="AES256")["UploadId"]
    copied = s3.upload_part_copy(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, CopySource=f"{bucket}/source")
    etag = copied["CopyPartResult"]["ETag"]
    answers = [
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})[
            "ETag"
        ]
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_an_unsigned_upload_is_taken_where_everybody_may_write(s3: S3Client, bucket: str, server: Shardgate) -> None:
    put_policy(s3, bucket, allow("s3:PutObject", principal="*"))
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/{bucket}/anyone", method="PUT", data=b"data")
    assert urllib.request.urlopen(request).status == 200
    assert s3.get_object(Bucket=bucket, Key="anyone")["Body"].read() == b"data"


def test_refusals_to_strangers_say_nothing(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    put_policy(s3, bucket, deny("s3:GetObject"))
    with pytest.raises(ClientError) as caught:
        other_s3.get_object(Bucket=bucket, Key="a")
    assert caught.value.response["Error"]["Message"] == "Access Denied"


def test_a_copy_takes_tags_along_only_for_whom_may_read_and_give_them(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"data", Tagging="open=yes")
    s3.put_object(Bucket=bucket, Key="plain", Body=b"data")
    copies, source = allow(["s3:GetObject", "s3:PutObject"]), {"Bucket": bucket, "Key": "a"}
    for more in ([], ["s3:GetObjectTagging"], ["s3:PutObjectTagging"]):
        put_policy(s3, bucket, copies, *([allow(more)] if more else []))
        with s3_error("AccessDenied", 403):
            other_s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
    other_s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "plain"})
    put_policy(s3, bucket, copies)
    other_s3.copy_object(Bucket=bucket, Key="b", CopySource=source, TaggingDirective="REPLACE")
    assert s3.get_object_tagging(Bucket=bucket, Key="b")["TagSet"] == []
    put_policy(s3, bucket, copies, allow(["s3:GetObjectTagging", "s3:PutObjectTagging"]))
    other_s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
    assert s3.get_object_tagging(Bucket=bucket, Key="b")["TagSet"] == [{"Key": "open", "Value": "yes"}]
