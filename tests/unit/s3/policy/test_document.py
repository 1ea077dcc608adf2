"""Policy documents: what is taken, and what is refused in AWS's words."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.policy.document import MAX_SIZE, Document, read_bucket_policy, read_identity_policy, read_trust_policy

BUCKET = "amzn-s3-demo-bucket"
ARN = f"arn:aws:s3:::{BUCKET}"
GET = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{ARN}/*"}


def bucket_policy(text: bytes) -> Document:
    return read_bucket_policy(text, BUCKET)


def policy(*statements: object, **fields: object) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **fields}).encode()


def refusal(read: Callable[[bytes], Document], text: bytes) -> str:
    with pytest.raises(S3Error) as caught:
        read(text)
    assert (caught.value.code, caught.value.status) == ("MalformedPolicy", 400)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Policies must be valid JSON and the first byte must be '{'"),
        (b" {}", "Policies must be valid JSON and the first byte must be '{'"),
        (b"[]", "Policies must be valid JSON and the first byte must be '{'"),
        (b"{", "This policy contains invalid Json"),
        (b'{"Statement": NaN}', "This policy contains invalid Json"),
        (b'{"Statement": "\xff"}', "This policy contains invalid Json"),
        (b'{"Statement": [], "Statement": []}', "This policy contains invalid Json"),
        (b'{"a":' * 3000, "This policy contains invalid Json"),
        (b"{}", "Missing required field Statement"),
        (b'{"Statement": []}', "Could not parse the policy: Statement is empty!"),
        (b'{"Statement": [1]}', "Invalid policy syntax."),
        (b'{"Statement": "x"}', "Invalid policy syntax."),
        (policy(GET, Foo=1), "Unknown field Foo"),
        (policy(GET, Id=1), "Invalid policy syntax."),
        (policy(GET, Version="2012-10-18"), "The policy must contain a valid version string"),
        (policy(GET, Version=None), "The policy must contain a valid version string"),
    ],
)
def test_a_text_that_is_no_policy_is_refused(text: bytes, message: str) -> None:
    assert refusal(bucket_policy, text) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Foo": 1}, "Unknown field Foo"),
        ({"Sid": 1}, "Invalid policy syntax."),
        ({"Effect": None}, "Missing required field Effect"),
        ({"Effect": "allow"}, "Invalid effect: allow"),
        ({"Effect": ["Allow"]}, "Invalid policy syntax."),
        ({"Principal": None}, "Missing required field Principal"),
        ({"Principal": "anna"}, "Invalid principal in policy"),
        ({"Principal": {}}, "Invalid principal in policy"),
        ({"Principal": []}, "Invalid principal in policy"),
        ({"Principal": {"AWS": []}}, "Invalid principal in policy"),
        ({"Principal": {"AWS": 111122223333}}, "Invalid principal in policy"),
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}}, "Invalid principal in policy"),
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:group/g"}}, "Invalid principal in policy"),
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:root/x"}}, "Invalid principal in policy"),
        ({"Principal": {"AWS": "arn:aws:sts::111122223333:assumed-role/r"}}, "Invalid principal in policy"),
        ({"Principal": {"CanonicalUser": "abc"}}, "Invalid principal in policy"),
        ({"Principal": {"Service": "*"}}, "Invalid principal in policy"),
        ({"Principal": {"Federated": "cognito-identity.amazonaws.com"}}, "Invalid principal in policy"),
        ({"Principal": {"Nobody": "x"}}, "Invalid principal in policy"),
        ({"NotPrincipal": "*"}, "Invalid policy syntax."),
        ({"Principal": None, "NotPrincipal": {"AWS": "111122223333"}}, "Allow with NotPrincipal is not allowed."),
        ({"Action": None}, "Missing required field Action"),
        ({"Action": []}, "Policy statement must contain actions."),
        ({"Action": {}}, "Invalid policy syntax."),
        ({"Action": [1]}, "Invalid policy syntax."),
        ({"Action": "s3:GetObjekt"}, "Policy has invalid action"),
        ({"Action": "s3:Gett*"}, "Policy has invalid action"),
        ({"Action": "GetObject"}, "Policy has invalid action"),
        ({"Action": "ec2:*"}, "Policy has invalid action"),
        ({"Action": ["s3:GetObject", "ec2:RunInstances"]}, "Policy has invalid action"),
        ({"Action": "s3:ListAllMyBuckets"}, "Policy has invalid action"),
        ({"Action": "s3:CreateBucket"}, "Policy has invalid action"),
        ({"NotAction": "s3:GetObject"}, "Invalid policy syntax."),
        ({"Resource": None}, "Missing required field Resource"),
        ({"Resource": []}, "Policy has invalid resource"),
        ({"Resource": "*"}, "Policy has invalid resource"),
        ({"Resource": "arn:aws:s3:::other/*"}, "Policy has invalid resource"),
        ({"Resource": f"{ARN}x/*"}, "Policy has invalid resource"),
        ({"Resource": f"{ARN[:-1]}*"}, "Policy has invalid resource"),
        ({"Resource": "arn:aws:s3:::*/x"}, "Policy has invalid resource"),
        ({"Resource": f"arn:aws:s3::111122223333:{BUCKET}/*"}, "Policy has invalid resource"),
        ({"Resource": [f"{ARN}/*", "arn:aws:s3:::other"]}, "Policy has invalid resource"),
        ({"Resource": f"{ARN}/${{x"}, "Policy has invalid resource"),
        ({"Resource": ARN}, "Action does not apply to any resource(s) in statement"),
        ({"Action": "s3:ListBucket"}, "Action does not apply to any resource(s) in statement"),
        ({"Action": "s3:Get*Acl", "Resource": ARN, "Condition": []}, "Invalid policy syntax."),
        ({"Condition": {"StringEquals": "x"}}, "Invalid policy syntax."),
        ({"Condition": {"stringequals": {"aws:username": "x"}}}, "Invalid Condition type : stringequals"),
        ({"Condition": {"NullIfExists": {"aws:username": "true"}}}, "Invalid Condition type : NullIfExists"),
        ({"Condition": {"StringEquals": {"s3:nonsense": "x"}}}, "Policy has an invalid condition key"),
        ({"Condition": {"StringEquals": {"aws:nonsense": "x"}}}, "Policy has an invalid condition key"),
        ({"Condition": {"StringEquals": {"s3:ExistingObjectTag": "x"}}}, "Policy has an invalid condition key"),
        ({"Condition": {"StringEquals": {"aws:username": []}}}, "Invalid policy syntax."),
        ({"Condition": {"StringEquals": {"aws:username": {}}}}, "Invalid policy syntax."),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "123"}}}, "Invalid IP address in Conditions"),
        ({"Condition": {"Bool": {"aws:SecureTransport": "yes"}}}, "Invalid value in Conditions for operator Bool"),
        (
            {"Condition": {"StringEquals": {"s3:prefix": "x"}}},
            "Conditions do not apply to combination of actions and resources in statement",
        ),
        (
            {"Action": ["s3:GetObject", "s3:PutObject"], "Condition": {"StringEquals": {"s3:x-amz-acl": "private"}}},
            "Conditions do not apply to combination of actions and resources in statement",
        ),
        (
            {"Action": ["s3:DeleteObject", "s3:DeleteObjectTagging"], "Condition": {"StringEquals": {"s3:ExistingObjectTag/a": "b"}}},
            "Conditions do not apply to combination of actions and resources in statement",
        ),
    ],
)
def test_a_faulty_statement_is_refused(change: dict[str, object], message: str) -> None:
    statement = {name: value for name, value in {**GET, **change}.items() if value is not None}
    assert refusal(bucket_policy, policy(statement)) == message


@pytest.mark.parametrize(
    "change",
    [
        {"Sid": "With spaces, too"},
        {"Principal": {"AWS": "*"}},
        {"Principal": {"AWS": ["111122223333", "arn:aws:iam::111122223333:role/path/reader"]}},
        {"Principal": {"CanonicalUser": "a" * 64}},
        {"Principal": {"Service": "logging.s3.amazonaws.com"}},
        {"Action": "*"},
        {"Action": "S3:GETOBJECT"},
        {"Action": "s3:*", "Resource": [ARN, f"{ARN}/*"]},
        {"Action": ["s3:ListBucket", "s3:GetObject"], "Resource": [ARN, f"{ARN}/*"]},
        {"Action": "s3:*", "Resource": f"{ARN}*"},
        {"Resource": f"{ARN}/${{aws:username}}/*"},
        {"Condition": {}},
        {"Condition": {"Bool": {"AWS:SecureTransport": True}, "NumericLessThan": {"s3:signatureAge": 600000}}},
        {"Action": "s3:*", "Condition": {"StringEquals": {"s3:x-amz-acl": "private"}}},
        {"Condition": {"StringEquals": {"s3:ExistingObjectTag/env": ["a", "b"]}}},
        {"Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1a2b3c4d"}}},
        {"Effect": "Deny", "Principal": "*", "Condition": {"ForAllValues:StringNotLikeIfExists": {"aws:PrincipalTag/team": "x*"}}},
    ],
)
def test_what_aws_takes_is_taken(change: dict[str, object]) -> None:
    assert len(bucket_policy(policy({**GET, **change})).statements) == 1


def test_one_statement_needs_no_list_and_a_policy_no_version() -> None:
    document = bucket_policy(json.dumps({"Id": "x", "Statement": GET}).encode())
    assert (document.version, len(document.statements)) == ("2008-10-17", 1)


def test_statements_have_names_of_their_own() -> None:
    assert refusal(bucket_policy, policy({**GET, "Sid": "a"}, {**GET, "Sid": "a"})).endswith("must be unique.")
    document = bucket_policy(policy({**GET, "Sid": "a"}, GET))
    assert [statement.name for statement in document.statements] == ['statement 1 "a"', "statement 2"]


def test_a_policy_may_have_20_kib() -> None:
    text = policy(GET)
    assert bucket_policy(text + b" " * (MAX_SIZE - len(text)))
    assert "20480 bytes" in refusal(bucket_policy, text + b" " * (MAX_SIZE - len(text) + 1))


def test_a_policy_names_its_principals() -> None:
    aws = ["111122223333", "arn:aws:iam::444455556666:root", "arn:aws:iam::444455556666:user/Jane"]
    document = bucket_policy(policy({**GET, "Principal": {"AWS": aws, "CanonicalUser": "a" * 64}}))
    assert document.named_principals == {"111122223333", "444455556666", "arn:aws:iam::444455556666:user/Jane", "a" * 64}


def test_a_policy_of_a_key_names_no_principal_and_may_name_other_services() -> None:
    statement = {"Effect": "Allow", "Action": ["s3:Get*", "s3-object-lambda:List*"], "Resource": "*"}
    assert len(read_identity_policy(policy(statement)).statements) == 1
    assert "principal" in refusal(read_identity_policy, policy({**statement, "Principal": "*"}))
    assert refusal(read_identity_policy, policy({**statement, "Resource": "bucket/*"})) == "Policy has invalid resource"
    assert refusal(read_identity_policy, policy({**statement, "Action": "Get"})) == "Policy has invalid action"


def test_a_trust_policy_names_principals_and_no_resource() -> None:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "111122223333"}}
    assert len(read_trust_policy(policy(statement)).statements) == 1
    federated = {
        "Effect": "Allow",
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/issuer.example"},
        "Condition": {"StringEquals": {"issuer.example:sub": "system:job"}},
    }
    assert len(read_trust_policy(policy(federated)).statements) == 1
    assert refusal(read_trust_policy, policy({**statement, "Resource": "*"})) == "Has prohibited field Resource"
    assert "STS AssumeRole" in refusal(read_trust_policy, policy({**statement, "Action": "s3:GetObject"}))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["*", "Allow", "s3:*", ARN, f"{ARN}/*", "2012-10-17"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Version", "Statement", "Effect", "Principal", "Action", "Resource", "Condition", "AWS", "StringLike", "aws:userid"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(st.one_of(st.binary(max_size=60).map(lambda tail: b"{" + tail), JSON.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_is_read_or_refused(text: bytes) -> None:
    for read in (bucket_policy, read_identity_policy, read_trust_policy):
        try:
            read(text)
        except S3Error as error:
            assert error.code == "MalformedPolicy"
