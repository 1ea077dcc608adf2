"""Policies of browser forms: what whoever signed one allows to be uploaded, and until when.

Source: Amazon S3 Developer Guide, "POST Policy" (sigv4-HTTPPOSTConstructPolicy). It does not say how S3 answers what is wrong: the messages
are those that its clients report.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from proxy.s3.errors import S3Error

_MEMBERS = ("expiration", "conditions")
_RANGE = "content-length-range"
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")
_SIZE = re.compile(r"-?[0-9]{1,18}")
ANY_SIZE = (0, 2**63)
_FREE_FIELDS = frozenset({"awsaccesskeyid", "signature", "x-amz-signature", "policy", "file"})
# A checksum lets nobody upload what he could not without it. The second prefix is S3's own.
_FREE_PREFIXES = ("x-amz-checksum-", "x-ignore-")
# What the bucket says of encryption stands for a field that is not there.
_DEFAULTED = "x-amz-server-side-encryption"


class Condition(NamedTuple):
    """What one field must be, or begin with. `text` is the condition as errors tell it."""

    operation: str
    field: str  # in lower case, "$" before it
    value: str
    text: str


class Policy(NamedTuple):
    """A policy document."""

    expires_ms: int
    conditions: tuple[Condition, ...]
    sizes: tuple[int, int]  # what the file may have at least and at most

    def check(self, fields: Mapping[str, str], spelled: Mapping[str, str], *, bucket: str, now_ms: int) -> None:
        """Raise AccessDenied unless the form keeps to it. `fields` are by lower-case name, `spelled` says how each name was sent.

        The file's size is not known yet, and is the caller's to check.
        """
        if now_ms >= self.expires_ms:
            raise _against("Policy expired.")
        known = {**fields, "bucket": bucket}  # it is asked for by the request itself, whatever a field says
        for condition in self.conditions:
            if not _holds(condition, known):
                raise _failed(condition.text)
        covered = {condition.field.removeprefix("$") for condition in self.conditions}
        extra = [spelled.get(name, name) for name in known if name not in covered and not _is_free(name)]
        if extra:
            raise _against(f"Extra input fields: {', '.join(extra)}")


def parse_policy(text: str) -> Policy:
    """Read a policy as it is in a form: JSON in base64. InvalidPolicyDocument; AccessDenied for a range of sizes that is none."""
    document = _decode(text)
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    for name in document:
        if name not in _MEMBERS:
            raise _invalid(f"Unexpected: '{name.lower()}'")
    expires_ms = _parse_expiration(document)
    if "conditions" not in document:
        raise _invalid("Policy missing conditions.")
    if not isinstance(document["conditions"], list):
        raise _invalid("Invalid 'conditions' value: must be a List.")
    found: list[Condition] = []
    least, most = ANY_SIZE
    for one in document["conditions"]:
        if isinstance(one, list) and one and isinstance(one[0], str) and one[0].lower() == _RANGE:
            low, high = _parse_range(one)
            least, most = max(least, low), min(most, high)
        else:
            found.append(_parse_condition(one))
    return Policy(expires_ms, tuple(found), (least, most))


def _decode(text: str) -> object:
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("Invalid Base64 encoding.") from None
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None


def _parse_expiration(document: Mapping[str, object]) -> int:
    text = document.get("expiration")
    if text is None:
        raise _invalid("Policy missing expiration.")
    if isinstance(text, str) and _MOMENT.fullmatch(text):
        try:
            return int(datetime.fromisoformat(text).timestamp() * 1000)
        except (ValueError, OverflowError):
            pass
    raise _invalid(f"Invalid 'expiration' value: '{text}'")


def _parse_range(condition: list[object]) -> tuple[int, int]:
    if len(condition) != 3:
        raise _invalid(f"Invalid {_RANGE}: wrong number of arguments.")
    if any(isinstance(bound, bool) or not isinstance(bound, int | str) for bound in condition[1:]):
        raise _invalid("Invalid JSON.")
    low, high = (str(bound) for bound in condition[1:])
    if not _SIZE.fullmatch(low) or not _SIZE.fullmatch(high):
        raise _failed(_written(condition))
    return int(low), int(high)


def _parse_condition(condition: object) -> Condition:
    if isinstance(condition, dict):
        return _parse_simple(condition)
    if not isinstance(condition, list):
        raise _invalid("Invalid condition test: must be a List or Object.")
    if not condition or not isinstance(condition[0], str):
        raise _invalid("Invalid Condition: missing operation identifier.")
    operation = condition[0].lower()
    if operation not in {"eq", "starts-with"}:
        raise _invalid(f"Invalid Condition: unknown operation '{condition[0]}'.")
    if len(condition) != 3:
        raise _invalid(f"Invalid {operation}: wrong number of arguments.")
    _, field, value = condition
    if not isinstance(field, str) or not isinstance(value, str):
        raise _invalid("Invalid JSON.")
    return Condition(operation, field.lower(), value, _written(condition))


def _parse_simple(condition: Mapping[str, object]) -> Condition:
    if len(condition) != 1:
        raise _invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
    ((name, value),) = condition.items()
    if value is None:
        raise _invalid("Invalid JSON.")
    if not isinstance(value, str):
        raise _invalid("Invalid Simple-Condition: value must be a string.")
    return Condition("eq", f"${name.lower()}", value, _written(["eq", f"${name}", value]))


def _holds(condition: Condition, fields: Mapping[str, str]) -> bool:
    if not condition.field.startswith("$"):
        return False
    name = condition.field.removeprefix("$")
    value = fields.get(name)
    if value is None:
        return condition.operation == "starts-with" and not condition.value and name.startswith(_DEFAULTED)
    if condition.operation == "eq":
        return value == condition.value
    if name == "content-type":  # a list, each of which is meant
        return all(item.strip().startswith(condition.value) for item in value.split(","))
    return value.startswith(condition.value)


def _is_free(name: str) -> bool:
    return name in _FREE_FIELDS or name.startswith(_FREE_PREFIXES)


def _written(condition: list[object]) -> str:
    return json.dumps(condition, ensure_ascii=False)


def _failed(condition: str) -> S3Error:
    return _against(f"Policy Condition failed: {condition}")


def _against(fault: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {fault}")


def _invalid(fault: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {fault}")
