"""Whether a bucket's policy is public, in AWS's meaning of the word.

A policy is public unless each statement that allows something names who may, or pins the request down by a condition with fixed values. A
value is fixed if it has neither a wildcard nor a variable; an address range also if it is not too wide. What a denial takes away again
does not count.

Source: Amazon S3 User Guide, "Blocking public access to your Amazon S3 storage", "The meaning of 'public'"
"""

from __future__ import annotations

import re
from ipaddress import ip_network

from proxy.s3.policy.conditions import Condition
from proxy.s3.policy.document import Document
from proxy.s3.policy.statement import Statement

_PINNING = frozenset(
    {
        "aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:principalorgpaths", "aws:principalservicename",
        "aws:sourceaccount", "aws:sourcearn", "aws:sourceowner", "aws:sourcevpc", "aws:sourcevpce", "aws:userid",
        "s3:dataaccesspointaccount", "s3:dataaccesspointarn", "s3:x-amz-server-side-encryption-aws-kms-key-id",
    }
)  # fmt: skip
_EQUAL = frozenset({"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"})
_ACCESS_POINTS = re.compile(r"arn:aws:s3:[a-z0-9-]+:[0-9]{12}:accesspoint/[^$]*")  # their names may vary, if the account is fixed
_WIDEST = {4: 8, 6: 32}  # bits of the prefix, by version of the protocol


def is_public(document: Document) -> bool:
    """Tell whether a bucket's policy gives anything to the public."""
    return any(statement.effect == "Allow" and _is_public(statement) for statement in document.statements)


def _is_public(statement: Statement) -> bool:
    principals = statement.principals
    if principals is None or not (principals.everybody or statement.but_principals):
        return False
    return not any(_pins(condition) for condition in statement.conditions)


def _pins(condition: Condition) -> bool:
    """Tell whether the condition leaves over only requests with certain values. One that holds without the key leaves over all others."""
    if condition.negated or condition.if_exists or condition.quantifier == "ForAllValues":
        return False
    if condition.key == "aws:sourceip":
        return condition.operator == "IpAddress" and all(map(_is_narrow, condition.values))
    return condition.key in _PINNING and condition.operator in _EQUAL and all(_is_fixed(condition.key, one) for one in condition.values)


def _is_fixed(key: str, value: str) -> bool:
    if key == "s3:dataaccesspointarn" and _ACCESS_POINTS.fullmatch(value):
        return True
    return not any(mark in value for mark in ("*", "?", "${"))


def _is_narrow(value: str) -> bool:
    network = ip_network(value, strict=False)
    return network.is_private or network.prefixlen >= _WIDEST[network.version]
