"""Settings of a bucket, or of an object, that are not served yet: what AWS says where they are not set, and what is true anyway.

Terraform and graphical clients read them all. A setting that cannot be made need not be removed either: that succeeds, as on AWS.
"""

from __future__ import annotations

from proxy.s3.errors import S3Error
from proxy.server.call import Call, Handle


class NotSet:
    """Answers that the bucket has no such setting."""

    def __init__(self, code: str) -> None:
        self.code = code

    async def __call__(self, call: Call) -> dict[str, object]:
        raise S3Error(self.code, BucketName=call.bucket.name)


def not_set(code: str) -> Handle:
    """Return what answers with this code."""
    return NotSet(code)


async def abac_is_off(_call: Call) -> dict[str, object]:
    """Answer that tags of the bucket play no part in who may do what, as in each new bucket of AWS."""
    return {"AbacStatus": {"Status": "Disabled"}}


async def empty_list(_call: Call) -> dict[str, object]:
    return {"IsTruncated": False}
