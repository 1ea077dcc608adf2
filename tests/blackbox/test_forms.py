"""Uploads by browser forms: what boto3 presigns, sent by an HTTP client that knows nothing of S3."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

import pytest
import requests

from tests.blackbox.expect import MIB, content, s3_error
from tests.blackbox.raw import RawAnswer, RawClient
from tests.blackbox.test_cors import ORIGIN, RULE, put_rules
from tests.patience import PATIENCE_SECONDS
from tests.servers import Shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BOUNDARY = "xYzZYbOuNdArY"


class Form:
    """A form that boto3 presigned."""

    def __init__(self, s3: S3Client, bucket: str, key: str, fields: Mapping[str, str], conditions: Sequence[object], seconds: int) -> None:
        named = [{name: value} for name, value in fields.items()] if not conditions else list(conditions)
        made = s3.generate_presigned_post(bucket, key, Fields=dict(fields), Conditions=named, ExpiresIn=seconds)  # type: ignore[arg-type]
        self.url, self.fields = made["url"], made["fields"]

    def send(self, data: bytes, filename: str = "f.txt", **changed: str) -> requests.Response:
        return requests.post(
            self.url,
            data=self.fields | changed,
            files={"file": (filename, data)},
            timeout=PATIENCE_SECONDS,
            allow_redirects=False,
        )


Presign = Callable[..., Form]


@pytest.fixture(params=["s3v4", "s3"], ids=["version 4", "version 2"])
def presign(request: pytest.FixtureRequest, new_client: Callable[..., S3Client], bucket: str) -> Presign:
    client = new_client(signature_version=request.param)

    def make(key: str = "k", *conditions: object, seconds: int = 300, **fields: str) -> Form:
        return Form(client, bucket, key, {name.replace("_", "-"): value for name, value in fields.items()}, conditions, seconds)

    return make


def verdict(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, ElementTree.fromstring(answer.content).findtext("Code", "")


def message(answer: requests.Response) -> str:
    return ElementTree.fromstring(answer.content).findtext("Message", "")


def multipart(*parts: tuple[str, bytes, str]) -> bytes:
    """Write a form by hand: name, value, and what stands behind the name."""
    lines = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
        for name, value, more in parts
    ]
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


def by_hand(raw: RawClient, bucket: str, body: bytes, **headers: str) -> RawAnswer:
    return raw.send("POST", f"/{bucket}", (), {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **headers}, body)


def parts_of(form: Form) -> list[tuple[str, bytes, str]]:
    return [(name, value.encode(), "") for name, value in form.fields.items()]


@pytest.mark.parametrize("size", [0, 1, 11, 100_000, MIB - 300, MIB + 300, 17 * MIB + 5, 33 * MIB])
def test_an_object_comes_back_as_it_was_sent(s3: S3Client, bucket: str, presign: Presign, size: int) -> None:
    answer = presign("a/b c").send(content(size))
    assert (answer.status_code, answer.content) == (204, b"")
    etag = f'"{hashlib.md5(content(size)).hexdigest()}"'
    assert answer.headers["ETag"] == etag
    assert answer.headers["Location"].endswith(f"/{bucket}/a%2Fb%20c")
    assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    got = s3.get_object(Bucket=bucket, Key="a/b c", ChecksumMode="ENABLED")
    assert (got["Body"].read(), got["ETag"], got["ContentType"]) == (content(size), etag, "binary/octet-stream")
    assert got["ChecksumCRC64NVME"] == answer.headers["x-amz-checksum-crc64nvme"]


@pytest.mark.parametrize("size", [5, 3 * MIB, 16 * MIB + 100])
@pytest.mark.parametrize("after", [(), (("submit", b"Upload", ""),), (("submit", b"y" * 20_000, ""),)])
def test_what_follows_the_file_is_no_part_of_it(
    raw: RawClient, s3: S3Client, bucket: str, presign: Presign, size: int, after: Sequence[tuple[str, bytes, str]]
) -> None:
    body = multipart(*parts_of(presign()), ("file", content(size), '; filename="f"'), *after)
    assert by_hand(raw, bucket, body).status == 204
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == content(size)
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


def test_fields_say_what_headers_say_elsewhere(s3: S3Client, bucket: str, presign: Presign) -> None:
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1 2</Value></Tag></TagSet></Tagging>"
    form = presign(
        "u/${filename}",
        acl="private",
        tagging=tags,
        Content_Type="text/plain; charset=utf-8",
        Cache_Control="max-age=5",
        Content_Disposition="inline",
        Content_Encoding="identity",
        Expires="Thu, 01 Dec 2033 16:00:00 GMT",
        x_amz_meta_Name="\u4e2d",
        x_amz_storage_class="STANDARD",
        x_amz_server_side_encryption="AES256",
        x_amz_website_redirect_location="/other",
    )
    answer = form.send(b"content", "C:\\dir\\\u00fc.txt")
    assert answer.status_code == 204
    assert answer.headers["x-amz-server-side-encryption"] == "AES256"
    head = s3.head_object(Bucket=bucket, Key="u/\u00fc.txt")
    assert (head["ContentType"], head["CacheControl"], head["ContentDisposition"]) == ("text/plain; charset=utf-8", "max-age=5", "inline")
    assert head["WebsiteRedirectLocation"] == "/other"
    assert head["Metadata"]["name"].startswith("=?UTF-8?")
    assert s3.get_object_tagging(Bucket=bucket, Key="u/\u00fc.txt")["TagSet"] == [{"Key": "a", "Value": "1 2"}]


def test_a_versioned_buckets_answer_tells_the_version(s3: S3Client, bucket: str, presign: Presign) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    answer = presign().send(b"one")
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=answer.headers["x-amz-version-id"])["Body"].read() == b"one"


def test_an_upload_is_answered_as_the_form_asks(bucket: str, presign: Presign) -> None:
    answer = presign_with(presign, "success_action_status", "201")
    root = ElementTree.fromstring(answer.content)
    assert (answer.status_code, root.tag, root.findtext("Bucket"), root.findtext("Key")) == (201, "PostResponse", bucket, "k")
    assert (root.findtext("ETag"), root.findtext("Location")) == (answer.headers["ETag"], answer.headers["Location"])
    assert presign_with(presign, "success_action_status", "200").status_code == 200
    assert presign_with(presign, "success_action_status", "500").status_code == 204
    redirected = presign_with(presign, "success_action_redirect", "http://x.test/done?a=1")
    assert (redirected.status_code, redirected.content) == (303, b"")
    query = dict(parse_qsl(urlsplit(redirected.headers["Location"]).query))
    assert query == {"a": "1", "bucket": bucket, "key": "k", "etag": redirected.headers["ETag"]}
    assert presign_with(presign, "success_action_redirect", "/relative").status_code == 204


def presign_with(presign: Presign, name: str, value: str) -> requests.Response:
    form = presign("k", ["starts-with", f"${name}", ""])
    return form.send(b"x", **{name: value})


def test_a_signature_is_for_this_policy_and_key(s3: S3Client, bucket: str, presign: Presign) -> None:
    form = presign()
    name = "x-amz-signature" if "x-amz-signature" in form.fields else "signature"
    wrong = form.fields[name][::-1]
    answer = form.send(b"x", **{name: wrong})
    assert verdict(answer) == (403, "SignatureDoesNotMatch")
    root = ElementTree.fromstring(answer.content)
    assert (root.findtext("StringToSign"), root.findtext("SignatureProvided")) == (form.fields["policy"], wrong)
    assert verdict(form.send(b"x", policy=form.fields["policy"][:-4])) == (403, "SignatureDoesNotMatch")
    unknown = {key: value.replace(s3_key(form), "A" * 20) for key, value in form.fields.items() if key != "policy"}
    assert verdict(form.send(b"x", **unknown)) == (403, "InvalidAccessKeyId")
    with s3_error("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


def s3_key(form: Form) -> str:
    return form.fields.get("AWSAccessKeyId") or form.fields["x-amz-credential"].partition("/")[0]


def test_a_form_that_claims_something_says_all_of_it(presign: Presign) -> None:
    form = presign()
    for name in form.fields:
        sent = Form.__new__(Form)
        sent.url, sent.fields = form.url, {key: value for key, value in form.fields.items() if key != name}
        answer = sent.send(b"x")
        assert verdict(answer) == (400, "InvalidArgument")
        assert f"Bucket POST must contain a field named '{name}'.  If it is".lower() in message(answer).lower()


def test_what_is_not_signed_is_nobodys_and_refused_by_a_private_bucket(raw: RawClient, bucket: str) -> None:
    body = multipart(("key", b"k", ""), ("file", b"x", ""))
    assert by_hand(raw, bucket, body).verdict == (403, "AccessDenied")
    assert by_hand(raw, "no-such-bucket-here", body).verdict == (404, "NoSuchBucket")


def test_an_expired_policy_is_refused(presign: Presign) -> None:
    answer = presign(seconds=-5).send(b"x")
    assert (verdict(answer), message(answer)) == ((403, "AccessDenied"), "Invalid according to Policy: Policy expired.")


def test_the_conditions_of_a_policy_hold(presign: Presign, new_bucket: Callable[[], str]) -> None:
    form = presign("k", ["starts-with", "$Content-Type", "image/"])
    answer = form.send(b"x", **{"Content-Type": "text/html"})
    assert verdict(answer) == (403, "AccessDenied")
    assert message(answer) == 'Invalid according to Policy: Policy Condition failed: ["starts-with", "$Content-Type", "image/"]'
    assert form.send(b"x", **{"Content-Type": "image/png"}).status_code == 204
    assert message(form.send(b"x", **{"Content-Type": "image/png", "key": "other"})).endswith(
        'Policy Condition failed: ["eq", "$key", "k"]'
    )
    assert message(presign().send(b"x", StorageClass="x")) == "Invalid according to Policy: Extra input fields: StorageClass"
    assert presign().send(b"x", **{"x-ignore-me": "x"}).status_code == 204
    elsewhere = presign()
    elsewhere.url = elsewhere.url.rpartition("/")[0] + f"/{new_bucket()}"
    assert verdict(elsewhere.send(b"x")) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("size", "outcome"),
    [(4, (400, "EntityTooSmall")), (5, 204), (10, 204), (11, (400, "EntityTooLarge"))],
)
def test_a_file_has_the_size_that_the_policy_wants(presign: Presign, size: int, outcome: object) -> None:
    answer = presign("k", ["content-length-range", 5, 10]).send(b"x" * size)
    assert (answer.status_code if answer.status_code == 204 else verdict(answer)) == outcome
    if answer.status_code != 204:
        assert ElementTree.fromstring(answer.content).findtext("ProposedSize") == str(size)


@pytest.mark.parametrize(
    ("least", "most", "code"), [(0, 1000, "EntityTooLarge"), (0, 3 * MIB - 1, "EntityTooLarge"), (3 * MIB + 1, 9 * MIB, "EntityTooSmall")]
)
def test_a_large_file_of_the_wrong_size_leaves_nothing(
    s3: S3Client, bucket: str, presign: Presign, least: int, most: int, code: str
) -> None:
    assert verdict(presign("k", ["content-length-range", least, most]).send(content(3 * MIB))) == (400, code)
    with s3_error("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


def test_checksums_are_checked(s3: S3Client, bucket: str, presign: Presign) -> None:
    def digest(data: bytes) -> str:
        return base64.b64encode(hashlib.sha256(data).digest()).decode()

    assert presign().send(b"x", **{"x-amz-checksum-sha256": digest(b"x")}).headers["x-amz-checksum-sha256"] == digest(b"x")
    assert verdict(presign().send(b"x", **{"x-amz-checksum-sha256": digest(b"y")})) == (400, "BadDigest")
    assert verdict(presign().send(b"x", **{"x-amz-checksum-sha256": "sailorjerry"})) == (400, "InvalidRequest")
    assert verdict(presign().send(b"x", **{"x-amz-checksum-algorithm": "SHA256"})) == (400, "InvalidRequest")
    md5 = presign("k", ["starts-with", "$Content-MD5", ""])
    assert verdict(md5.send(b"x", **{"Content-MD5": base64.b64encode(hashlib.md5(b"y").digest()).decode()})) == (400, "BadDigest")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ((("key", b"k", ""),), (400, "InvalidArgument")),
        ((("key", b"k", ""), ("file", b"x", ""), ("file", b"y", "")), (400, "InvalidArgument")),
        ((("key", b"k" * 21_000, ""), ("file", b"x", "")), (400, "MaxPostPreDataLengthExceeded")),
        ((("file", b"x", ""), ("key", b"k", "")), (400, "InvalidArgument")),
        ((("key", b"", ""), ("file", b"x", "")), (400, "InvalidArgument")),
        ((("key", b"\xff", ""), ("file", b"x", "")), (400, "MalformedPOSTRequest")),
    ],
)
def test_a_form_that_is_none_is_refused(
    raw: RawClient, bucket: str, parts: Sequence[tuple[str, bytes, str]], verdict: tuple[int, str]
) -> None:
    assert by_hand(raw, bucket, multipart(*parts)).verdict == verdict


def test_a_second_file_makes_a_signed_form_none(raw: RawClient, s3: S3Client, bucket: str, presign: Presign) -> None:
    for size in (10, 2 * MIB):
        body = multipart(*parts_of(presign()), ("file", content(size), ""), ("file", b"y", ""))
        assert by_hand(raw, bucket, body).verdict == (400, "InvalidArgument")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_form_that_breaks_off_stores_nothing(raw: RawClient, s3: S3Client, bucket: str, presign: Presign) -> None:
    for size in (10, 2 * MIB):
        body = multipart(*parts_of(presign()), ("file", content(size), ""))
        assert by_hand(raw, bucket, body[:-20]).verdict == (400, "MalformedPOSTRequest")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_other_types_of_a_post_are_refused(raw: RawClient, bucket: str) -> None:
    answer = raw.send("POST", f"/{bucket}", (), {"content-type": "text/html"}, b"x")
    assert answer.verdict == (412, "PreconditionFailed")
    assert answer.error["Condition"] == "Bucket POST must be of the enclosure-type multipart/form-data"
    assert raw.send("POST", f"/{bucket}", (), {"content-type": "multipart/form-data"}, b"x").verdict == (400, "MalformedPOSTRequest")


def test_a_form_is_signed_in_its_fields_alone(raw: RawClient, bucket: str) -> None:
    body = multipart(("key", b"k", ""), ("file", b"x", ""))
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert raw.request("POST", f"/{bucket}", (), headers, body).verdict == (400, "InvalidArgument")


def test_a_policy_of_another_region_or_malformed_is_refused(server: Shardgate, bucket: str, raw: RawClient) -> None:
    def sign(document: object, region: str = "us-east-1") -> bytes:
        date = datetime.now(UTC).strftime("%Y%m%d")
        key = f"AWS4{server.secret_key}".encode()
        for text in (date, region, "s3", "aws4_request"):
            key = hmac.digest(key, text.encode(), "sha256")
        policy = base64.b64encode(document if isinstance(document, bytes) else json.dumps(document).encode())
        fields = {
            "key": "k",
            "policy": policy.decode(),
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": f"{server.access_key}/{date}/{region}/s3/aws4_request",
            "x-amz-date": f"{date}T000000Z",
            "x-amz-signature": hmac.digest(key, policy, "sha256").hex(),
        }
        return multipart(*((name, value.encode(), "") for name, value in fields.items()), ("file", b"x", ""))

    expiration = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    elsewhere = by_hand(raw, bucket, sign({"expiration": expiration, "conditions": []}, "eu-north-1"))
    assert elsewhere.verdict == (400, "InvalidArgument")
    assert elsewhere.error["Region"] == "us-east-1"
    for document, fault in (
        (b"none", "Invalid JSON."),
        ({"expiration": expiration, "conditions": [{}]}, "Invalid Simple-Condition"),
        ({"expiration": "tomorrow", "conditions": []}, "Invalid 'expiration' value"),
        ({"EXPIRATION": expiration, "conditions": []}, "Unexpected"),
    ):
        answer = by_hand(raw, bucket, sign(document))
        assert answer.verdict == (400, "InvalidPolicyDocument")
        assert answer.error["Message"].startswith(f"Invalid Policy: {fault}")


def test_the_key_is_refused_as_elsewhere(presign: Presign) -> None:
    assert verdict(presign("k" * 1025).send(b"x")) == (400, "KeyTooLongError")


def test_the_sdk_for_javascripts_capital_names_are_taken(presign: Presign) -> None:
    form = presign()
    form.fields = {name.title(): value for name, value in form.fields.items()}
    assert form.send(b"x").status_code == 204


def test_a_browsers_script_may_read_the_answer(s3: S3Client, bucket: str, presign: Presign) -> None:
    put_rules(s3, bucket, RULE | {"AllowedMethods": ["POST"]})
    form = presign()
    for fields, status in ((form.fields, 204), (form.fields | {"key": "other"}, 403)):
        answer = requests.post(form.url, data=fields, files={"file": b"x"}, headers={"Origin": ORIGIN}, timeout=PATIENCE_SECONDS)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, ORIGIN)


def test_a_form_is_sent_to_the_buckets_host_too(raw: RawClient, s3: S3Client, bucket: str, presign: Presign) -> None:
    body = multipart(*parts_of(presign()), ("file", b"x", ""))
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "host": f"{bucket}.s3.test"}
    answer = raw.send("POST", "/", (), headers, body)
    assert (answer.status, answer.headers["location"]) == (204, f"http://{bucket}.s3.test/k")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_many_forms_at_once_are_all_stored(s3: S3Client, bucket: str, presign: Presign) -> None:
    form, statuses = presign("${filename}"), list[int]()

    def send(number: int) -> None:
        statuses.append(form.send(content(300_000, number), f"f{number}").status_code)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [204] * 40
    assert all(s3.get_object(Bucket=bucket, Key=f"f{number}")["Body"].read() == content(300_000, number) for number in range(40))


def test_anybody_may_upload_where_everybody_may_write(raw: RawClient, s3: S3Client, new_bucket: Callable[[], str]) -> None:
    bucket = f"open-{new_bucket()}"[:63]
    s3.create_bucket(Bucket=bucket, ObjectOwnership="ObjectWriter")
    s3.delete_public_access_block(Bucket=bucket)
    body = multipart(("key", b"k", ""), ("acl", b"public-read", ""), ("success_action_status", b"201", ""), ("file", b"bar", ""))
    assert by_hand(raw, bucket, body).verdict == (403, "AccessDenied")
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    answer = by_hand(raw, bucket, body)
    assert answer.status == 201
    assert ElementTree.fromstring(answer.body).findtext("Key") == "k"
    assert raw.send("GET", f"/{bucket}/k").body == b"bar"


@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_a_form_may_bring_a_customers_key(s3: S3Client, bucket: str, presign: Presign, size: int) -> None:
    key = hashlib.sha256(b"key").digest()
    prefix = "x-amz-server-side-encryption-customer"
    fields = {
        f"{prefix}-algorithm": "AES256",
        f"{prefix}-key": base64.b64encode(key).decode(),
        f"{prefix}-key-md5": base64.b64encode(hashlib.md5(key).digest()).decode(),
    }
    form = presign("k", *({name: value} for name, value in fields.items()))
    answer = form.send(content(size), **fields)
    assert (answer.status_code, answer.headers[f"{prefix}-algorithm"]) == (204, "AES256")
    with s3_error("InvalidRequest", 400):
        s3.get_object(Bucket=bucket, Key="k")
    wrong = form.send(content(size), **fields | {f"{prefix}-key": base64.b64encode(bytes(32)).decode()})
    assert verdict(wrong) == (403, "AccessDenied")  # the policy names the key


def test_a_form_may_lock_what_it_brings(s3: S3Client, new_client: Callable[..., S3Client], new_bucket: Callable[[], str]) -> None:
    bucket = f"locked-{new_bucket()}"[:63]
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    until = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": until}
    form = Form(new_client(), bucket, "k", fields, (), 300)
    assert verdict(form.send(b"x")) == (400, "InvalidRequest")  # S3 wants a checksum with it
    checksum = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert form.send(b"x", **{"x-amz-checksum-sha256": checksum}).status_code == 204
    assert s3.get_object_retention(Bucket=bucket, Key="k")["Retention"]["Mode"] == "GOVERNANCE"
