"""Conditional reads and writes: AWS's table of outcomes, and races that only one may win."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PAST = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
LATER = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
WRONG = '"00000000000000000000000000000000"'


@pytest.fixture
def etag(s3: S3Client, bucket: str) -> str:
    return s3.put_object(Bucket=bucket, Key="k", Body=b"body")["ETag"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": "{etag}"}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": f"{WRONG}, {{etag}}"}, 200),
        ({"if-match": WRONG}, 412),
        ({"if-none-match": "{etag}"}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": WRONG}, 200),
        ({"if-modified-since": PAST}, 200),
        ({"if-modified-since": "{now}"}, 304),
        ({"if-unmodified-since": PAST}, 412),
        ({"if-unmodified-since": LATER}, 200),
        # Documented by AWS: a true If-Match overrides If-Unmodified-Since; a false If-None-Match overrides If-Modified-Since.
        ({"if-match": "{etag}", "if-unmodified-since": PAST}, 200),
        ({"if-none-match": "{etag}", "if-modified-since": PAST}, 304),
        ({"if-none-match": WRONG, "if-modified-since": "{now}"}, 200),
        ({"if-modified-since": "not a date"}, 200),
        ({"if-modified-since": LATER}, 200),
    ],
)
def test_conditional_read(raw: RawClient, s3: S3Client, bucket: str, etag: str, method: str, headers: dict[str, str], status: int) -> None:
    now = raw.request("HEAD", f"/{bucket}/k").headers["last-modified"]
    answer = raw.request(method, f"/{bucket}/k", headers={name: value.format(etag=etag, now=now) for name, value in headers.items()})
    assert answer.status == status
    if status == 304:
        assert (answer.body, answer.headers["etag"]) == (b"", etag)
    if status == 412 and method == "GET":
        assert answer.error["Code"] == "PreconditionFailed"
        assert answer.error["Condition"].lower() in headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified_renews_what_caches_keep(raw: RawClient, s3: S3Client, versioned: str, method: str) -> None:
    put = s3.put_object(
        Bucket=versioned, Key="k", Body=b"x", CacheControl="max-age=60", Expires=datetime.fromtimestamp(0, UTC), Metadata={"a": "b"}
    )
    answer = raw.request(method, f"/{versioned}/k", headers={"if-none-match": put["ETag"]})
    told = {name: answer.headers.get(name) for name in ("etag", "cache-control", "expires", "x-amz-version-id", "x-amz-meta-a")}
    assert (answer.status, answer.body) == (304, b"")
    assert told == {
        "etag": put["ETag"],
        "cache-control": "max-age=60",
        "expires": "Thu, 01 Jan 1970 00:00:00 GMT",
        "x-amz-version-id": put["VersionId"],
        "x-amz-meta-a": None,
    }
    assert answer.headers["last-modified"] == raw.request("HEAD", f"/{versioned}/k").headers["last-modified"]


def test_conditions_on_a_missing_key_say_it_is_missing(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="missing", IfMatch=WRONG)
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="missing", IfNoneMatch="*")


def test_put_if_absent(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    with s3_error("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfNoneMatch="*")


def test_put_if_unchanged(s3: S3Client, bucket: str, etag: str) -> None:
    new = s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=etag)["ETag"]
    with s3_error("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=etag)
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == new


def test_put_if_unchanged_of_a_missing_key(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="missing", Body=b"x", IfMatch=WRONG)


def test_put_takes_no_other_if_none_match(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", headers={"if-none-match": WRONG}).verdict == (501, "NotImplemented")


def test_writes_take_one_condition_at_a_time(raw: RawClient, s3: S3Client, bucket: str, etag: str) -> None:
    both = {"if-match": etag, "if-none-match": "*"}
    upload, parts = upload_one_part(s3, bucket, b"new")
    assert raw.request("PUT", f"/{bucket}/k", headers=both, body=b"x").verdict == (501, "NotImplemented")
    with s3_error("NotImplemented", 501):
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="k",
            UploadId=upload,
            MultipartUpload=parts,  # type: ignore[arg-type]
            IfMatch=etag,
            IfNoneMatch="*",
        )
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"


@pytest.mark.parametrize("name", ["if-unmodified-since", "if-modified-since"])
def test_a_date_is_no_condition_of_a_write(raw: RawClient, s3: S3Client, bucket: str, etag: str, name: str) -> None:
    for method in ("PUT", "DELETE"):
        assert raw.request(method, f"/{bucket}/k", headers={name: PAST}).verdict == (501, "NotImplemented")
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == etag


def test_a_delete_under_a_condition_names_no_version(raw: RawClient, s3: S3Client, versioned: str) -> None:
    put = s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    answer = raw.request("DELETE", f"/{versioned}/k", [("versionId", put["VersionId"])], {"if-match": put["ETag"]})
    assert answer.verdict == (501, "NotImplemented")
    entry = {"Key": "k", "VersionId": put["VersionId"], "ETag": put["ETag"]}
    [error] = s3.delete_objects(Bucket=versioned, Delete={"Objects": [entry]})["Errors"]  # type: ignore[list-item]
    assert (error["Key"], error["VersionId"], error["Code"]) == ("k", put["VersionId"], "NotImplemented")
    assert s3.head_object(Bucket=versioned, Key="k", VersionId=put["VersionId"])["ETag"] == put["ETag"]


def test_an_upload_is_aborted_if_it_was_begun_then(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    begun = s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["Initiated"]
    with s3_error("PreconditionFailed", 412):
        s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, IfMatchInitiatedTime=begun - timedelta(seconds=1))
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, IfMatchInitiatedTime=begun)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("at_once", [False, True], ids=["DeleteObject", "DeleteObjects"])
@pytest.mark.parametrize(
    "wrong", [{"ETag": WRONG}, {"Size": 3}, {"Size": 0}, {"LastModifiedTime": -SECOND}, {"ETag": "{etag}", "Size": 5}], ids=str
)
def test_conditional_delete(s3: S3Client, bucket: str, etag: str, wrong: dict[str, object], at_once: bool) -> None:
    """`wrong` is what does not hold; that the same conditions delete the object once they hold shows that they are understood."""
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    true = {"ETag": etag, "Size": 4, "LastModifiedTime": modified}
    given = {name: modified + value if isinstance(value, timedelta) else value for name, value in wrong.items()}
    assert (
        delete_if(s3, bucket, at_once, {name: etag if value == "{etag}" else value for name, value in given.items()})
        == "PreconditionFailed"
    )
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == etag
    assert delete_if(s3, bucket, at_once, {name: true[name] for name in wrong}) == ""
    with s3_error("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


def delete_if(s3: S3Client, bucket: str, at_once: bool, conditions: dict[str, object]) -> str:
    """Delete on conditions; return the code of the error, if there is one."""
    if at_once:
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", **conditions}]})  # type: ignore[list-item]
        return answer["Errors"][0]["Code"] if "Errors" in answer else ""
    headers = {"ETag": "IfMatch", "Size": "IfMatchSize", "LastModifiedTime": "IfMatchLastModifiedTime"}
    try:
        s3.delete_object(Bucket=bucket, Key="k", **{headers[name]: value for name, value in conditions.items()})  # type: ignore[arg-type]
    except ClientError as error:
        return error.response["Error"]["Code"]
    return ""


def test_only_an_etag_needs_an_object_to_delete(s3: S3Client, bucket: str) -> None:
    s3.delete_object(Bucket=bucket, Key="missing", IfMatchSize=5)
    s3.delete_object(Bucket=bucket, Key="missing", IfMatchLastModifiedTime=datetime.fromtimestamp(0, UTC))
    for wanted in ("*", WRONG):
        with s3_error("NoSuchKey", 404):
            s3.delete_object(Bucket=bucket, Key="missing", IfMatch=wanted)


def test_any_object_matches_a_star(s3: S3Client, bucket: str, etag: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfMatch="*")
    s3.delete_object(Bucket=bucket, Key="k", IfMatch="*")
    with s3_error("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfMatch="*")


@pytest.mark.parametrize(("name", "value"), [("x-amz-if-match-size", "many"), ("x-amz-if-match-last-modified-time", "yesterday")])
def test_a_condition_that_cannot_be_read_deletes_nothing(
    raw: RawClient, s3: S3Client, bucket: str, etag: str, name: str, value: str
) -> None:
    assert raw.request("DELETE", f"/{bucket}/k", headers={name: value}).verdict == (400, "InvalidArgument")
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == etag


def test_a_copy_onto_a_key_has_conditions_as_a_put_has(s3: S3Client, bucket: str, etag: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"new")
    for condition in ({"IfMatch": WRONG}, {"IfNoneMatch": "*"}):
        with s3_error("PreconditionFailed", 412):
            s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/a", **condition)  # type: ignore[arg-type]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
    with s3_error("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="missing", CopySource=f"{bucket}/a", IfMatch="*")
    s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/a", IfMatch=etag)
    s3.copy_object(Bucket=bucket, Key="other", CopySource=f"{bucket}/a", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_deleted_object_is_absent_in_a_versioned_bucket(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    s3.delete_object(Bucket=versioned, Key="k")
    s3.put_object(Bucket=versioned, Key="k", Body=b"y", IfNoneMatch="*")


def upload_one_part(s3: S3Client, bucket: str, body: bytes) -> tuple[str, dict[str, object]]:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=body)["ETag"]
    return upload, {"Parts": [{"PartNumber": 1, "ETag": etag}]}


def test_complete_if_absent(s3: S3Client, bucket: str) -> None:
    one, parts_one = upload_one_part(s3, bucket, b"one")
    two, parts_two = upload_one_part(s3, bucket, b"two")
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=one, MultipartUpload=parts_one, IfNoneMatch="*")  # type: ignore[arg-type]
    with s3_error("PreconditionFailed", 412):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=two, MultipartUpload=parts_two, IfNoneMatch="*")  # type: ignore[arg-type]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one"


def test_complete_if_unchanged(s3: S3Client, bucket: str, etag: str) -> None:
    upload, parts = upload_one_part(s3, bucket, b"new")
    with s3_error("PreconditionFailed", 412):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts, IfMatch=WRONG)  # type: ignore[arg-type]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts, IfMatch=etag)  # type: ignore[arg-type]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def lost(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")


def test_one_of_many_creators_wins(s3: S3Client, bucket: str) -> None:
    def create(number: int) -> int | None:
        try:
            s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number * 1000, IfNoneMatch="*")
        except ClientError as error:
            if lost(error):
                return None
            raise
        return number

    with ThreadPoolExecutor(16) as threads:
        winners = [number for number in threads.map(create, range(16)) if number is not None]
    assert len(winners) == 1
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"%d" % winners[0] * 1000


def test_counting_by_compare_and_swap_loses_nothing(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0")

    def add_one(_: int) -> None:
        while True:
            answer = s3.get_object(Bucket=bucket, Key="k")
            value = int(answer["Body"].read()) + 1
            try:
                s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % value, IfMatch=answer["ETag"])
            except ClientError as error:
                if not lost(error):
                    raise
            else:
                return

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add_one, range(24)))
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"24"
