"""Cross-origin requests: buckets have no CORS configuration here, and a browser's preflight is told so.

S3 needs no signature for a preflight, and tells whether its bucket exists. Here the answer is always the same: a stranger learns of no
bucket.
Source: Amazon S3 User Guide, "Troubleshooting CORS".
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.s3.errors import S3Error
from proxy.s3.routing import Target


def preflight_refusal(target: Target, headers: Mapping[str, str]) -> S3Error:
    """Return the answer to an OPTIONS request: BadRequest without an Origin, AccessForbidden otherwise. Names are in lower case."""
    if "origin" not in headers:
        return S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    message = "CORSResponse: Bucket not found" if target.bucket is None else "CORSResponse: CORS is not enabled for this bucket."
    method = headers.get("access-control-request-method", "OPTIONS")
    return S3Error("AccessForbidden", message, Method=method, ResourceType="BUCKET")
