"""Lifecycle rules as AWS takes and tells them, and what answers say of objects under them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.blackbox.expect import content, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MIB = 1024 * 1024
EVERYTHING: list[dict[str, Any]] = [
    {
        "ID": "all filters",
        "Status": "Enabled",
        "Filter": {
            "And": {
                "Prefix": "logs/",
                "Tags": [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}],
                "ObjectSizeGreaterThan": 500,
                "ObjectSizeLessThan": 64_000_000_000,
            }
        },
        "Expiration": {"Days": 365},
        "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}, {"Days": 90, "StorageClass": "GLACIER_IR"}],
    },
    {
        "ID": "noncurrent",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30, "NewerNoncurrentVersions": 3},
        "NoncurrentVersionTransitions": [{"NoncurrentDays": 7, "StorageClass": "GLACIER_IR", "NewerNoncurrentVersions": 1}],
    },
    {"ID": "markers", "Status": "Enabled", "Filter": {"Prefix": "m/"}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
    {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": "u/"}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    {
        "ID": "off",
        "Status": "Disabled",
        "Filter": {"Tag": {"Key": "k", "Value": "v"}},
        "Expiration": {"Date": datetime(2040, 1, 1, tzinfo=UTC)},
    },
]


def set_rules(s3: S3Client, bucket: str, *rules: dict[str, Any], **options: Any) -> Any:
    return s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)}, **options)  # type: ignore[typeddict-item]


def rule(**parts: Any) -> dict[str, Any]:
    return {"ID": "r", "Status": "Enabled", "Filter": {}, **parts}


def test_rules_are_kept_told_and_removed(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchLifecycleConfiguration", 404):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    set_rules(s3, bucket, *EVERYTHING)
    told = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert told["Rules"] == EVERYTHING
    assert told["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
    set_rules(s3, bucket, rule(Expiration={"Days": 1}), TransitionDefaultMinimumObjectSize="varies_by_storage_class")
    told = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert [one["ID"] for one in told["Rules"]] == ["r"]
    assert told["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"
    s3.delete_bucket_lifecycle(Bucket=bucket)
    with s3_error("NoSuchLifecycleConfiguration", 404):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_the_form_from_before_there_were_filters_is_taken_and_told_again(s3: S3Client, bucket: str) -> None:
    old = {"ID": "old", "Prefix": "tmp/", "Status": "Enabled", "Expiration": {"Days": 1}}
    set_rules(s3, bucket, old)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [old]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"Status": "enabled", "Expiration": {"Days": 1}}, "MalformedXML"),
        ({"Expiration": {"Days": 0}}, "InvalidArgument"),
        ({"ID": "x" * 256, "Expiration": {"Days": 1}}, "InvalidArgument"),
        ({"Transitions": [{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}]}, "InvalidStorageClass"),
        ({}, "InvalidRequest"),
    ],
)
def test_rules_that_are_none_change_nothing(s3: S3Client, bucket: str, parts: dict[str, Any], code: str) -> None:
    set_rules(s3, bucket, rule(Expiration={"Days": 9}))
    with s3_error(code, 400):
        set_rules(s3, bucket, rule(**parts))
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"][0]["Expiration"] == {"Days": 9}


def test_a_document_that_nobody_vouches_for_is_refused(raw: RawClient, bucket: str) -> None:
    rule = b"<Rule><Prefix/><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>"
    document = b"<LifecycleConfiguration>" + rule + b"</LifecycleConfiguration>"
    answer = raw.request("PUT", f"/{bucket}", query=[("lifecycle", "")], body=document)
    assert answer.verdict == (400, "InvalidRequest")


def test_answers_tell_when_an_object_expires(s3: S3Client, bucket: str) -> None:
    set_rules(s3, bucket, rule(ID="three days", Filter={"Prefix": "logs/"}, Expiration={"Days": 3}))
    put = s3.put_object(Bucket=bucket, Key="logs/a", Body=b"data")
    expected = put["Expiration"]
    day = s3.head_object(Bucket=bucket, Key="logs/a")["LastModified"].replace(hour=0, minute=0, second=0) + timedelta(days=4)
    assert expected == f'expiry-date="{day:%a, %d %b %Y} 00:00:00 GMT", rule-id="three%20days"'
    assert s3.head_object(Bucket=bucket, Key="logs/a")["Expiration"] == expected
    assert s3.get_object(Bucket=bucket, Key="logs/a")["Expiration"] == expected
    assert s3.copy_object(Bucket=bucket, Key="logs/b", CopySource=f"{bucket}/logs/a")["Expiration"]
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="other", Body=b"data")
    assert "Expiration" not in s3.head_object(Bucket=bucket, Key="other")


def test_only_the_current_version_tells_when_it_expires(s3: S3Client, versioned: str) -> None:
    set_rules(s3, versioned, rule(Expiration={"Days": 3}))
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    s3.put_object(Bucket=versioned, Key="k", Body=b"2")
    assert "Expiration" not in s3.head_object(Bucket=versioned, Key="k", VersionId=first["VersionId"])
    assert "Expiration" in s3.head_object(Bucket=versioned, Key="k")


def test_an_upload_tells_when_it_is_aborted_and_its_object_when_it_expires(s3: S3Client, bucket: str) -> None:
    set_rules(
        s3,
        bucket,
        rule(ID="uploads", Filter={"Prefix": "u/"}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2}),
        rule(ID="objects", Expiration={"Days": 1}),
    )
    begun = s3.create_multipart_upload(Bucket=bucket, Key="u/k")
    assert begun["AbortRuleId"] == "uploads"
    assert (begun["AbortDate"].hour, begun["AbortDate"].minute) == (0, 0)
    assert timedelta(days=2) < begun["AbortDate"] - datetime.now(UTC) + timedelta(minutes=1) <= timedelta(days=3, minutes=1)
    part = s3.upload_part(Bucket=bucket, Key="u/k", UploadId=begun["UploadId"], PartNumber=1, Body=content(MIB))
    listed = s3.list_parts(Bucket=bucket, Key="u/k", UploadId=begun["UploadId"])
    assert (listed["AbortDate"], listed["AbortRuleId"]) == (begun["AbortDate"], "uploads")
    completed = s3.complete_multipart_upload(
        Bucket=bucket, Key="u/k", UploadId=begun["UploadId"], MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    assert 'rule-id="objects"' in completed["Expiration"]
    assert "AbortDate" not in s3.create_multipart_upload(Bucket=bucket, Key="other")


def test_nothing_is_archived_so_nothing_is_restored(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", StorageClass="GLACIER_IR")
    with s3_error("InvalidObjectState", 403) as caught:
        s3.restore_object(Bucket=bucket, Key="k", RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Bulk"}})
    assert caught.value.response["Error"]["StorageClass"] == "GLACIER_IR"  # type: ignore[typeddict-item]
    with s3_error("NoSuchKey", 404):
        s3.restore_object(Bucket=bucket, Key="gone", RestoreRequest={"Days": 1})


def test_a_rule_without_an_id_gets_one(s3: S3Client, bucket: str) -> None:
    rule = {"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}
    other = {**rule, "Filter": {"Prefix": "a/"}}
    set_rules(s3, bucket, rule, other)
    first, second = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert first["ID"] != second["ID"]
