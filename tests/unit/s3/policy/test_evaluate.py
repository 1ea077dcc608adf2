"""What policies say, with the situations of AWS's own example policies.

Source: S3 User Guide, "Examples of Amazon S3 bucket policies" and "Bucket policy examples using condition keys"; IAM User Guide, "Example
IAM identity-based policies".
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.policy.decision import Finding, NoContext, ObjectNeeded, Question, UploadGone
from proxy.s3.policy.document import read_bucket_policy, read_identity_policy
from proxy.s3.policy.evaluate import Judge
from proxy.s3.policy.restrictions import restricting_policy
from tests.unit.s3.policy.requests import DAVE, JANE, OTHER, OWNER, SESSION, STRANGER, ask

BUCKET = "amzn-s3-demo-bucket"
ARN = f"arn:aws:s3:::{BUCKET}"


def judge(*statements: dict[str, object], version: str = "2012-10-17") -> Judge:
    text = json.dumps({"Version": version, "Statement": list(statements)}).encode()
    kind = "bucket" if any("Principal" in one or "NotPrincipal" in one for one in statements) else "identity"
    return Judge(read_bucket_policy(text, BUCKET) if kind == "bucket" else read_identity_policy(text))


def allow(action: str | list[str], resource: str | list[str] = f"{ARN}/*", principal: object = "*", **more: object) -> dict[str, object]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource, **more}


def deny(action: str | list[str], resource: str | list[str] = f"{ARN}/*", principal: object = "*", **more: object) -> dict[str, object]:
    return {**allow(action, resource, principal, **more), "Effect": "Deny"}


def without(statement: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in statement.items() if key != name}


def identity(action: str | list[str], resource: str | list[str], **more: object) -> dict[str, object]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


class Example(NamedTuple):
    """A policy, what it allows, what it denies, and what it says nothing of."""

    policy: Judge
    allowed: list[Question] = []
    denied: list[Question] = []
    silent: list[Question] = []


WHOLE = [ARN, f"{ARN}/*"]
EXAMPLES = {
    "anonymous reading": Example(
        judge(allow(["s3:GetObject", "s3:GetObjectVersion"])),
        allowed=[ask(STRANGER, "GetObject"), ask(OTHER, "GetObjectVersion", "a/b")],
        silent=[ask(STRANGER, "PutObject"), ask(STRANGER, "ListBucket", None)],
    ),
    "everybody but over TLS alone": Example(
        judge(deny("s3:*", WHOLE, Condition={"Bool": {"aws:SecureTransport": "false"}})),
        denied=[ask(OWNER, "GetObject", aws__SecureTransport="false"), ask(STRANGER, "ListBucket", None, aws__SecureTransport="false")],
        silent=[ask(OWNER, "GetObject", aws__SecureTransport="true")],
    ),
    "an old TLS is refused": Example(
        judge(deny("s3:*", WHOLE, Condition={"NumericLessThan": {"s3:TlsVersion": "1.2"}})),
        denied=[ask(OWNER, "GetObject", s3__TlsVersion="1.1")],
        silent=[ask(OWNER, "GetObject", s3__TlsVersion="1.2"), ask(OWNER, "GetObject")],
    ),
    "uploads only with the owner's full control": Example(
        judge(
            allow(
                "s3:PutObject", principal={"AWS": "444455556666"}, Condition={"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
            ),
        ),
        allowed=[ask(OTHER, "PutObject", s3__x_amz_acl="bucket-owner-full-control")],
        silent=[ask(OTHER, "PutObject"), ask(OTHER, "PutObject", s3__x_amz_acl="private"), ask(OWNER, "PutObject")],
    ),
    "unencrypted uploads are denied": Example(
        judge(
            deny("s3:PutObject", Condition={"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}),
            deny("s3:PutObject", Condition={"Null": {"s3:x-amz-server-side-encryption": "true"}}),
        ),
        denied=[ask(OWNER, "PutObject"), ask(OWNER, "PutObject", s3__x_amz_server_side_encryption="aws:kms")],
        silent=[ask(OWNER, "PutObject", s3__x_amz_server_side_encryption="AES256")],
    ),
    "one network but two of its addresses": Example(
        judge(
            allow(
                "s3:*",
                WHOLE,
                Condition={
                    "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
                    "NotIpAddress": {"aws:SourceIp": ["192.0.2.188/32", "192.0.2.189"]},
                },
            )
        ),
        allowed=[ask(STRANGER, "GetObject", aws__SourceIp="192.0.2.7")],
        silent=[
            ask(STRANGER, "GetObject", aws__SourceIp="192.0.2.188"),
            ask(STRANGER, "GetObject", aws__SourceIp="198.51.100.1"),
            ask(STRANGER, "GetObject"),
        ],
    ),
    "both versions of IP": Example(
        judge(allow("s3:GetObject", Condition={"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:DB8:1234:5678::/64"]}})),
        allowed=[ask(STRANGER, "GetObject", aws__SourceIp="2001:db8:1234:5678::1"), ask(STRANGER, "GetObject", aws__SourceIp="192.0.2.1")],
        silent=[ask(STRANGER, "GetObject", aws__SourceIp="2001:db8:1234:5679::1")],
    ),
    "one site's pages": Example(
        judge(
            allow("s3:GetObject", Condition={"StringLike": {"aws:Referer": ["http://www.example.com/*", "http://example.com/*"]}}),
        ),
        allowed=[ask(STRANGER, "GetObject", aws__Referer="http://www.example.com/page")],
        silent=[ask(STRANGER, "GetObject", aws__Referer="http://elsewhere.example/"), ask(STRANGER, "GetObject")],
    ),
    "one user of another account": Example(
        judge(
            allow(["s3:GetBucketLocation", "s3:ListBucket"], ARN, {"AWS": "arn:aws:iam::444455556666:user/Jane"}),
            allow("s3:GetObject", principal={"AWS": "arn:aws:iam::444455556666:user/Jane"}),
        ),
        allowed=[ask(JANE, "ListBucket", None), ask(JANE, "GetObject")],
        silent=[ask(OTHER, "GetObject"), ask(JANE, "PutObject"), ask(DAVE, "GetObject"), ask(STRANGER, "GetObject")],
    ),
    "a folder of each user": Example(
        judge(allow("s3:*", f"{ARN}/home/${{aws:username}}/*", {"AWS": "111122223333"})),
        allowed=[ask(DAVE, "PutObject", "home/Dave/x")],
        silent=[
            ask(DAVE, "PutObject", "home/Jane/x"),
            ask(OWNER, "PutObject", "home//x"),
            ask(OWNER, "PutObject", "home/${aws:username}/x"),
        ],
    ),
    "listing one prefix": Example(
        judge(
            allow(
                "s3:ListBucket", ARN, {"AWS": "arn:aws:iam::111122223333:user/Dave"}, Condition={"StringEquals": {"s3:prefix": "projects"}}
            ),
            deny(
                "s3:ListBucket",
                ARN,
                {"AWS": "arn:aws:iam::111122223333:user/Dave"},
                Condition={"StringNotEquals": {"s3:prefix": "projects"}},
            ),
        ),
        allowed=[ask(DAVE, "ListBucket", None, s3__prefix="projects")],
        denied=[ask(DAVE, "ListBucket", None, s3__prefix="secrets"), ask(DAVE, "ListBucket", None)],
        silent=[ask(OWNER, "ListBucket", None)],
    ),
    "small pages": Example(
        judge(allow("s3:ListBucket", ARN, {"AWS": "444455556666"}, Condition={"NumericLessThanEquals": {"s3:max-keys": "10"}})),
        allowed=[ask(OTHER, "ListBucket", None, s3__max_keys="10")],
        silent=[ask(OTHER, "ListBucket", None, s3__max_keys="11"), ask(OTHER, "ListBucket", None)],
    ),
    "copies from one folder": Example(
        judge(
            allow("s3:PutObject", principal={"AWS": "111122223333"}),
            deny(
                "s3:PutObject",
                principal={"AWS": "111122223333"},
                Condition={"StringNotLike": {"s3:x-amz-copy-source": "amzn-s3-demo-source-bucket/public/*"}},
            ),
        ),
        allowed=[ask(OWNER, "PutObject", s3__x_amz_copy_source="amzn-s3-demo-source-bucket/public/a")],
        denied=[ask(OWNER, "PutObject", s3__x_amz_copy_source="amzn-s3-demo-source-bucket/private/a"), ask(OWNER, "PutObject")],
    ),
    "objects with a tag": Example(
        judge(allow("s3:GetObject", Condition={"StringEquals": {"s3:ExistingObjectTag/environment": "production"}})),
        allowed=[ask(STRANGER, "GetObject", tags={"environment": "production"})],
        silent=[ask(STRANGER, "GetObject", tags={"environment": "test"}), ask(STRANGER, "GetObject", tags={})],
    ),
    "only some tags may be put": Example(
        judge(
            allow(
                "s3:PutObjectTagging",
                principal={"AWS": "444455556666"},
                Condition={"ForAllValues:StringLike": {"s3:RequestObjectTagKeys": ["Owner", "CreationDate"]}},
            ),
        ),
        allowed=[ask(OTHER, "PutObjectTagging", s3__RequestObjectTagKeys=["Owner"]), ask(OTHER, "PutObjectTagging")],
        silent=[ask(OTHER, "PutObjectTagging", s3__RequestObjectTagKeys=["Owner", "Secret"])],
    ),
    "a tag must come with the object": Example(
        judge(
            deny("s3:PutObject", Condition={"ForAllValues:StringNotEquals": {"s3:RequestObjectTagKeys": "Owner"}}),
        ),
        denied=[ask(OWNER, "PutObject"), ask(OWNER, "PutObject", s3__RequestObjectTagKeys=["Else"])],
        silent=[ask(OWNER, "PutObject", s3__RequestObjectTagKeys=["Owner", "Else"])],
    ),
    "objects are written once": Example(
        judge(
            allow("s3:PutObject", principal={"AWS": "111122223333"}, Condition={"Null": {"s3:if-none-match": "false"}}),
            allow("s3:PutObject", principal={"AWS": "111122223333"}, Condition={"Bool": {"s3:ObjectCreationOperation": "false"}}),
        ),
        allowed=[ask(OWNER, "PutObject", s3__if_none_match="*"), ask(OWNER, "PutObject", s3__ObjectCreationOperation="false")],
        silent=[ask(OWNER, "PutObject", s3__ObjectCreationOperation="true")],
    ),
    "retention of at least ten days": Example(
        judge(deny("s3:PutObjectRetention", Condition={"NumericLessThan": {"s3:object-lock-remaining-retention-days": "10"}})),
        denied=[ask(OWNER, "PutObjectRetention", s3__object_lock_remaining_retention_days="9")],
        silent=[ask(OWNER, "PutObjectRetention", s3__object_lock_remaining_retention_days="10")],
    ),
    "a stale signature": Example(
        judge(deny("s3:*", Condition={"NumericGreaterThan": {"s3:signatureAge": 600000}})),
        denied=[ask(OWNER, "GetObject", s3__signatureAge="600001")],
        silent=[ask(OWNER, "GetObject", s3__signatureAge="600000")],
    ),
    "nobody but one user": Example(
        judge(
            without(deny("s3:*", WHOLE), "Principal")
            | {"NotPrincipal": {"AWS": ["arn:aws:iam::111122223333:user/Dave", "arn:aws:iam::111122223333:root"]}}
        ),
        denied=[ask(JANE, "GetObject"), ask(SESSION, "GetObject"), ask(STRANGER, "GetObject")],
        silent=[ask(DAVE, "GetObject"), ask(OWNER, "GetObject")],
    ),
    "a role's sessions": Example(
        judge(allow("s3:GetObject", principal={"AWS": "arn:aws:iam::111122223333:role/reader"})),
        allowed=[ask(SESSION, "GetObject")],
        silent=[ask(DAVE, "GetObject"), ask(SESSION._replace(role="writer"), "GetObject")],
    ),
    "one session": Example(
        judge(allow("s3:GetObject", principal={"AWS": "arn:aws:sts::111122223333:assumed-role/reader/build-7"})),
        allowed=[ask(SESSION, "GetObject")],
        silent=[ask(SESSION._replace(session="build-8"), "GetObject")],
    ),
    "a service is nobody here": Example(
        judge(allow("s3:PutObject", principal={"Service": "logging.s3.amazonaws.com"})),
        silent=[ask(OWNER, "PutObject"), ask(STRANGER, "PutObject")],
    ),
    "everything but deletion": Example(
        judge(without(allow("x", WHOLE, {"AWS": "444455556666"}), "Action") | {"NotAction": "s3:Delete*"}),
        allowed=[ask(OTHER, "GetObject"), ask(OTHER, "PutBucketAcl", None)],
        silent=[ask(OTHER, "DeleteObject"), ask(OTHER, "DeleteBucket", None)],
    ),
    "everything outside one folder": Example(
        judge(without(deny("s3:*"), "Resource") | {"NotResource": f"{ARN}/open/*"}),
        denied=[ask(OWNER, "GetObject", "closed/x"), ask(OWNER, "ListBucket", None)],
        silent=[ask(OWNER, "GetObject", "open/x")],
    ),
    "IAM: read and write in one bucket": Example(
        judge(identity("s3:ListBucket", ARN), identity("s3:*Object", f"{ARN}/*")),
        allowed=[ask(DAVE, "ListBucket", None), ask(DAVE, "PutObject"), ask(DAVE, "DeleteObject")],
        silent=[ask(DAVE, "GetObject", bucket="other"), ask(DAVE, "GetObjectAcl"), ask(DAVE, "DeleteBucket", None)],
    ),
    "IAM: reading everything": Example(
        judge(identity(["s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*"], "*")),
        allowed=[ask(DAVE, "GetObject", bucket="any"), ask(DAVE, "ListAllMyBuckets", None), ask(DAVE, "GetBucketPolicy", None)],
        silent=[ask(DAVE, "PutObject"), ask(DAVE, "DeleteObject")],
    ),
    "IAM: one's own folder": Example(
        judge(
            identity("s3:ListBucket", ARN, Condition={"StringLike": {"s3:prefix": ["", "home/", "home/${aws:username}/*"]}}),
            identity("s3:*", [f"{ARN}/home/${{aws:username}}", f"{ARN}/home/${{aws:username}}/*"]),
        ),
        allowed=[ask(DAVE, "ListBucket", None, s3__prefix="home/Dave/x"), ask(DAVE, "PutObject", "home/Dave/x")],
        silent=[
            ask(DAVE, "ListBucket", None, s3__prefix="home/Jane/"),
            ask(DAVE, "GetObject", "home/Jane/x"),
            ask(OWNER, "GetObject", "home//x"),
        ],
    ),
    "IAM: between two dates": Example(
        judge(
            identity(
                "s3:*",
                "*",
                Condition={
                    "DateGreaterThan": {"aws:CurrentTime": "2026-04-01T00:00:00Z"},
                    "DateLessThan": {"aws:CurrentTime": "2026-06-30T23:59:59Z"},
                },
            )
        ),
        allowed=[ask(DAVE, "GetObject", aws__CurrentTime="2026-05-01T00:00:00Z")],
        silent=[ask(DAVE, "GetObject", aws__CurrentTime="2026-07-01T00:00:00Z")],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_means_what_aws_says_it_means(name: str) -> None:
    example = EXAMPLES[name]
    assert [example.policy.judge(question).effect for question in example.allowed] == ["Allow"] * len(example.allowed)
    assert [example.policy.judge(question).effect for question in example.denied] == ["Deny"] * len(example.denied)
    assert [example.policy.judge(question).effect for question in example.silent] == [None] * len(example.silent)


def test_variables_are_text_in_the_older_version() -> None:
    older = judge(allow("s3:GetObject", f"{ARN}/${{aws:username}}"), version="2008-10-17")
    assert older.judge(ask(DAVE, "GetObject", "${aws:username}")).effect == "Allow"
    assert older.judge(ask(DAVE, "GetObject", "Dave")).effect is None


def test_a_finding_names_its_statement_and_whom_it_is_for() -> None:
    policy = judge(allow("s3:GetObject", principal={"AWS": "444455556666"}, Sid="whole account"), deny("s3:PutObject", Sid="nobody writes"))
    assert policy.judge(ask(JANE, "GetObject")) == Finding("Allow", 'statement 1 "whole account"', direct=False)
    assert policy.judge(ask(OTHER, "GetObject")) == Finding("Allow", 'statement 1 "whole account"', direct=True)
    assert policy.judge(ask(JANE, "PutObject")) == Finding("Deny", 'statement 2 "nobody writes"', direct=True)


TAGGED = {"StringEquals": {"s3:ExistingObjectTag/a": "b"}}


def test_the_object_is_asked_for_only_if_nothing_else_decides() -> None:
    policy = judge(allow("s3:GetObject", Condition=TAGGED))
    with pytest.raises(ObjectNeeded):
        policy.judge(ask(STRANGER, "GetObject"))
    assert policy.judge(ask(STRANGER, "PutObject")).effect is None
    both = judge(allow("s3:GetObject", Condition=TAGGED), allow("s3:GetObject", principal={"AWS": "444455556666"}))
    assert both.judge(ask(OTHER, "GetObject")).effect == "Allow"
    narrowed = judge(allow("s3:GetObject", Condition={**TAGGED, "Bool": {"aws:SecureTransport": "true"}}))
    assert narrowed.judge(ask(STRANGER, "GetObject", aws__SecureTransport="false")).effect is None


def test_a_denial_by_the_object_is_never_passed_over() -> None:
    policy = judge(allow("s3:GetObject"), deny("s3:GetObject", Condition=TAGGED))
    with pytest.raises(ObjectNeeded):
        policy.judge(ask(STRANGER, "GetObject"))
    assert policy.judge(ask(STRANGER, "GetObject", tags={"a": "b"})).effect == "Deny"
    assert policy.judge(ask(STRANGER, "GetObject", tags={})).effect == "Allow"


UPLOAD = {"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}


class Gone(NoContext):
    """Of a request about an upload that does not exist."""

    def values(self, key: str, question: Question) -> None:
        if key == "s3:x-amz-server-side-encryption":
            raise UploadGone


def test_an_upload_that_does_not_exist_denies_nothing_and_takes_nothing_back() -> None:
    about = ask(STRANGER, "PutObject")._replace(context=Gone())
    assert judge(allow("s3:PutObject"), deny("s3:PutObject", Condition=UPLOAD)).judge(about).effect == "Allow"
    assert judge(allow("s3:PutObject", Condition=UPLOAD)).judge(about).effect == "Allow"
    assert judge(deny("s3:PutObject", Condition=UPLOAD)).judge(about).effect is None
    narrowed = {**UPLOAD, "Bool": {"aws:SecureTransport": "true"}}
    assert judge(allow("s3:PutObject", Condition=narrowed)).judge(about).effect is None
    assert judge(allow("s3:PutObject"), deny("s3:PutObject")).judge(about).effect == "Deny"


def restricted(*, read_only: bool = False, buckets: tuple[str, ...] = (), prefixes: tuple[str, ...] = ()) -> Judge:
    return Judge(read_identity_policy(restricting_policy(read_only=read_only, buckets=buckets, prefixes=prefixes).encode()))


def test_a_read_only_key_reads_everything_and_writes_nothing() -> None:
    key = restricted(read_only=True)
    for question in (
        ask(DAVE, "GetObject"),
        ask(DAVE, "ListBucket", None),
        ask(DAVE, "ListAllMyBuckets", None),
        ask(DAVE, "GetObjectTagging"),
    ):
        assert key.judge(question).effect == "Allow"
    for action in ("PutObject", "DeleteObject", "PutObjectTagging", "AbortMultipartUpload", "PutBucketPolicy", "RestoreObject"):
        assert key.judge(ask(DAVE, action)).effect is None


def test_a_key_of_a_bucket_reaches_no_other() -> None:
    key = restricted(buckets=("bucket", "second-bucket"))
    for bucket, effect in (("bucket", "Allow"), ("second-bucket", "Allow"), ("bucket2", None)):
        assert key.judge(ask(DAVE, "PutObject", bucket=bucket)).effect == effect
        assert key.judge(ask(DAVE, "ListBucket", None, bucket=bucket)).effect == effect


def below(action: str, key: str | None, **keys: str) -> Question:
    return ask(DAVE, action, key, bucket="bucket", **keys)


def test_a_key_of_a_prefix_reaches_what_is_below_it_and_lists_that() -> None:
    key = restricted(read_only=True, buckets=("bucket",), prefixes=("a*/${x}",))
    assert key.judge(below("GetObject", "a*/${x}/k")).effect == "Allow"
    assert key.judge(below("ListBucket", None, s3__prefix="a*/${x}/")).effect == "Allow"
    assert key.judge(below("GetBucketLocation", None)).effect == "Allow"
    for question in (
        below("GetObject", "ab/${x}/k"),
        below("PutObject", "a*/${x}/k"),
        below("ListBucket", None, s3__prefix="a"),
        below("ListBucket", None),
        below("GetBucketPolicy", None),
    ):
        assert key.judge(question).effect is None


def test_a_prefix_needs_a_bucket_and_a_bucket_a_name() -> None:
    with pytest.raises(ValueError, match="prefix"):
        restricting_policy(read_only=False, buckets=(), prefixes=("a",))
    with pytest.raises(S3Error, match="InvalidBucketName"):
        restricting_policy(read_only=False, buckets=("*",), prefixes=())


def test_a_pattern_whose_variable_has_no_value_spares_nobody_the_others() -> None:
    nameless = ask(STRANGER, "GetObject", "secret/x")
    assert judge(deny("s3:GetObject", [f"{ARN}/${{aws:username}}/*", f"{ARN}/secret/*"])).judge(nameless).effect == "Deny"
    all_but = without(allow("s3:GetObject", NotResource=[f"{ARN}/${{aws:username}}/*", f"{ARN}/open/*"]), "Resource")
    assert judge(all_but).judge(nameless).effect is None
