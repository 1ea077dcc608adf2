"""When a bucket's policy is public: AWS's meaning of the word."""

from __future__ import annotations

import json

import pytest

from proxy.s3.policy.document import read_bucket_policy
from proxy.s3.policy.public_policy import is_public


def public(*statements: dict[str, object]) -> bool:
    usual = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}
    document = {"Version": "2012-10-17", "Statement": [usual | statement for statement in statements]}
    return is_public(read_bucket_policy(json.dumps(document).encode(), "bucket"))


def given(operator: str, key: str, *values: str) -> dict[str, object]:
    return {"Condition": {operator: {key: list(values)}}}


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"AWS": ["111122223333", "*"]}])
def test_what_everybody_is_given_is_public(principal: object) -> None:
    assert public({"Principal": principal})


@pytest.mark.parametrize(
    "principal", [{"AWS": "111122223333"}, {"AWS": "arn:aws:iam::111122223333:user/a"}, {"Service": "logging.s3.amazonaws.com"}]
)
def test_what_is_given_to_somebody_is_not(principal: object) -> None:
    assert not public({"Principal": principal})


@pytest.mark.parametrize(
    ("operator", "key", "value", "expected"),
    [
        ("StringEquals", "aws:SourceVpc", "vpc-91237329", False),
        ("StringLike", "aws:SourceVpc", "vpc-91237329", False),
        ("StringLike", "aws:SourceVpc", "vpc-*", True),
        ("StringEquals", "aws:PrincipalOrgID", "o-1234567890", False),
        ("StringEquals", "aws:PrincipalOrgID", "${aws:PrincipalOrgID}", True),
        ("StringEqualsIfExists", "aws:SourceVpce", "vpce-1", True),
        ("ForAllValues:StringEquals", "aws:PrincipalOrgPaths", "o-1/r-1/", True),
        ("StringNotEquals", "aws:SourceVpc", "vpc-91237329", True),
        ("ArnLike", "aws:SourceArn", "arn:aws:s3:::source", False),
        ("ArnLike", "aws:SourceArn", "arn:aws:s3:::*", True),
        ("StringEquals", "aws:SourceAccount", "111122223333", False),
        ("StringEquals", "aws:UserAgent", "secret", True),
        ("StringEquals", "aws:Referer", "secret", True),
        ("Bool", "aws:SecureTransport", "true", True),
        ("IpAddress", "aws:SourceIp", "203.0.113.0/24", False),
        ("IpAddress", "aws:SourceIp", "203.0.113.7", False),
        ("IpAddress", "aws:SourceIp", "0.0.0.0/1", True),
        ("IpAddress", "aws:SourceIp", "12.0.0.0/8", False),
        ("IpAddress", "aws:SourceIp", "12.0.0.0/7", True),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", False),
        ("IpAddress", "aws:SourceIp", "2001:db9::/32", False),
        ("IpAddress", "aws:SourceIp", "2600::/12", True),
        ("NotIpAddress", "aws:SourceIp", "203.0.113.0/24", True),
    ],
)
def test_a_condition_with_fixed_values_is_not_public(operator: str, key: str, value: str, expected: bool) -> None:
    assert public(given(operator, key, value)) is expected


def test_each_value_must_be_fixed() -> None:
    assert public(given("StringLike", "aws:SourceVpc", "vpc-91237329", "vpc-*"))
    assert public(given("IpAddress", "aws:SourceIp", "203.0.113.0/24", "0.0.0.0/0"))


def test_one_public_statement_makes_the_policy_public_and_a_denial_takes_nothing_back() -> None:
    named = {"Principal": {"AWS": "111122223333"}}
    assert not public(named, named)
    assert public(named, {})
    assert public({}, {"Effect": "Deny"})
    assert not public({"Effect": "Deny"})
