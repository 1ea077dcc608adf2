"""Restrictions in a few words: the policy of a key that may only read, or reach only some buckets or prefixes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from proxy.s3.naming import BUCKET_ARN, check_bucket_name

_READS = ("s3:Get*", "s3:List*")


def restricting_policy(*, read_only: bool, buckets: Sequence[str], prefixes: Sequence[str]) -> str:
    """Return a policy document. Prefixes are of all the buckets. InvalidBucketName; ValueError for prefixes without a bucket."""
    for bucket in buckets:
        check_bucket_name(bucket)
    if prefixes and not buckets:
        raise ValueError("a prefix is one of a bucket")
    actions = list(_READS) if read_only else ["s3:*"]
    statements = _of_prefixes(actions, buckets, prefixes) if prefixes else [_allow(actions, _whole(buckets))]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _whole(buckets: Sequence[str]) -> list[str]:
    return [arn for bucket in buckets for arn in (BUCKET_ARN + bucket, f"{BUCKET_ARN}{bucket}/*")] or ["*"]


def _of_prefixes(actions: list[str], buckets: Sequence[str], prefixes: Sequence[str]) -> list[dict[str, object]]:
    """Objects below the prefixes, and lists of them; besides, where the bucket is: clients ask for that first."""
    plain = [_plain(prefix) for prefix in prefixes]
    arns = [BUCKET_ARN + bucket for bucket in buckets]
    listed = {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in plain]}}
    return [
        _allow(actions, [f"{arn}/{prefix}*" for arn in arns for prefix in plain]),
        {**_allow(["s3:ListBucket", "s3:ListBucketVersions"], arns), "Condition": listed},
        _allow(["s3:GetBucketLocation"], arns),
    ]


def _allow(actions: list[str], resources: list[str]) -> dict[str, object]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _plain(prefix: str) -> str:
    """Write a prefix so that each of its characters means itself."""
    return "".join(f"${{{character}}}" if character in "*?$" else character for character in prefix)
