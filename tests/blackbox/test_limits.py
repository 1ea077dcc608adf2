"""The limits that AWS gives: what is just within each is taken, what is one beyond is refused with AWS's code.

Sources: S3 API Reference, each operation; S3 User Guide, "Object key and metadata", "Bucket naming rules", and the quotas of S3.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest
import requests
from botocore.exceptions import ClientError

from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Do = Callable[["S3Client", str, int], object]  # with a bucket, and how much of what the limit is of


class Limit(NamedTuple):
    """What is limited: how to ask for an amount of it, the most there may be, and the code of more."""

    do: Do
    most: int
    code: str
    status: int = 400


def put(s3: S3Client, bucket: str, **options: object) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **options)  # type: ignore[arg-type]


def tag_object(s3: S3Client, bucket: str, tags: list[tuple[str, str]]) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in tags]})


def tag_bucket(s3: S3Client, bucket: str, count: int) -> None:
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": f"k{n}", "Value": ""} for n in range(count)]})


def put_cors(s3: S3Client, bucket: str, *ids: str) -> None:
    rules = [{"ID": name, "AllowedMethods": ["GET"], "AllowedOrigins": ["*"]} for name in ids]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})  # type: ignore[typeddict-item]


def put_lifecycle(s3: S3Client, bucket: str, *ids: str) -> None:
    rules = [{"ID": name, "Status": "Enabled", "Filter": {"Prefix": name}, "Expiration": {"Days": 1}} for name in ids]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})  # type: ignore[typeddict-item]


def put_policy(s3: S3Client, bucket: str, size: int) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    text = json.dumps({"Version": "2012-10-17", "Id": "", "Statement": [statement]})
    s3.put_bucket_policy(Bucket=bucket, Policy=text.replace('"Id": ""', f'"Id": "{"x" * (size - len(text))}"'))


def put_acl(s3: S3Client, bucket: str, grants: int) -> None:
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    owner = s3.get_bucket_acl(Bucket=bucket)["Owner"]["ID"]
    grant = {"Grantee": {"Type": "CanonicalUser", "ID": owner}, "Permission": "READ"}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": {"ID": owner}, "Grants": [grant] * grants})  # type: ignore[typeddict-item,list-item]


def put_website(s3: S3Client, bucket: str, rules: int) -> None:
    routing = [{"Condition": {"KeyPrefixEquals": f"{n}/"}, "Redirect": {"ReplaceKeyPrefixWith": "x/"}} for n in range(rules)]
    s3.put_bucket_website(
        Bucket=bucket,
        WebsiteConfiguration={"IndexDocument": {"Suffix": "i"}, "RoutingRules": routing},  # type: ignore[typeddict-item]
    )


def put_default_retention(s3: S3Client, _bucket: str, **period: int) -> None:
    name = f"limit-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", **period}}
    s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule})  # type: ignore[typeddict-item]


def delete_many(s3: S3Client, bucket: str, count: int) -> None:
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(n)} for n in range(count)]})


def upload_part(s3: S3Client, bucket: str, number: int) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x")


def presign(s3: S3Client, bucket: str, seconds: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = requests.get(
        s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}, ExpiresIn=seconds), timeout=PATIENCE_SECONDS
    )
    if answer.status_code != 200:
        code = answer.text.partition("<Code>")[2].partition("</Code>")[0]
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": answer.status_code}}, "GetObject")  # type: ignore[typeddict-item]


LIMITS = {
    "bytes of a key": Limit(lambda s3, bucket, n: s3.put_object(Bucket=bucket, Key="k" * n), 1024, "KeyTooLongError"),
    "bytes of metadata": Limit(lambda s3, bucket, n: put(s3, bucket, Metadata={"name": "x" * (n - 4)}), 2048, "MetadataTooLarge"),
    "tags of an object": Limit(lambda s3, bucket, n: tag_object(s3, bucket, [(str(i), "") for i in range(n)]), 10, "BadRequest"),
    "characters of a tag's key": Limit(lambda s3, bucket, n: tag_object(s3, bucket, [("é" * n, "")]), 128, "InvalidTag"),
    "characters of a tag's value": Limit(lambda s3, bucket, n: tag_object(s3, bucket, [("k", "é" * n)]), 256, "InvalidTag"),
    "tags of a bucket": Limit(tag_bucket, 50, "BadRequest"),
    "CORS rules": Limit(lambda s3, bucket, n: put_cors(s3, bucket, *map(str, range(n))), 100, "InvalidRequest"),
    "characters of a CORS rule's ID": Limit(lambda s3, bucket, n: put_cors(s3, bucket, "x" * n), 255, "InvalidRequest"),
    "lifecycle rules": Limit(lambda s3, bucket, n: put_lifecycle(s3, bucket, *map(str, range(n))), 1000, "InvalidRequest"),
    "characters of a lifecycle rule's ID": Limit(lambda s3, bucket, n: put_lifecycle(s3, bucket, "x" * n), 255, "InvalidArgument"),
    "bytes of a policy": Limit(put_policy, 20 * 1024, "MalformedPolicy"),
    "grants of an ACL": Limit(put_acl, 100, "MalformedACLError"),
    "routing rules": Limit(put_website, 50, "InvalidRequest"),
    "days of a default retention": Limit(lambda s3, bucket, n: put_default_retention(s3, bucket, Days=n), 36_500, "InvalidArgument"),
    "years of a default retention": Limit(lambda s3, bucket, n: put_default_retention(s3, bucket, Years=n), 100, "InvalidArgument"),
    "keys to delete": Limit(delete_many, 1000, "MalformedXML"),
    "number of a part": Limit(upload_part, 10_000, "InvalidArgument"),
    "seconds of a presigned URL": Limit(presign, 7 * 24 * 3600, "AuthorizationQueryParametersError"),
    "bytes of a redirect's location": Limit(
        lambda s3, bucket, n: put(s3, bucket, WebsiteRedirectLocation="/" + "x" * (n - 1)), 2048, "InvalidRedirectLocation"
    ),
    "characters of a bucket's name": Limit(
        lambda s3, _bucket, n: s3.create_bucket(Bucket=str(uuid.uuid4()).ljust(n, "b")), 63, "InvalidBucketName"
    ),
}


@pytest.fixture(scope="module")
def loose_s3(new_client: Callable[..., S3Client]) -> S3Client:
    """A client that sends what the model forbids: the server is asked, not the client."""
    client = new_client(parameter_validation=False, signature_version="s3v4")
    client.meta.events.unregister("before-parameter-build.s3", _handler("validate_bucket_name"))
    return client


def _handler(name: str) -> Callable[..., object]:
    from botocore import handlers

    found: Callable[..., object] = getattr(handlers, name)
    return found


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_where_aws_has_it(loose_s3: S3Client, bucket: str, name: str) -> None:
    limit = LIMITS[name]
    limit.do(loose_s3, bucket, limit.most)
    with pytest.raises(ClientError) as refused:
        limit.do(loose_s3, bucket, limit.most + 1)
    answer = refused.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (limit.code, limit.status)
