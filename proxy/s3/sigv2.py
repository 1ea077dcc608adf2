"""Presigned URLs of Signature Version 2.

boto3 and aws-cli still presign this way for us-east-1 unless told otherwise, so `aws s3 presign` needs it. Only URLs: a request signed in
a header must use version 4. Source: "Signing and authenticating REST requests (AWS signature version 2)", S3 User Guide.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

from proxy.s3.claim import UNSIGNED_PAYLOAD, Claim
from proxy.s3.errors import S3Error
from proxy.s3.sigv4 import MAX_EXPIRES_SECONDS

_SIGNED_SUBRESOURCES = frozenset({
    "accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location", "logging", "metrics", "notification",
    "object-lock", "partNumber", "policy", "replication", "requestPayment", "response-cache-control", "response-content-disposition",
    "response-content-encoding", "response-content-language", "response-content-type", "response-expires", "restore", "select",
    "select-type", "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
})  # fmt: skip
_SECONDS = re.compile(r"[0-9]{1,15}")  # some million years; Python's int() raises over 4,300 digits
_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature", "Expires"})


def parse_presigned(query: Sequence[tuple[str, str]], now_ms: int) -> Claim | None:
    """Return the claim of a version 2 URL, or None. AccessDenied once it has expired, or if it says it lives for more than a week."""
    given = dict(query)
    if not given.keys() >= _PARAMETERS:
        return None
    if not _SECONDS.fullmatch(given["Expires"]):
        raise S3Error("AccessDenied", "Invalid date (should be seconds since epoch)")
    left = int(given["Expires"]) - now_ms // 1000
    if left < 0:
        raise S3Error("AccessDenied", "Request has expired", Expires=given["Expires"])
    if left > MAX_EXPIRES_SECONDS:
        raise S3Error("AccessDenied", f"A presigned URL may live for at most {MAX_EXPIRES_SECONDS} seconds")
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return Claim(
        access_key=given["AWSAccessKeyId"],
        date=now.strftime("%Y%m%d"),
        region="",
        signed_headers=(),
        signature=given["Signature"],
        timestamp=now,
        payload_hash=UNSIGNED_PAYLOAD,
        presigned=True,
        expires_seconds=left,
    )


def verify_presigned(
    claim: Claim, secret: str, *, method: str, resource: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]
) -> None:
    """Raise SignatureDoesNotMatch unless `secret` signed this URL. `resource` is "/bucket/key" as sent, in either addressing style."""
    given = dict(query)
    text = "\n".join((
        method,
        headers.get("content-md5", given.get("content-md5", "")),
        headers.get("content-type", given.get("content-type", "")),
        given["Expires"],
        *_amz_lines(query, headers),
        resource + _subresources(query),
    ))  # fmt: skip
    expected = b64encode(hmac.digest(secret.encode(), text.encode(), "sha1"))
    if not hmac.compare_digest(expected, claim.signature.encode()):
        raise S3Error("SignatureDoesNotMatch", AWSAccessKeyId=claim.access_key, StringToSign=text, SignatureProvided=claim.signature)


def _amz_lines(query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> list[str]:
    amz = {name.lower(): value for name, value in query if name.lower().startswith("x-amz-")}
    amz.update({name: value for name, value in headers.items() if name.startswith("x-amz-")})
    return [f"{name}:{' '.join(amz[name].split())}" for name in sorted(amz)]


def _subresources(query: Sequence[tuple[str, str]]) -> str:
    found = sorted((name, unquote(value)) for name, value in query if name in _SIGNED_SUBRESOURCES)
    return ("?" + "&".join(f"{name}={value}" if value else name for name, value in found)) if found else ""
