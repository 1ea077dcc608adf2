"""Transfer acceleration: a second name of a bucket, that its owner turns on.

On AWS requests to `bucket.s3-accelerate.amazonaws.com` go to the edge that is nearest. Here the operator says which names go another way
(`accelerate_domains`: an address that many places announce, a tunnel, another line); what the setting means to clients is as on AWS: with
acceleration enabled the bucket is served by that name, too, and otherwise it is not.

Source: Amazon S3 User Guide, "Using the Amazon S3 Transfer Acceleration"; Amazon S3 API Reference, "Error responses".
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.s3.errors import S3Error

ACCELERATION = "accelerate"  # its name among the bucket's settings
ENABLED, SUSPENDED = "Enabled", "Suspended"
_NOT_ACCELERATED = frozenset({"CreateBucket", "DeleteBucket", "ListBuckets"})


def read_status(status: object, bucket: str, *, is_offered: bool) -> str:
    """Return the status to keep. MalformedXML; InvalidRequest if it would not be true: `is_offered` where there are accelerate domains."""
    if status not in {ENABLED, SUSPENDED}:
        raise S3Error("MalformedXML")
    if status == ENABLED and "." in bucket:
        raise S3Error("InvalidRequest", "S3 Transfer Acceleration is not supported for buckets with periods (.) in their names")
    if status == ENABLED and not is_offered:
        message = "S3 Transfer Acceleration cannot be enabled on this bucket: this server has no accelerate_domains in its configuration"
        raise S3Error("InvalidRequest", message)
    return str(status)


def check_accelerated(operation: str, settings: Mapping[str, str]) -> None:
    """InvalidRequest unless the operation is one that the bucket is asked for by its accelerated name."""
    if operation in _NOT_ACCELERATED:
        raise S3Error("InvalidRequest", "S3 Transfer Acceleration does not support this operation")
    status = settings.get(ACCELERATION)
    if status != ENABLED:
        raise S3Error("InvalidRequest", f"S3 Transfer Acceleration is {'disabled' if status else 'not configured'} on this bucket")
