"""Object lock as AWS has it: what a backup program does, and what everybody else may not."""

from __future__ import annotations

import time
import uuid
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.blackbox.expect import content, s3_error
from tests.blackbox.raw import RawClient
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MIB = 1024 * 1024
FAR = datetime(2999, 1, 1, tzinfo=UTC)
PROTECTED = "Access Denied because object protected by object lock."


def soon(**units: int) -> datetime:
    """Return a time from now on, in whole seconds, as S3 tells it again."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**units)


@pytest.fixture
def locked(s3: S3Client) -> str:
    name = f"lock-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def put(s3: S3Client, bucket: str, key: str = "k", **options: Any) -> str:
    return s3.put_object(Bucket=bucket, Key=key, Body=b"data", **options)["VersionId"]


def test_a_bucket_is_made_with_object_lock_and_versioning_for_good(s3: S3Client, locked: str) -> None:
    assert s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled"}
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    with s3_error("InvalidBucketState", 409):
        s3.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Suspended"})
    s3.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Enabled"})


@pytest.mark.parametrize("rule", [("GOVERNANCE", "Days", 7), ("COMPLIANCE", "Years", 2)])
def test_a_default_retention_is_kept_told_and_given(s3: S3Client, locked: str, rule: tuple[str, str, int]) -> None:
    mode, unit, count = rule
    configuration: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": mode, unit: count}}}
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=configuration)
    assert s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == configuration
    put(s3, locked)
    head = s3.head_object(Bucket=locked, Key="k")
    days = (head["ObjectLockRetainUntilDate"] - head["LastModified"]).days
    assert head["ObjectLockMode"] == mode
    assert days == 7 if unit == "Days" else 729 <= days <= 731
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    put(s3, locked)
    assert "ObjectLockMode" not in s3.head_object(Bucket=locked, Key="k")


def test_object_lock_begins_later_where_versioning_is_enabled(s3: S3Client, bucket: str) -> None:
    configuration: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    with s3_error("InvalidBucketState", 409):
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    with s3_error("InvalidBucketState", 409):
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    put(s3, bucket)
    assert s3.head_object(Bucket=bucket, Key="k")["ObjectLockMode"] == "GOVERNANCE"


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ({"ObjectLockEnabled": "Disabled"}, "MalformedXML"),
        ({"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "abc", "Days": 1}}}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Days": 1}}}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE"}}}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1, "Years": 1}}}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 0}}}, "InvalidArgument"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Years": -1}}}, "InvalidArgument"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 36_501}}}, "InvalidArgument"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Years": 101}}}, "InvalidArgument"),
    ],
)
def test_a_configuration_that_is_none_changes_nothing(s3: S3Client, locked: str, configuration: Any, code: str) -> None:
    with s3_error(code, 400):
        s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=configuration)
    assert s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled"}


def test_without_object_lock_nothing_of_it_is_served(s3: S3Client, bucket: str) -> None:
    put_options: list[dict[str, Any]] = [
        {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": soon(days=1)},
        {"ObjectLockLegalHoldStatus": "ON"},
    ]
    for options in put_options:
        with s3_error("InvalidRequest", 400):
            s3.put_object(Bucket=bucket, Key="k", **options)
        with s3_error("InvalidRequest", 400):
            s3.create_multipart_upload(Bucket=bucket, Key="k", **options)
    s3.put_object(Bucket=bucket, Key="k")
    calls: list[Any] = [
        lambda: s3.get_object_retention(Bucket=bucket, Key="k"),
        lambda: s3.get_object_legal_hold(Bucket=bucket, Key="k"),
        lambda: s3.put_object_retention(Bucket=bucket, Key="k", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon(days=1)}),
        lambda: s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": "ON"}),
    ]
    for call in calls:
        with s3_error("InvalidRequest", 400):
            call()


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_a_locked_version_is_told_and_stays(s3: S3Client, locked: str, mode: Any) -> None:
    until = soon(days=1)
    version = put(s3, locked, ObjectLockMode=mode, ObjectLockRetainUntilDate=until, ObjectLockLegalHoldStatus="ON")
    for answer in (s3.head_object(Bucket=locked, Key="k"), s3.get_object(Bucket=locked, Key="k")):
        assert (answer["ObjectLockMode"], answer["ObjectLockRetainUntilDate"], answer["ObjectLockLegalHoldStatus"]) == (mode, until, "ON")
    assert s3.get_object_retention(Bucket=locked, Key="k")["Retention"] == {"Mode": mode, "RetainUntilDate": until}
    assert s3.get_object_legal_hold(Bucket=locked, Key="k")["LegalHold"] == {"Status": "ON"}
    with s3_error("AccessDenied", 403) as caught:
        s3.delete_object(Bucket=locked, Key="k", VersionId=version)
    assert caught.value.response["Error"]["Message"] == PROTECTED
    answer = s3.delete_objects(Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    assert [(error["Code"], error["Message"]) for error in answer["Errors"]] == [("AccessDenied", PROTECTED)]
    marker = s3.delete_object(Bucket=locked, Key="k")
    s3.delete_object(Bucket=locked, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=locked, Key="k")["Body"].read() == b"data"
    with s3_error("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=locked)


def test_governance_is_passed_over_by_those_who_say_so(s3: S3Client, locked: str) -> None:
    version = put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon(days=2))
    shorter: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": soon(days=1)}
    with s3_error("AccessDenied", 403):
        s3.put_object_retention(Bucket=locked, Key="k", Retention=shorter)
    s3.put_object_retention(Bucket=locked, Key="k", Retention=shorter, BypassGovernanceRetention=True)
    assert s3.get_object_retention(Bucket=locked, Key="k")["Retention"] == shorter
    with s3_error("AccessDenied", 403):
        s3.put_object_retention(Bucket=locked, Key="k", Retention={})
    with s3_error("AccessDenied", 403):
        s3.delete_object(Bucket=locked, Key="k", VersionId=version)
    s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)
    with s3_error("NoSuchVersion", 404):
        s3.get_object(Bucket=locked, Key="k", VersionId=version)


def test_governance_is_taken_off_or_made_compliance_by_those_who_say_so(s3: S3Client, locked: str) -> None:
    until = soon(days=1)
    put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    compliance: Any = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
    with s3_error("AccessDenied", 403):
        s3.put_object_retention(Bucket=locked, Key="k", Retention=compliance)
    s3.put_object_retention(Bucket=locked, Key="k", Retention={}, BypassGovernanceRetention=True)
    with s3_error("NoSuchObjectLockConfiguration", 404):
        s3.get_object_retention(Bucket=locked, Key="k")
    s3.put_object_retention(Bucket=locked, Key="k", Retention=compliance)
    assert s3.get_object_retention(Bucket=locked, Key="k")["Retention"] == compliance


def test_compliance_grows_and_nothing_else(s3: S3Client, locked: str) -> None:
    """A backup program writes with a date, extends it for each increment that builds on the object, and cannot be made to delete it."""
    until = soon(days=7)
    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    longer: Any = {"Mode": "COMPLIANCE", "RetainUntilDate": soon(days=14)}
    s3.put_object_retention(Bucket=locked, Key="k", VersionId=version, Retention=longer)
    refused: list[Any] = [
        {"Mode": "COMPLIANCE", "RetainUntilDate": until},
        {"Mode": "GOVERNANCE", "RetainUntilDate": soon(days=21)},
        {},
    ]
    for retention in refused:
        with s3_error("AccessDenied", 403):
            s3.put_object_retention(Bucket=locked, Key="k", Retention=retention, BypassGovernanceRetention=True)
    with s3_error("AccessDenied", 403):
        s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)
    answer = s3.delete_objects(
        Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": version}, {"Key": "other"}]}, BypassGovernanceRetention=True
    )
    assert [error["Code"] for error in answer["Errors"]] == ["AccessDenied"]
    assert [deleted["Key"] for deleted in answer["Deleted"]] == ["other"]
    assert s3.get_object_retention(Bucket=locked, Key="k")["Retention"] == longer


def test_a_repository_of_backups_survives_whoever_has_its_keys(s3: S3Client, locked: str) -> None:
    """As restic and rclone use it: they know nothing of locks, write packs, prune, and delete their lock files, with plain keys.

    An intruder with the same keys deletes everything. Taking the delete markers away brings the repository back.
    """
    rule: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}}
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rule)
    files = {f"data/{number:02d}/pack": content(1000, number) for number in range(5)} | {"config": b"repository", "locks/1": b"pid"}
    for key, data in files.items():
        s3.put_object(Bucket=locked, Key=key, Body=data, ContentMD5=b64encode(md5(data).digest()).decode())
    s3.delete_object(Bucket=locked, Key="locks/1")
    kept = set(files) - {"locks/1"}
    assert {entry["Key"] for entry in s3.list_objects_v2(Bucket=locked)["Contents"]} == kept
    versions = s3.list_object_versions(Bucket=locked)["Versions"]
    doomed: Any = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]
    refused = s3.delete_objects(Bucket=locked, Delete={"Objects": doomed}, BypassGovernanceRetention=True)
    assert {error["Code"] for error in refused["Errors"]} == {"AccessDenied"}
    assert len(refused["Errors"]) == len(files)
    hidden = s3.delete_objects(Bucket=locked, Delete={"Objects": [{"Key": key} for key in kept]})
    assert len(hidden["Deleted"]) == len(kept)
    assert "Contents" not in s3.list_objects_v2(Bucket=locked)
    for marker in s3.list_object_versions(Bucket=locked)["DeleteMarkers"]:
        s3.delete_object(Bucket=locked, Key=marker["Key"], VersionId=marker["VersionId"])
    assert {key: s3.get_object(Bucket=locked, Key=key)["Body"].read() for key in files} == files


def test_a_legal_hold_comes_and_goes(s3: S3Client, locked: str) -> None:
    version = put(s3, locked)
    with s3_error("NoSuchObjectLockConfiguration", 404):
        s3.get_object_legal_hold(Bucket=locked, Key="k")
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    with s3_error("AccessDenied", 403):
        s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "OFF"})
    assert s3.head_object(Bucket=locked, Key="k")["ObjectLockLegalHoldStatus"] == "OFF"
    s3.delete_object(Bucket=locked, Key="k", VersionId=version)
    s3.delete_bucket(Bucket=locked)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-object-lock-mode": "GOVERNANCE"}, b"InvalidArgument"),
        ({"x-amz-object-lock-retain-until-date": "2999-01-01T00:00:00Z"}, b"InvalidArgument"),
        ({"x-amz-object-lock-mode": "abc", "x-amz-object-lock-retain-until-date": "2999-01-01T00:00:00Z"}, b"InvalidArgument"),
        ({"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": "2000-01-01T00:00:00Z"}, b"InvalidArgument"),
        ({"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": "soon"}, b"InvalidArgument"),
        ({"x-amz-object-lock-legal-hold": "on"}, b"InvalidArgument"),
        ({"x-amz-object-lock-event-hold": "ON"}, b"InvalidRequest"),
        ({"x-amz-object-lock-legal-hold": "ON", "content-md5": ""}, b"InvalidRequest"),
    ],
)
def test_headers_that_ask_for_no_lock_are_refused(raw: RawClient, locked: str, headers: dict[str, str], code: bytes) -> None:
    headers = {"content-md5": "jXd/OF09/siBXSD3SWAm3A==", **headers}
    answer = raw.request("PUT", f"/{locked}/k", headers={name: value for name, value in headers.items() if value}, body=b"data")
    assert (answer.status, code in answer.body) == (400, True), answer.body


def test_a_write_that_gets_a_lock_is_vouched_for(raw: RawClient, s3: S3Client, locked: str) -> None:
    assert raw.request("PUT", f"/{locked}/k", body=b"data").status == 200
    rule: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rule)
    answer = raw.request("PUT", f"/{locked}/k", body=b"data")
    assert answer.status == 400
    assert b"Content-MD5 OR x-amz-checksum-" in answer.body
    assert raw.request("PUT", f"/{locked}/k", headers={"content-md5": "jXd/OF09/siBXSD3SWAm3A=="}, body=b"data").status == 200


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("object-lock", b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"),
        ("retention", b"<Retention/>"),
        ("legal-hold", b"<LegalHold><Status>ON</Status></LegalHold>"),
    ],
)
def test_a_document_that_nobody_vouches_for_is_refused(raw: RawClient, locked: str, query: str, document: bytes) -> None:
    path = f"/{locked}" if query == "object-lock" else f"/{locked}/k"
    answer = raw.request("PUT", path, query=[(query, "")], body=document)
    assert answer.verdict == (400, "InvalidRequest")


@pytest.mark.parametrize(
    "retention",
    [
        {"Mode": "GOVERNANCE"},
        {"RetainUntilDate": datetime(2999, 1, 1, tzinfo=UTC)},
        {"Mode": "abc", "RetainUntilDate": datetime(2999, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_retention_that_is_none_is_malformed(s3: S3Client, locked: str, retention: Any) -> None:
    put(s3, locked)
    with s3_error("MalformedXML", 400):
        s3.put_object_retention(Bucket=locked, Key="k", Retention=retention)


def test_a_retention_ends_ahead_of_now(s3: S3Client, locked: str) -> None:
    put(s3, locked)
    with s3_error("InvalidArgument", 400) as caught:
        s3.put_object_retention(Bucket=locked, Key="k", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon(days=-1)})
    assert caught.value.response["Error"]["Message"] == "The retain until date must be in the future!"


def test_a_delete_marker_takes_no_lock(s3: S3Client, locked: str) -> None:
    marker = s3.delete_object(Bucket=locked, Key="k")["VersionId"]
    with s3_error("MethodNotAllowed", 405):
        s3.put_object_legal_hold(Bucket=locked, Key="k", VersionId=marker, LegalHold={"Status": "ON"})
    s3.delete_object(Bucket=locked, Key="k", VersionId=marker)


def test_an_upload_in_parts_gets_its_lock_at_its_completion(s3: S3Client, locked: str) -> None:
    until = soon(days=1)
    begun = s3.create_multipart_upload(
        Bucket=locked, Key="k", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until, ObjectLockLegalHoldStatus="ON"
    )
    part = s3.upload_part(Bucket=locked, Key="k", UploadId=begun["UploadId"], PartNumber=1, Body=content(MIB))
    s3.complete_multipart_upload(
        Bucket=locked, Key="k", UploadId=begun["UploadId"], MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    head = s3.head_object(Bucket=locked, Key="k")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"], head["ObjectLockLegalHoldStatus"]) == ("COMPLIANCE", until, "ON")


def test_a_copy_has_a_lock_of_its_own_or_none(s3: S3Client, locked: str) -> None:
    put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=soon(days=1))
    s3.copy_object(Bucket=locked, Key="free", CopySource=f"{locked}/k")
    assert "ObjectLockMode" not in s3.head_object(Bucket=locked, Key="free")
    s3.copy_object(
        Bucket=locked, Key="bound", CopySource=f"{locked}/k", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon(days=1)
    )
    assert s3.head_object(Bucket=locked, Key="bound")["ObjectLockMode"] == "GOVERNANCE"


def test_a_lock_that_ends_lets_go(s3: S3Client, locked: str) -> None:
    until = soon(seconds=8)
    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    while True:
        try:
            s3.delete_object(Bucket=locked, Key="k", VersionId=version)
        except ClientError:
            assert datetime.now(UTC) < until + timedelta(seconds=PATIENCE_SECONDS)
            time.sleep(0.1)
        else:
            break
    assert datetime.now(UTC) >= until


def test_a_stranger_to_the_bucket_changes_no_lock(other_s3: S3Client, s3: S3Client, locked: str) -> None:
    put(s3, locked)
    with s3_error("AccessDenied", 403):
        other_s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    with s3_error("AccessDenied", 403):
        other_s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
