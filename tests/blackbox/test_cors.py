"""Cross-origin requests, as browsers send them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawAnswer, RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ORIGIN = "https://app.example.com"
RULE = {
    "AllowedMethods": ["GET", "PUT"],
    "AllowedOrigins": ["https://*.example.com"],
    "AllowedHeaders": ["x-amz-*", "Content-Type", "authorization"],
    "ExposeHeaders": ["ETag"],
    "MaxAgeSeconds": 300,
    "ID": "app",
}
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
TOLD = {
    "access-control-allow-origin": ORIGIN,
    "access-control-allow-methods": "GET, PUT",
    "access-control-expose-headers": "ETag",
    "access-control-max-age": "300",
    "access-control-allow-credentials": "true",
    "vary": VARY,
}


def put_rules(s3: S3Client, bucket: str, *rules: dict[str, object]) -> None:
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": list(rules)})  # type: ignore[typeddict-item]


@pytest.fixture
def open_bucket(s3: S3Client, bucket: str) -> str:
    put_rules(s3, bucket, RULE)
    return bucket


def cross_origin(answer: RawAnswer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-") or name == "vary"}


def preflight(raw: RawClient, path: str, method: str | None = "PUT", origin: str = ORIGIN, names: str = "") -> RawAnswer:
    headers = {"origin": origin}
    if method is not None:
        headers["access-control-request-method"] = method
    if names:
        headers["access-control-request-headers"] = names
    return raw.send("OPTIONS", path, (), headers)


def test_rules_are_kept_as_they_were_put_and_removed(s3: S3Client, bucket: str) -> None:
    put_rules(s3, bucket, RULE, {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*", ""]})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [RULE, {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*", ""]}]
    put_rules(s3, bucket, RULE)
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [RULE]
    for _ in range(2):
        assert s3.delete_bucket_cors(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with s3_error("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"AllowedMethods": ["PATCH"]}, "InvalidRequest"),
        ({"AllowedOrigins": ["*.*"]}, "InvalidRequest"),
        ({"AllowedOrigins": []}, "MalformedXML"),
        ({"MaxAgeSeconds": -1}, "MalformedXML"),
    ],
)
def test_rules_that_are_refused_leave_the_old_ones(s3: S3Client, open_bucket: str, members: dict[str, object], code: str) -> None:
    with s3_error(code, 400):
        put_rules(s3, open_bucket, RULE | members)
    assert s3.get_bucket_cors(Bucket=open_bucket)["CORSRules"] == [RULE]


def test_rules_come_with_a_checksum(raw: RawClient, bucket: str) -> None:
    document = (
        b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    )
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    assert raw.request("PUT", f"/{bucket}", [("cors", "")], body=document).verdict == (400, "InvalidRequest")
    assert raw.request("PUT", f"/{bucket}", [("cors", "")], {"content-md5": md5}, document).status == 200


def test_a_preflight_needs_no_signature_and_no_object(raw: RawClient, open_bucket: str) -> None:
    answer = preflight(raw, f"/{open_bucket}/none", names="Content-Type, X-Amz-Acl")
    assert (answer.status, answer.body) == (200, b"")
    assert cross_origin(answer) == TOLD | {"access-control-allow-headers": "content-type, x-amz-acl"}


def test_a_preflight_of_the_bucket_is_answered_by_its_host_too(raw: RawClient, open_bucket: str) -> None:
    for path, host in ((f"/{open_bucket}", raw.host), ("/k", f"{open_bucket}.s3.test"), ("/", f"{open_bucket}.s3.test")):
        headers = {"origin": ORIGIN, "access-control-request-method": "GET", "host": host}
        assert cross_origin(raw.send("OPTIONS", path, (), headers)) == TOLD


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"method": None}, (400, "BadRequest")),
        ({"method": "PATCH"}, (400, "BadRequest")),
        ({"method": "DELETE"}, (403, "AccessForbidden")),
        ({"origin": "https://example.com"}, (403, "AccessForbidden")),
        ({"origin": "null"}, (403, "AccessForbidden")),
        ({"names": "range"}, (403, "AccessForbidden")),
    ],
)
def test_a_preflight_that_no_rule_matches_is_refused(
    raw: RawClient, open_bucket: str, options: dict[str, str], verdict: tuple[int, str]
) -> None:
    answer = preflight(raw, f"/{open_bucket}/k", **options)
    assert answer.verdict == verdict
    assert cross_origin(answer) == {}


def test_a_bucket_without_rules_and_one_that_is_not_there_are_told_apart(raw: RawClient, bucket: str) -> None:
    for path, fault in ((f"/{bucket}/k", "CORS is not enabled for this bucket."), ("/no-such-bucket-here/k", "Bucket not found")):
        answer = preflight(raw, path)
        assert answer.verdict == (403, "AccessForbidden")
        assert answer.error["Message"] == f"CORSResponse: {fault}"
        assert (answer.error["Method"], answer.error["ResourceType"]) == ("PUT", "BUCKET")


def test_answers_and_errors_of_cross_origin_requests_may_be_read_by_scripts(raw: RawClient, s3: S3Client, open_bucket: str) -> None:
    path, origin = f"/{open_bucket}/k", {"origin": ORIGIN}
    wrong = raw.signer.sign("GET", path, (), origin).headers | {"authorization": "AWS4-HMAC-SHA256 nonsense"}
    stale = raw.signer.sign("GET", "/other", (), origin).headers
    answers = [
        raw.request("PUT", path, (), origin, b"content"),
        raw.request("GET", path, (), origin),
        raw.request("GET", f"{path}-none", (), origin),
        raw.request("GET", path, (("acl", ""), ("tagging", "")), origin),
        raw.request("PUT", path, (), origin | {"content-md5": "no"}, b"content"),
        raw.send("GET", path, (), origin),
        raw.send("GET", path, (), wrong),
        raw.send("GET", path, (), stale),
        raw.request("GET", f"/{open_bucket}", (), origin),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 400, 400, 403, 400, 403, 200]
    assert [cross_origin(answer) for answer in answers] == [TOLD] * len(answers)


def test_a_large_object_tells_its_origin_before_its_bytes(raw: RawClient, s3: S3Client, open_bucket: str) -> None:
    body = b"0123456789abcdef" * 100_000
    s3.put_object(Bucket=open_bucket, Key="large", Body=body)
    answer = raw.request("GET", f"/{open_bucket}/large", (), {"origin": ORIGIN})
    assert cross_origin(answer) == TOLD
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def test_a_request_that_no_rule_matches_is_served_without_a_word_of_it(raw: RawClient, s3: S3Client, open_bucket: str) -> None:
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"content")
    path = f"/{open_bucket}/k"
    for headers in ({"origin": "https://elsewhere.test"}, {}, {"origin": ORIGIN, "access-control-request-method": "DELETE"}):
        answer = raw.request("GET", path, (), headers)
        assert (answer.status, answer.body, cross_origin(answer)) == (200, b"content", {})
    assert cross_origin(raw.request("HEAD", path, (), {"origin": ORIGIN})) == {}


def test_new_rules_hold_for_the_next_request(raw: RawClient, s3: S3Client, open_bucket: str) -> None:
    put_rules(s3, open_bucket, {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*"]})
    assert preflight(raw, f"/{open_bucket}/k", "PUT").verdict == (403, "AccessForbidden")
    told = {"access-control-allow-origin": "*", "access-control-allow-methods": "HEAD", "vary": VARY}
    assert cross_origin(preflight(raw, f"/{open_bucket}/k", "HEAD")) == told
    s3.delete_bucket_cors(Bucket=open_bucket)
    assert preflight(raw, f"/{open_bucket}/k", "HEAD").error["Message"] == "CORSResponse: CORS is not enabled for this bucket."


def test_a_new_bucket_of_the_same_name_has_no_rules(raw: RawClient, s3: S3Client, new_bucket: Callable[[], str]) -> None:
    bucket = new_bucket()
    put_rules(s3, bucket, RULE)
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert preflight(raw, f"/{bucket}/k").verdict == (403, "AccessForbidden")
