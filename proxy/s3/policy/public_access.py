"""The public access block: four settings that take from ACLs and bucket policies what they would give to the public.

A bucket without the setting is as AWS makes new ones since April 2023: all four are on. Who wants a public bucket turns them off first.
Source: Amazon S3 User Guide, "Blocking public access to your Amazon S3 storage".
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

PUBLIC_ACCESS_BLOCK = "public_access_block"  # its name among the bucket's settings
REMOVED = "null"  # what the setting keeps once it was removed


class PublicAccessBlock(msgspec.Struct, frozen=True, kw_only=True):
    """What is blocked. A setting that a request leaves out is off."""

    block_public_acls: bool = False  # refuses requests that would make an ACL public
    ignore_public_acls: bool = False  # grants to the public in ACLs count for nothing
    block_public_policy: bool = False  # refuses a bucket policy that is public
    restrict_public_buckets: bool = False  # a bucket policy that is public gives nothing to anybody outside the owner's account


OPEN = PublicAccessBlock()
OF_NEW_BUCKETS = PublicAccessBlock(block_public_acls=True, ignore_public_acls=True, block_public_policy=True, restrict_public_buckets=True)


def public_access_block(setting: str | None) -> PublicAccessBlock:
    """Return what holds for a bucket with this setting."""
    if setting is None:
        return OF_NEW_BUCKETS
    return _parsed(setting) or OPEN


def block_text(block: PublicAccessBlock) -> str:
    """Return what a bucket's setting keeps."""
    return msgspec.json.encode(block).decode()


@lru_cache(maxsize=100)  # there are sixteen
def _parsed(text: str) -> PublicAccessBlock | None:
    return msgspec.json.decode(text, type=PublicAccessBlock | None)
