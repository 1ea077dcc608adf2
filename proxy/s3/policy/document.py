"""Policy documents: their text read and checked, each fault in AWS's words.

There are three kinds. A bucket's policy names principals, and resources of that bucket alone. A policy of a key, a role or a session names
no principal. A role's trust policy names principals, and no resource.

Source: IAM User Guide, "Grammar of the IAM JSON policy language"; S3 API Reference, PutBucketPolicy. AWS lists no messages of
MalformedPolicy: these are the ones that users of it report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from proxy.s3.policy.statement import Kind, Number, Statement, StatementReader, check_fields, refuse, refuse_syntax

MAX_SIZE = 20 * 1024  # bytes of a bucket's policy, as on AWS; of the other kinds fewer on AWS
MAX_SESSION_SIZE = 2048  # characters of a session's: STS API Reference, AssumeRole
VERSIONS = frozenset({"2012-10-17", "2008-10-17"})

_FIELDS = frozenset({"Version", "Id", "Statement"})


class Document(NamedTuple):
    """A policy document without a fault."""

    version: str
    statements: tuple[Statement, ...]
    weight: int  # about how many bytes it takes in memory

    @property
    def named_principals(self) -> frozenset[str]:
        """All principals of ours that it names, as account id, canonical id or ARN."""
        found = (statement.principals.named for statement in self.statements if statement.principals is not None)
        return frozenset[str]().union(*found)


def read_bucket_policy(text: bytes, bucket: str) -> Document:
    """Read the policy of a bucket. Raises MalformedPolicy."""
    if not text.startswith(b"{"):
        refuse("Policies must be valid JSON and the first byte must be '{'")
    return _read(text, "bucket", bucket)


def read_identity_policy(text: bytes) -> Document:
    """Read a policy of a key, a role or a session. Raises MalformedPolicy."""
    return _read(text, "identity", "")


def read_trust_policy(text: bytes) -> Document:
    """Read the trust policy of a role: who may take it on. Raises MalformedPolicy."""
    return _read(text, "trust", "")


def _read(text: bytes, kind: Kind, bucket: str) -> Document:
    if len(text) > MAX_SIZE:
        refuse(f"Normalized policy document exceeds the maximum allowed size of {MAX_SIZE} bytes")
    policy = _json(text)
    if not isinstance(policy, dict):
        refuse("This policy contains invalid Json")
    check_fields(policy, _FIELDS)
    version = policy.get("Version", "2008-10-17")
    statements = policy.get("Statement")
    if statements is None:
        refuse("Missing required field Statement")
    if statements == []:
        refuse("Could not parse the policy: Statement is empty!")
    if not isinstance(version, str) or version not in VERSIONS:
        refuse("The policy must contain a valid version string")
    if not isinstance(policy.get("Id", ""), str):
        refuse_syntax()
    reader = StatementReader(kind, bucket, variables=version == "2012-10-17")
    read = tuple(
        reader.statement(one, number) for number, one in enumerate(statements if isinstance(statements, list) else [statements], 1)
    )
    _check_sids(read)
    return Document(version, read, weight=reader.weight + 4 * len(text))


def _json(text: bytes) -> object:
    """Read JSON. Numbers stay as they are written; a name that is given twice is a fault: one reader takes the first, the next the last."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a name is given twice")
        return found

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        read: object = json.loads(
            text.decode("utf-8"), object_pairs_hook=pairs, parse_int=Number, parse_float=Number, parse_constant=constant
        )
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        refuse("This policy contains invalid Json")
    return read


def _check_sids(statements: Sequence[Statement]) -> None:
    sids = [statement.sid for statement in statements if statement.sid]
    if len(set(sids)) != len(sids):
        refuse("Statement IDs (SID) in a single policy must be unique.")
