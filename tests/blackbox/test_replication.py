"""Replication, as a client sees it: rules, the status of versions, and the copies."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.blackbox.expect import MIB, content, s3_error, until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ROLE = "arn:aws:iam::000000000000:role/replication"


@pytest.fixture
def copy(s3: S3Client) -> str:
    name = f"copy-{uuid4()}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def rules(destination: str) -> dict:
    rule = {
        "ID": "all",
        "Priority": 1,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{destination}"},
    }
    return {"Role": ROLE, "Rules": [rule]}


def test_a_configuration_comes_back_and_goes(s3: S3Client, versioned: str, copy: str) -> None:
    s3.put_bucket_replication(Bucket=versioned, ReplicationConfiguration=rules(copy))
    assert s3.get_bucket_replication(Bucket=versioned)["ReplicationConfiguration"] == rules(copy)
    s3.delete_bucket_replication(Bucket=versioned)
    with s3_error("ReplicationConfigurationNotFoundError", 404):
        s3.get_bucket_replication(Bucket=versioned)


def test_versions_have_a_status_and_their_copies_are_the_same(s3: S3Client, versioned: str, copy: str) -> None:
    s3.put_bucket_replication(Bucket=versioned, ReplicationConfiguration=rules(copy))
    bodies = {"small": b"12345", "large": content(6 * MIB, 1)}
    ids = {key: s3.put_object(Bucket=versioned, Key=key, Body=body, Metadata={"a": "b"})["VersionId"] for key, body in bodies.items()}
    marker = s3.delete_object(Bucket=versioned, Key="small")["VersionId"]
    for key, version_id in ids.items():
        until(lambda key=key: s3.head_object(Bucket=versioned, Key=key, VersionId=ids[key])["ReplicationStatus"] == "COMPLETED")
        found = s3.get_object(Bucket=copy, Key=key, VersionId=version_id)
        assert (found["Body"].read(), found["Metadata"], found["ReplicationStatus"]) == (bodies[key], {"a": "b"}, "REPLICA")
    until(lambda: [m["VersionId"] for m in s3.list_object_versions(Bucket=copy).get("DeleteMarkers", [])] == [marker])


@pytest.mark.parametrize("fault", ["source keeps no versions", "destination keeps no versions", "no destination", "itself"])
def test_buckets_that_cannot_be_copied_are_refused(s3: S3Client, bucket: str, versioned: str, copy: str, fault: str) -> None:
    plain = f"plain-{uuid4()}"
    s3.create_bucket(Bucket=plain)
    source = plain if fault.startswith("source") else versioned
    destination = {"destination keeps no versions": plain, "no destination": f"none-{uuid4()}", "itself": versioned}.get(fault, copy)
    with s3_error("InvalidRequest", 400):
        s3.put_bucket_replication(Bucket=source, ReplicationConfiguration=rules(destination))


def test_a_bucket_of_another_owner_is_refused(s3: S3Client, other_s3: S3Client, versioned: str) -> None:
    foreign = f"foreign-{uuid4()}"
    other_s3.create_bucket(Bucket=foreign)
    other_s3.put_bucket_versioning(Bucket=foreign, VersioningConfiguration={"Status": "Enabled"})
    with s3_error("InvalidRequest", 400):
        s3.put_bucket_replication(Bucket=versioned, ReplicationConfiguration=rules(foreign))


def test_versioning_stays_on_while_there_are_rules(s3: S3Client, versioned: str, copy: str) -> None:
    s3.put_bucket_replication(Bucket=versioned, ReplicationConfiguration=rules(copy))
    with s3_error("InvalidBucketState", 409):
        s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Suspended"})
