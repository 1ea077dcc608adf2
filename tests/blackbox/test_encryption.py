"""Encryption as clients ask for it: customers' keys (SSE-C), KMS keys (SSE-KMS), and the default of a bucket."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import MIB, content, s3_error
from tests.blackbox.raw import RawClient
from tests.servers import ROOT, Shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
BODY = content(100_003)
SSE = "x-amz-server-side-encryption"
SECURE_KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
OTHER_KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": OTHER}
SOURCE_KEY = {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": KEY}
MD5 = base64.b64encode(hashlib.md5(KEY).digest()).decode()


def customer_headers(secret: bytes = KEY, **changes: str | None) -> dict[str, str]:
    """Return the headers of a customer's key; None takes one away."""
    headers: dict[str, str | None] = {
        "algorithm": "AES256",
        "key": base64.b64encode(secret).decode(),
        "key-md5": base64.b64encode(hashlib.md5(secret).digest()).decode(),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return {f"{SSE}-customer-{name}": value for name, value in headers.items() if value is not None}


def told(answer: Mapping[str, object]) -> dict[str, object]:
    """Return what an answer says of encryption."""
    names = (
        "ServerSideEncryption",
        "SSECustomerAlgorithm",
        "SSECustomerKeyMD5",
        "SSEKMSKeyId",
        "BucketKeyEnabled",
        "SSEKMSEncryptionContext",
    )
    return {name: answer[name] for name in names if name in answer}


CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": MD5}


# Customers' keys


@pytest.mark.parametrize("size", [0, 1, 100_003, 17 * MIB])
def test_an_object_under_a_customers_key(s3: S3Client, bucket: str, size: int) -> None:
    body = content(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, **SECURE_KEY)  # type: ignore[arg-type]
    assert told(put) == CUSTOMER
    assert put["ETag"] != f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", **SECURE_KEY)  # type: ignore[arg-type]
    assert (got["Body"].read(), told(got), got["ETag"]) == (body, CUSTOMER, put["ETag"])
    head = s3.head_object(Bucket=bucket, Key="k", **SECURE_KEY)  # type: ignore[arg-type]
    assert (head["ContentLength"], told(head), head["ETag"]) == (size, CUSTOMER, put["ETag"])
    [listed] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (listed["Size"], listed["ETag"]) == (size, put["ETag"])


@pytest.mark.parametrize("wanted", ["bytes=0-0", "bytes=17-4099", "bytes=-7", "bytes=16777200-16777300", "bytes=1000000-"])
def test_ranges_under_a_customers_key(s3: S3Client, bucket: str, wanted: str) -> None:
    body = content(17 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=body, **SECURE_KEY)  # type: ignore[arg-type]
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    expected = body[-int(last) :] if not first else body[int(first) : int(last) + 1 if last else None]
    assert s3.get_object(Bucket=bucket, Key="k", Range=wanted, **SECURE_KEY)["Body"].read() == expected  # type: ignore[arg-type]


def test_without_its_key_an_object_is_neither_read_nor_described(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, **SECURE_KEY)  # type: ignore[arg-type]
    attributes = {"x-amz-object-attributes": "ETag"}
    for headers, status, code in (({}, 400, "InvalidRequest"), (customer_headers(OTHER), 403, "AccessDenied")):
        assert raw.request("GET", f"/{bucket}/k", headers=headers).verdict == (status, code)
        assert raw.request("GET", f"/{bucket}/k", headers={"range": "bytes=0-0", **headers}).verdict == (status, code)
        assert raw.request("HEAD", f"/{bucket}/k", headers=headers).status == status
        assert raw.request("GET", f"/{bucket}/k", [("attributes", "")], {**attributes, **headers}).verdict == (status, code)
        source = {name.replace(SSE, "x-amz-copy-source-server-side-encryption"): value for name, value in headers.items()}
        assert raw.request("PUT", f"/{bucket}/copy", headers={"x-amz-copy-source": f"{bucket}/k", **source}).verdict == (status, code)
    assert raw.request("GET", f"/{bucket}/k", [("attributes", "")], {**attributes, **customer_headers()}).status == 200
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204, "a deletion needs no key"


def test_a_key_for_an_object_that_has_none_is_refused(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    answer = raw.request("GET", f"/{bucket}/k", headers=customer_headers())
    assert (answer.verdict, answer.error["Message"]) == (
        (400, "InvalidRequest"),
        "The encryption parameters are not applicable to this object.",
    )
    assert raw.request("HEAD", f"/{bucket}/k", headers=customer_headers()).status == 400


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"algorithm": None}, "InvalidArgument"),
        ({"algorithm": "AES128"}, "InvalidEncryptionAlgorithmError"),
        ({"key": None}, "InvalidArgument"),
        ({"key": "not base64!"}, "InvalidArgument"),
        (
            {"key": base64.b64encode(bytes(16)).decode(), "key_md5": base64.b64encode(hashlib.md5(bytes(16)).digest()).decode()},
            "InvalidArgument",
        ),
        ({"key_md5": None}, "InvalidArgument"),
        ({"key_md5": base64.b64encode(hashlib.md5(OTHER).digest()).decode()}, "InvalidArgument"),
        ({"key_md5": "é"}, "InvalidArgument"),
    ],
    ids=str,
)
def test_headers_of_a_key_are_validated(raw: RawClient, s3: S3Client, bucket: str, changes: dict[str, str | None], code: str) -> None:
    headers = customer_headers(**changes)
    assert raw.request("PUT", f"/{bucket}/k", headers=headers, body=BODY).verdict == (400, code)
    assert raw.request("POST", f"/{bucket}/k", [("uploads", "")], headers).verdict == (400, code)
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, **SECURE_KEY)  # type: ignore[arg-type]
    assert raw.request("GET", f"/{bucket}/k", headers=headers).verdict == (400, code)


def test_a_customers_key_goes_with_no_other_encryption(raw: RawClient, bucket: str) -> None:
    for other in ({SSE: "AES256"}, {SSE: "aws:kms"}, {f"{SSE}-aws-kms-key-id": "x"}):
        assert raw.request("PUT", f"/{bucket}/k", headers={**customer_headers(), **other}, body=BODY).verdict == (400, "InvalidArgument")


def test_parts_under_a_customers_key(raw: RawClient, s3: S3Client, bucket: str) -> None:
    bodies = [content(5 * MIB, 1), content(1000, 2)]
    created = s3.create_multipart_upload(Bucket=bucket, Key="k", **SECURE_KEY)  # type: ignore[arg-type]
    assert told(created) == CUSTOMER
    options = {"Bucket": bucket, "Key": "k", "UploadId": created["UploadId"]}
    for wrong, message in (
        ({}, "must include the appropriate encryption parameters"),
        (OTHER_KEY, "did not match the ones used originally"),
    ):
        with s3_error("InvalidRequest", 400) as caught:
            s3.upload_part(**options, PartNumber=1, Body=bodies[0], **wrong)  # type: ignore[arg-type]
        assert message in caught.value.response["Error"]["Message"]
    parts = []
    for number, body in enumerate(bodies, 1):
        for _ in range(2):  # sent again, as a client does whose answer got lost
            part = s3.upload_part(**options, PartNumber=number, Body=body, **SECURE_KEY)  # type: ignore[arg-type]
        assert told(part) == CUSTOMER
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    with s3_error("InvalidRequest", 400):
        s3.complete_multipart_upload(**options, MultipartUpload={"Parts": parts}, **OTHER_KEY)  # type: ignore[arg-type]
    query = [("uploadId", created["UploadId"])]
    assert raw.request("GET", f"/{bucket}/k", query, customer_headers(OTHER)).verdict == (400, "InvalidRequest")
    for headers in ({}, customer_headers()):
        assert raw.request("GET", f"/{bucket}/k", query, headers).body.count(b"<PartNumber>") == 2
    done = s3.complete_multipart_upload(**options, MultipartUpload={"Parts": parts})  # type: ignore[arg-type]
    assert told(done) == {}
    whole = b"".join(bodies)
    got = s3.get_object(Bucket=bucket, Key="k", **SECURE_KEY)  # type: ignore[arg-type]
    assert (got["Body"].read(), got["ETag"]) == (whole, done["ETag"])
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2, **SECURE_KEY)  # type: ignore[arg-type]
    assert second["Body"].read() == bodies[1]
    edge = f"bytes={5 * MIB - 5}-{5 * MIB + 4}"
    assert s3.get_object(Bucket=bucket, Key="k", Range=edge, **SECURE_KEY)["Body"].read() == whole[5 * MIB - 5 : 5 * MIB + 5]  # type: ignore[arg-type]


def test_an_upload_without_a_key_takes_none(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    with s3_error("InvalidRequest", 400) as caught:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=BODY, **SECURE_KEY)  # type: ignore[arg-type]
    assert "did not request encryption" in caught.value.response["Error"]["Message"]


def test_copies_change_keys(s3: S3Client, bucket: str) -> None:
    """From none to a key, from one to another, onto itself under another, and back to none."""
    source = {"CopySource": f"{bucket}/a", "Bucket": bucket}
    etag = s3.put_object(Bucket=bucket, Key="a", Body=BODY)["ETag"]
    to_key = s3.copy_object(Key="b", **source, **SECURE_KEY)  # type: ignore[arg-type]
    assert told(to_key) == CUSTOMER
    assert to_key["CopyObjectResult"]["ETag"] != etag
    s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/b", **SOURCE_KEY, **OTHER_KEY)  # type: ignore[arg-type]
    with s3_error("403", 403):
        s3.head_object(Bucket=bucket, Key="b", **SECURE_KEY)  # type: ignore[arg-type]
    assert s3.get_object(Bucket=bucket, Key="b", **OTHER_KEY)["Body"].read() == BODY  # type: ignore[arg-type]
    from_other = {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": OTHER}
    same = s3.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/b", **from_other, **OTHER_KEY)  # type: ignore[arg-type]
    assert same["CopyObjectResult"]["ETag"] == s3.head_object(Bucket=bucket, Key="b", **OTHER_KEY)["ETag"]  # type: ignore[arg-type]
    plain = s3.copy_object(Bucket=bucket, Key="d", CopySource=f"{bucket}/c", **from_other)  # type: ignore[arg-type]
    assert (told(plain), plain["CopyObjectResult"]["ETag"]) == ({"ServerSideEncryption": "AES256"}, etag)
    assert s3.get_object(Bucket=bucket, Key="d")["Body"].read() == BODY
    with s3_error("InvalidRequest", 400):  # and a copy that changes nothing is still none
        s3.copy_object(Bucket=bucket, Key="d", CopySource=f"{bucket}/d")


def test_parts_are_copied_from_and_to_customers_keys(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=BODY, **OTHER_KEY)  # type: ignore[arg-type]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **SECURE_KEY)["UploadId"]  # type: ignore[arg-type]
    options = {
        "Bucket": bucket,
        "Key": "k",
        "UploadId": upload,
        "PartNumber": 1,
        "CopySource": f"{bucket}/a",
        "CopySourceRange": "bytes=11-99999",
    }
    from_other = {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": OTHER}
    with s3_error("InvalidRequest", 400):
        s3.upload_part_copy(**options, **SECURE_KEY)  # type: ignore[arg-type]
    with s3_error("InvalidRequest", 400):
        s3.upload_part_copy(**options, **from_other)  # type: ignore[arg-type]
    part = s3.upload_part_copy(**options, **from_other, **SECURE_KEY)  # type: ignore[arg-type]
    assert told(part) == CUSTOMER
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)  # type: ignore[arg-type]
    assert s3.get_object(Bucket=bucket, Key="k", **SECURE_KEY)["Body"].read() == BODY[11:100_000]  # type: ignore[arg-type]


def test_the_transfer_manager_uses_a_customers_key_everywhere(s3: S3Client, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("transfer")
    (folder / "up").write_bytes(content(17 * MIB))
    s3.upload_file(str(folder / "up"), bucket, "k", ExtraArgs=SECURE_KEY)
    s3.download_file(bucket, "k", str(folder / "down"), ExtraArgs=SECURE_KEY)
    assert (folder / "down").read_bytes() == (folder / "up").read_bytes()


def test_conditions_are_held_against_the_etag_under_a_key(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=BODY, **SECURE_KEY)["ETag"]  # type: ignore[arg-type]
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag, **SECURE_KEY)["Body"].read() == BODY  # type: ignore[arg-type]
    with s3_error("304", 304):
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag, **SECURE_KEY)  # type: ignore[arg-type]


# The default of a bucket


def put_default(s3: S3Client, bucket: str, **rule: object) -> None:
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})  # type: ignore[list-item]


def default_of(s3: S3Client, bucket: str) -> dict[str, object]:
    [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    return dict(rule)


def test_every_bucket_has_a_default(s3: S3Client, bucket: str) -> None:
    standard = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    assert default_of(s3, bucket) == standard
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/nobody-looks"},
        "BucketKeyEnabled": True,
        "BlockedEncryptionTypes": {"EncryptionType": ["NONE"]},
    }
    put_default(s3, bucket, **rule)
    assert default_of(s3, bucket) == rule
    s3.delete_bucket_encryption(Bucket=bucket)
    assert default_of(s3, bucket) == standard


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([], "MalformedXML"),
        ([{"BucketKeyEnabled": True}], "MalformedXML"),
        ([{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}] * 2, "MalformedXML"),
        ([{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "ROT13"}}], "MalformedXML"),
        ([{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms:dsse"}}], "InvalidEncryptionAlgorithmError"),
        ([{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256", "KMSMasterKeyID": "k"}}], "InvalidArgument"),
        ([{"BlockedEncryptionTypes": {"EncryptionType": ["SSE-KMS"]}}], "MalformedXML"),
        ([{"BlockedEncryptionTypes": {"EncryptionType": ["NONE", "SSE-C"]}}], "InvalidRequest"),
    ],
    ids=str,
)
def test_a_default_is_validated_and_a_bad_one_changes_nothing(s3: S3Client, bucket: str, rules: list[object], code: str) -> None:
    put_default(s3, bucket, ApplyServerSideEncryptionByDefault={"SSEAlgorithm": "AES256"}, BucketKeyEnabled=True)
    before = default_of(s3, bucket)
    with s3_error(code, 400):
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})  # type: ignore[typeddict-item]
    assert default_of(s3, bucket) == before


def test_customers_keys_can_be_blocked(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="before", Body=BODY, **SECURE_KEY)  # type: ignore[arg-type]
    put_default(s3, bucket, BlockedEncryptionTypes={"EncryptionType": ["SSE-C"]})
    with s3_error("AccessDenied", 403):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY, **SECURE_KEY)  # type: ignore[arg-type]
    with s3_error("AccessDenied", 403):
        s3.create_multipart_upload(Bucket=bucket, Key="k", **SECURE_KEY)  # type: ignore[arg-type]
    with s3_error("AccessDenied", 403):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/before", **SOURCE_KEY, **SECURE_KEY)  # type: ignore[arg-type]
    assert s3.get_object(Bucket=bucket, Key="before", **SECURE_KEY)["Body"].read() == BODY  # type: ignore[arg-type]
    assert told(s3.put_object(Bucket=bucket, Key="k", Body=BODY)) == {"ServerSideEncryption": "AES256"}
    put_default(s3, bucket, BlockedEncryptionTypes={"EncryptionType": ["NONE"]})
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, **SECURE_KEY)  # type: ignore[arg-type]


# KMS keys


@dataclass
class Keyring:
    """The command that makes a tenant's KMS keys, beside the running server."""

    server: Shardgate
    tenant: str

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "proxy.cli.main", "kms", *arguments, "--config", str(self.server.config)]
        environ = {**os.environ, "SHARDGATE_DATA": str(self.server.data)}
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environ).stdout

    def add(self, alias: str = "") -> dict[str, str]:
        return dict(json.loads(self.run("add", self.tenant, "--alias", alias, "--json")))

    def list(self) -> list[dict[str, object]]:
        return list(json.loads(self.run("list", self.tenant, "--json")))


@pytest.fixture(scope="module")
def keyring(server: Shardgate) -> Keyring:
    return Keyring(server, "local")


@pytest.fixture(scope="module")
def kms_key(keyring: Keyring) -> dict[str, str]:
    return keyring.add("documents")


@pytest.fixture(scope="module")
def disabled_key(keyring: Keyring) -> dict[str, str]:
    key = keyring.add()
    keyring.run("disable", key["key"])
    return key


def kms(key_id: str = "", **more: object) -> dict[str, object]:
    return {"ServerSideEncryption": "aws:kms", **({"SSEKMSKeyId": key_id} if key_id else {}), **more}


def test_an_object_under_a_kms_key(s3: S3Client, bucket: str, kms_key: dict[str, str]) -> None:
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key["arn"]}
    account = kms_key["arn"].split(":")[4]
    for name in (kms_key["key"], kms_key["arn"], "alias/documents", f"arn:aws:kms:us-east-1:{account}:alias/documents"):
        put = s3.put_object(Bucket=bucket, Key="k", Body=BODY, **kms(name))  # type: ignore[arg-type]
        assert told(put) == under, name
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), told(got)) == (BODY, under)
    assert told(s3.head_object(Bucket=bucket, Key="k")) == under


def test_a_bucket_key_and_a_context_are_told_as_asked(s3: S3Client, bucket: str, kms_key: dict[str, str]) -> None:
    context = base64.b64encode(json.dumps({"department": "öl"}).encode()).decode()
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key["arn"], "BucketKeyEnabled": True}
    put = s3.put_object(Bucket=bucket, Key="k", Body=BODY, **kms(kms_key["key"], BucketKeyEnabled=True, SSEKMSEncryptionContext=context))  # type: ignore[arg-type]
    assert told(put) == {**under, "SSEKMSEncryptionContext": context}
    assert told(s3.head_object(Bucket=bucket, Key="k")) == under


def test_kms_without_a_key_is_the_tenants_own(s3: S3Client, bucket: str, keyring: Keyring) -> None:
    own = keyring.list()[0]
    assert own["alias"] == "aws/s3"
    for asked in (kms(), kms("alias/aws/s3"), kms(str(own["key"]))):
        put = s3.put_object(Bucket=bucket, Key="k", Body=BODY, **asked)  # type: ignore[arg-type]
        assert told(put) == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": own["arn"]}
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY


@pytest.mark.parametrize(
    "name",
    [
        "01234567-89ab-cdef-0123-456789abcdef",
        "alias/nobody",
        "nonsense",
        "arn:aws:kms:us-east-1:{account}:key/01234567-89ab-cdef-0123-456789abcdef",
        "arn:aws:kms:us-west-2:{account}:key/{key}",
        "arn:aws:kms:us-east-1:000000000000:key/{key}",
        "arn:aws:kms:us-east-1:{account}:secret/{key}",
    ],
)
def test_a_key_that_is_not_there_is_not_found(s3: S3Client, bucket: str, kms_key: dict[str, str], name: str) -> None:
    wanted = name.format(account=kms_key["arn"].split(":")[4], key=kms_key["key"])
    with s3_error("KMS.NotFoundException", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY, **kms(wanted))  # type: ignore[arg-type]
    with s3_error("KMS.NotFoundException", 400):
        s3.create_multipart_upload(Bucket=bucket, Key="k", **kms(wanted))  # type: ignore[arg-type]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_key_of_another_tenant_is_not_found(s3: S3Client, bucket: str, server: Shardgate) -> None:
    theirs = Keyring(server, "other").add()
    for name in (theirs["key"], theirs["arn"]):
        with s3_error("KMS.NotFoundException", 400):
            s3.put_object(Bucket=bucket, Key="k", Body=BODY, **kms(name))  # type: ignore[arg-type]


def test_a_disabled_key_is_refused(s3: S3Client, bucket: str, keyring: Keyring, disabled_key: dict[str, str]) -> None:
    with s3_error("KMS.DisabledException", 400) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=BODY, **kms(disabled_key["key"]))  # type: ignore[arg-type]
    assert caught.value.response["Error"]["Message"] == f"{disabled_key['arn']} is disabled."
    keyring.run("enable", disabled_key["key"])
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, **kms(disabled_key["key"]))  # type: ignore[arg-type]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m", **kms(disabled_key["key"]))["UploadId"]  # type: ignore[arg-type]
    keyring.run("disable", disabled_key["key"])
    for read in (
        lambda: s3.get_object(Bucket=bucket, Key="k"),
        lambda: s3.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/k"),
        lambda: s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=BODY),
    ):
        with s3_error("KMS.DisabledException", 400):
            read()
    assert s3.head_object(Bucket=bucket, Key="k")["SSEKMSKeyId"] == disabled_key["arn"]
    s3.delete_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({SSE: "aws:kms:dsse"}, "InvalidEncryptionAlgorithmError"),
        ({SSE: "ROT13"}, "InvalidArgument"),
        ({SSE: "AES256", f"{SSE}-aws-kms-key-id": "alias/documents"}, "InvalidArgument"),
        ({f"{SSE}-aws-kms-key-id": "alias/documents"}, "InvalidArgument"),
        ({f"{SSE}-context": "e30="}, "InvalidArgument"),
        ({SSE: "aws:kms", f"{SSE}-bucket-key-enabled": "perhaps"}, "InvalidArgument"),
        *(
            ({SSE: "aws:kms", f"{SSE}-context": base64.b64encode(context).decode()}, "InvalidArgument")
            for context in (b"[]", b"{", b'{"a": 1}', b'"a"', b"\xff", b"[" * 3000)
        ),
        ({SSE: "aws:kms", f"{SSE}-context": "not base64!"}, "InvalidArgument"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_asked_of_kms_is_validated(raw: RawClient, s3: S3Client, bucket: str, headers: dict[str, str], code: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", headers=headers, body=BODY).verdict == (400, code)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_the_buckets_default_is_for_those_that_ask_for_nothing(
    s3: S3Client, bucket: str, kms_key: dict[str, str], keyring: Keyring
) -> None:
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key["key"]}
    put_default(s3, bucket, ApplyServerSideEncryptionByDefault=default, BucketKeyEnabled=True)
    under = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key["arn"], "BucketKeyEnabled": True}
    assert told(s3.put_object(Bucket=bucket, Key="k", Body=BODY)) == under
    assert told(s3.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/k")) == under
    assert told(s3.put_object(Bucket=bucket, Key="p", Body=BODY, ServerSideEncryption="AES256")) == {"ServerSideEncryption": "AES256"}
    assert told(s3.put_object(Bucket=bucket, Key="s", Body=BODY, **SECURE_KEY)) == CUSTOMER  # type: ignore[arg-type]
    own = s3.put_object(Bucket=bucket, Key="o", Body=BODY, ServerSideEncryption="aws:kms", BucketKeyEnabled=False)
    assert told(own) == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": keyring.list()[0]["arn"]}
    created = s3.create_multipart_upload(Bucket=bucket, Key="m")
    assert told(created) == under
    s3.delete_bucket_encryption(Bucket=bucket)
    part = s3.upload_part(Bucket=bucket, Key="m", UploadId=created["UploadId"], PartNumber=1, Body=BODY)
    assert told(part) == under, "what was begun goes on"
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=created["UploadId"], MultipartUpload=parts)  # type: ignore[arg-type]
    assert told(done) == under
    for key in ("k", "c", "p", "o", "m"):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == BODY


def test_a_default_with_a_wrong_key_is_found_out_by_the_first_write(s3: S3Client, bucket: str) -> None:
    put_default(s3, bucket, ApplyServerSideEncryptionByDefault={"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/nobody"})
    with s3_error("KMS.NotFoundException", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=BODY)


def test_a_copy_is_under_the_key_it_asks_for(s3: S3Client, bucket: str, new_bucket: Callable[[], str], kms_key: dict[str, str]) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, **kms(kms_key["key"]))  # type: ignore[arg-type]
    elsewhere = new_bucket()
    assert told(s3.copy_object(Bucket=elsewhere, Key="k", CopySource=f"{bucket}/k")) == {"ServerSideEncryption": "AES256"}
    onto_itself = s3.copy_object(Bucket=elsewhere, Key="k", CopySource=f"{elsewhere}/k", **kms(kms_key["key"]))  # type: ignore[arg-type]
    assert told(onto_itself) == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key["arn"]}
    assert s3.get_object(Bucket=elsewhere, Key="k")["Body"].read() == BODY


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_does_not_ask_for_encryption(raw: RawClient, s3: S3Client, bucket: str, method: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    assert raw.request(method, f"/{bucket}/k", headers={SSE: "AES256"}).status == 400


def test_a_part_does_not_ask_for_encryption(raw: RawClient, s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ServerSideEncryption="AES256")["UploadId"]
    answer = raw.request("PUT", f"/{bucket}/k", [("partNumber", "1"), ("uploadId", upload)], {SSE: "AES256"}, BODY)
    assert answer.verdict == (400, "InvalidArgument")
