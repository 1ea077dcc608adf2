"""Inventories: configurations, days, rows and manifests."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from proxy.engine.outgoing.parquet import parquet_schema
from proxy.s3.errors import S3Error
from proxy.s3.inventory import Entry, check_inventory, csv_of, due_day, folder_of, manifest_of


def document(frequency: str = "Daily", **more: object) -> dict[str, object]:
    destination = {"Bucket": "arn:aws:s3:::lists", "Format": "CSV", "Prefix": "p"}
    return {
        "Id": "id",
        "IsEnabled": True,
        "IncludedObjectVersions": "All",
        "Schedule": {"Frequency": frequency},
        "Destination": {"S3BucketDestination": destination},
        "OptionalFields": ["ETag", "Size"],
        **more,
    }


def destination(**more: object) -> dict[str, object]:
    return {"S3BucketDestination": {"Bucket": "arn:aws:s3:::lists", "Format": "CSV", **more}}


def test_columns_come_in_the_order_of_aws() -> None:
    assert check_inventory(document(), "id").columns == ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "ETag")
    assert check_inventory(document(IncludedObjectVersions="Current"), "id").columns == ("Bucket", "Key", "Size", "ETag")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Id": "other"}, "InvalidArgument"),
        ({"IsEnabled": "yes"}, "MalformedXML"),
        ({"IncludedObjectVersions": "Some"}, "MalformedXML"),
        ({"Schedule": {"Frequency": "Hourly"}}, "MalformedXML"),
        ({"Destination": {}}, "MalformedXML"),
        ({"Destination": destination(Format="XLS")}, "MalformedXML"),
        ({"Destination": destination(Format="ORC")}, "NotImplemented"),
        ({"Destination": destination(Bucket="lists")}, "InvalidS3DestinationBucket"),
        ({"Destination": destination(Encryption={"SSEKMS": {"KeyId": "k"}})}, "NotImplemented"),
        ({"OptionalFields": ["IntelligentTieringAccessTier"]}, "NotImplemented"),
        ({"OptionalFields": ["ETag"] * 2000}, "MaxMessageLengthExceeded"),
        ({"Destination": destination(AccountId="1" * 9000)}, "MaxMessageLengthExceeded"),
        ({"Destination": destination(Prefix="p" * 960)}, "KeyTooLongError"),
        ({"Destination": destination(Prefix="../p")}, "InvalidURI"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(S3Error) as refused:
        check_inventory(document(**change), "id")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("frequency", "at", "day"),
    [
        ("Daily", "2026-11-26T00:00:00", "2026-11-26"),
        ("Daily", "2026-11-26T23:59:59", "2026-11-26"),
        ("Weekly", "2026-11-26T12:00:00", "2026-11-22"),
        ("Weekly", "2026-11-22T00:00:00", "2026-11-22"),
        ("Weekly", "2026-11-21T23:59:59", "2026-11-15"),
    ],
)
def test_a_list_is_due_each_day_or_each_sunday(frequency: str, at: str, day: str) -> None:
    now_ms = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1000)
    days = (datetime.fromisoformat(day).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert due_day(check_inventory(document(frequency), "id"), now_ms) == days


def test_rows_are_quoted_and_keys_percent_encoded() -> None:
    at = datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC)
    facts = {"Size": 5, "IsLatest": True, "LastModifiedDate": at, "ETag": None}
    rows = csv_of(("Bucket", "Key", "Size", "IsLatest", "LastModifiedDate", "ETag"), [Entry("b", 'a "b"/ü', facts)])
    assert rows == b'"b","a%20%22b%22/%C3%BC","5","true","2026-11-26T01:02:03.000Z",""\n'


def test_a_manifest_tells_of_its_files() -> None:
    inventory = check_inventory(document(), "id")
    manifest = json.loads(manifest_of(inventory, "b", created_ms=7, schema="Bucket, Key", files=[("p/b/id/data/1.csv.gz", 9, "ab")]))
    assert folder_of(inventory, "b") == "p/b/id"
    assert manifest == {
        "sourceBucket": "b",
        "destinationBucket": "arn:aws:s3:::lists",
        "version": "2016-11-30",
        "creationTimestamp": "7",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key",
        "files": [{"key": "p/b/id/data/1.csv.gz", "size": 9, "MD5checksum": "ab"}],
    }


def test_the_schema_of_parquet_reads_as_that_of_aws() -> None:
    assert parquet_schema(("Bucket", "Key", "VersionId", "IsLatest", "Size", "LastModifiedDate", "ETag")) == (
        "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); optional binary version_id (UTF8); "
        "optional boolean is_latest; optional int64 size; optional int64 last_modified_date (TIMESTAMP_MILLIS); "
        "optional binary e_tag (UTF8); }"
    )
