"""The condition keys of requests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from proxy.s3.claim import ANONYMOUS_CLAIM
from proxy.s3.policy.actions import Action
from proxy.s3.policy.catalogue import is_condition_key
from proxy.s3.policy.context import _KEYS, BodyNeeded, Peer, RequestContext, Session, kept_for_parts
from proxy.s3.policy.decision import ObjectFacts, ObjectNeeded, Question, Resource, UploadGone, UploadNeeded
from proxy.s3.policy.principal import ANONYMOUS, Principal
from tests.unit.s3.policy.requests import DAVE, OWNER, SESSION

NOW = 1_767_323_045_678  # 2026-01-02T03:04:05Z
CLAIM = replace(
    ANONYMOUS_CLAIM,
    access_key="AK",
    region="us-east-1",
    timestamp=datetime.fromtimestamp(NOW / 1000 - 60, UTC),
    payload_hash="UNSIGNED-PAYLOAD",
)
HEADERS = {
    "user-agent": "aws-cli/2",
    "referer": "https://site.example/",
    "x-amz-acl": "private",
    "x-amz-grant-read": "id=x",
    "x-amz-copy-source": "/source/a%20key?versionId=1",
    "x-amz-metadata-directive": "COPY",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-tagging": "team=red&Cost=1",
    "x-amz-object-lock-mode": "GOVERNANCE",
    "x-amz-object-lock-retain-until-date": "2026-01-12T03:04:05Z",
    "x-amz-object-lock-legal-hold": "ON",
    "if-none-match": "*",
}
QUERY = [("prefix", "a/"), ("max-keys", "7"), ("delimiter", "/")]


def value(key: str, action: str = "PutObject", operation: str = "PutObject", asker: Principal = OWNER, **facts: object) -> object:
    context = RequestContext(
        operation,
        QUERY,
        HEADERS,
        claim=CLAIM,
        now_ms=NOW,
        peer=lambda: Peer("192.0.2.7", secure=True, tls_version="1.3"),
        **facts,  # type: ignore[arg-type]
    )
    question = Question(
        asker, Action(f"s3:{action}"), Resource("bucket", "key"), context, ObjectFacts(tags={"Env": "prod"}), "v1", "111122223333"
    )
    found = context.values(key.lower(), question)
    return found[0] if found is not None and len(found) == 1 else found


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("aws:SourceIp", "192.0.2.7"),
        ("aws:SecureTransport", "true"),
        ("s3:TlsVersion", "1.3"),
        ("aws:CurrentTime", "2026-01-02T03:04:05Z"),
        ("aws:EpochTime", "1767323045"),
        ("aws:UserAgent", "aws-cli/2"),
        ("aws:referer", "https://site.example/"),
        ("aws:PrincipalArn", "arn:aws:iam::111122223333:root"),
        ("aws:PrincipalAccount", "111122223333"),
        ("aws:PrincipalType", "Account"),
        ("aws:userid", "111122223333"),
        ("aws:username", None),
        ("aws:TokenIssueTime", None),
        ("aws:MultiFactorAuthPresent", None),
        ("aws:SourceVpc", None),
        ("aws:PrincipalTag/team", None),
        ("aws:RequestTag/team", "red"),
        ("aws:TagKeys", ("team", "Cost")),
        ("s3:ResourceAccount", "111122223333"),
        ("s3:authType", "REST-HEADER"),
        ("s3:signatureversion", "AWS4-HMAC-SHA256"),
        ("s3:signatureAge", "60000"),
        ("s3:x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("s3:x-amz-acl", "private"),
        ("s3:x-amz-grant-read", "id=x"),
        ("s3:x-amz-copy-source", "source/a key"),
        ("s3:x-amz-metadata-directive", "COPY"),
        ("s3:x-amz-server-side-encryption", "AES256"),
        ("s3:x-amz-storage-class", "STANDARD_IA"),
        ("s3:x-amz-website-redirect-location", None),
        ("s3:if-none-match", "*"),
        ("s3:if-match", None),
        ("s3:ObjectCreationOperation", "true"),
        ("s3:RequestObjectTag/cost", "1"),
        ("s3:RequestObjectTagKeys", ("team", "Cost")),
        ("s3:object-lock-mode", "GOVERNANCE"),
        ("s3:object-lock-retain-until-date", "2026-01-12T03:04:05Z"),
        ("s3:object-lock-remaining-retention-days", "10"),
        ("s3:object-lock-legal-hold", "ON"),
        ("s3:prefix", None),
        ("s3:ExistingObjectTag/env", None),
        ("s3:LocationConstraint", None),
    ],
)
def test_a_put_has_the_keys_of_a_put(key: str, expected: object) -> None:
    assert value(key) == expected


@pytest.mark.parametrize(("key", "expected"), [("s3:prefix", "a/"), ("s3:max-keys", "7"), ("s3:delimiter", "/"), ("s3:x-amz-acl", None)])
def test_a_listing_has_the_keys_of_a_listing(key: str, expected: object) -> None:
    assert value(key, "ListBucket", "ListObjectsV2") == expected


@pytest.mark.parametrize(("written", "expected"), [(" 7", ("7",)), ("7 ", ("7",)), ("", None), (" ", None)])
def test_the_number_of_keys_is_what_the_listing_reads(written: str, expected: object) -> None:
    context = RequestContext("ListObjectsV2", [("max-keys", written)], {})
    assert context.values("s3:max-keys", Question(OWNER, Action("s3:ListBucket"), Resource("bucket"), context)) == expected


def test_the_source_of_a_copy_has_none_of_its_target_s_headers() -> None:
    for key in ("s3:x-amz-acl", "s3:x-amz-copy-source", "s3:x-amz-server-side-encryption", "s3:RequestObjectTagKeys"):
        assert value(key, "GetObject", "CopyObject") is None
        assert value(key, "PutObject", "CopyObject") is not None


@pytest.mark.parametrize(
    ("action", "expected"), [("GetObject", "prod"), ("GetObjectVersion", "prod"), ("GetObjectAttributes", None), ("DeleteObject", None)]
)
def test_tags_of_the_object_are_there_where_aws_has_them(action: str, expected: object) -> None:
    assert value("s3:ExistingObjectTag/env", action, "GetObject") == expected


def test_tags_need_the_object() -> None:
    context = RequestContext("GetObject", (), {})
    with pytest.raises(ObjectNeeded):
        context.values("s3:existingobjecttag/env", Question(OWNER, Action("s3:GetObject"), Resource("b", "k"), context))


@pytest.mark.parametrize(("operation", "creates"), [("PutObject", "true"), ("CompleteMultipartUpload", "true"), ("UploadPart", "false")])
def test_only_what_makes_an_object_creates_one(operation: str, creates: str) -> None:
    assert value("s3:ObjectCreationOperation", operation=operation) == creates


ENCRYPTED = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "alias/mine",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-tagging": "team=red",
    "x-amz-acl": "private",
}
PARTS = ["UploadPart", "UploadPartCopy", "CompleteMultipartUpload"]


def of_part(context: RequestContext, key: str, action: str = "PutObject") -> object:
    return context.values(key, Question(OWNER, Action(f"s3:{action}"), Resource("b", "k"), context))


@pytest.mark.parametrize("operation", PARTS)
def test_the_encryption_of_a_part_is_what_its_upload_began_with(operation: str) -> None:
    context = RequestContext(operation, (), {"x-amz-server-side-encryption": "AES256"})
    with pytest.raises(UploadNeeded):
        of_part(context, "s3:x-amz-server-side-encryption")
    context.take_upload(kept_for_parts(ENCRYPTED))
    assert of_part(context, "s3:x-amz-server-side-encryption") == ("aws:kms",)
    assert of_part(context, "s3:x-amz-server-side-encryption-aws-kms-key-id") == ("alias/mine",)
    assert of_part(context, "s3:x-amz-server-side-encryption-customer-algorithm") is None


@pytest.mark.parametrize("operation", PARTS)
def test_a_part_says_nothing_of_itself_where_its_upload_said_nothing(operation: str) -> None:
    context = RequestContext(operation, (), ENCRYPTED)
    context.take_upload({})
    assert of_part(context, "s3:x-amz-server-side-encryption") is None


def test_what_an_upload_is_no_longer_there_to_tell_is_no_missing_header() -> None:
    context = RequestContext("UploadPart", (), {})
    context.take_upload(None)
    with pytest.raises(UploadGone):
        of_part(context, "s3:x-amz-server-side-encryption")


@pytest.mark.parametrize(
    "key", ["s3:x-amz-storage-class", "s3:x-amz-acl", "s3:requestobjecttagkeys", "s3:object-lock-mode", "aws:sourceip"]
)
def test_nothing_else_needs_the_upload(key: str) -> None:
    assert of_part(RequestContext("UploadPart", (), {}), key) is None


def test_only_what_is_written_to_an_upload_needs_it() -> None:
    key = "s3:x-amz-server-side-encryption"
    assert of_part(RequestContext("CreateMultipartUpload", (), ENCRYPTED), key) == ("aws:kms",)
    assert of_part(RequestContext("UploadPartCopy", (), {}), key, "GetObject") is None
    assert of_part(RequestContext("ListParts", (), {}), key, "ListMultipartUploadParts") is None


def test_a_session_says_when_it_began_and_whose_it_is() -> None:
    session = Session(issued_ms=NOW - 1000, federated_provider="arn:aws:iam::111122223333:oidc-provider/issuer.example")
    assert value("aws:TokenIssueTime", asker=SESSION, session=session) == "2026-01-02T03:04:04Z"
    assert value("aws:MultiFactorAuthPresent", asker=SESSION, session=session) == "false"
    assert value("aws:FederatedProvider", asker=SESSION, session=session) == session.federated_provider
    assert value("aws:PrincipalArn", asker=SESSION) == "arn:aws:iam::111122223333:role/reader"
    assert value("aws:userid", asker=SESSION) == "reader:build-7"
    assert value("aws:PrincipalType", asker=SESSION) == "AssumedRole"


def test_users_and_strangers_are_called_what_they_are() -> None:
    assert value("aws:username", asker=DAVE) == "Dave"
    assert value("aws:PrincipalType", asker=DAVE) == "User"
    assert value("aws:PrincipalType", asker=ANONYMOUS) == "Anonymous"
    assert value("aws:userid", asker=ANONYMOUS) == "anonymous"
    for key in (
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "s3:authType",
        "s3:signatureversion",
        "s3:signatureAge",
        "s3:x-amz-content-sha256",
    ):
        assert value(key, asker=ANONYMOUS) is None


@pytest.mark.parametrize(
    ("key", "action", "params", "expected"),
    [
        ("s3:RequestObjectTag/team", "PutObjectTagging", {"Tagging": {"TagSet": [{"Key": "team", "Value": "blue"}]}}, "blue"),
        ("s3:RequestObjectTagKeys", "PutObjectTagging", {"Tagging": {"TagSet": [{"Key": "team", "Value": "blue"}]}}, "team"),
        ("s3:LocationConstraint", "CreateBucket", {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}, "eu-west-1"),
        ("s3:LocationConstraint", "CreateBucket", {}, None),
        ("s3:object-lock-mode", "PutObjectRetention", {"Retention": {"Mode": "COMPLIANCE"}}, "COMPLIANCE"),
        (
            "s3:object-lock-remaining-retention-days",
            "PutObjectRetention",
            {"Retention": {"RetainUntilDate": datetime(2026, 1, 5, 3, 4, 5, tzinfo=UTC)}},
            "3",
        ),
        ("s3:object-lock-legal-hold", "PutObjectLegalHold", {"LegalHold": {"Status": "OFF"}}, "OFF"),
        (
            "s3:object-lock-remaining-retention-days",
            "PutBucketObjectLockConfiguration",
            {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}}},
            "30",
        ),
    ],
)
def test_what_a_document_says_is_asked_for_once_it_is_read(key: str, action: str, params: dict[str, object], expected: object) -> None:
    operation = {"PutBucketObjectLockConfiguration": "PutObjectLockConfiguration"}.get(action, action)
    context = RequestContext(operation, (), {}, now_ms=NOW)
    question = Question(OWNER, Action(f"s3:{action}"), Resource("bucket", "key"), context)
    with pytest.raises(BodyNeeded):
        context.values(key.lower(), question)
    context.take_body(params)
    found = context.values(key.lower(), question)
    assert (None if found is None else found[0]) == expected


def test_every_key_that_is_served_is_one_that_policies_may_name() -> None:
    assert [key for key in _KEYS if not is_condition_key(key)] == []
