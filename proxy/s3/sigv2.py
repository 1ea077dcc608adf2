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

from proxy.s3.claim import UNSIGNED_PAYLOAD, Claim
from proxy.s3.errors import S3Error
from proxy.s3.sigv4 import MAX_EXPIRES_SECONDS, iso_seconds

_SIGNED_SUBRESOURCES = frozenset({
    "accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location", "logging", "metrics", "notification",
    "object-lock", "partNumber", "policy", "replication", "requestPayment", "response-cache-control", "response-content-disposition",
    "response-content-encoding", "response-content-language", "response-content-type", "response-expires", "restore", "select",
    "select-type", "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
    # Younger than version 2, which signs none of them: signed here all the same, so that nobody can make another operation of a URL.
    "abac", "annotation", "annotations", "attributes", "encryption", "intelligent-tiering", "legal-hold", "metadataAnnotationTable",
    "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable", "ownershipControls", "policyStatus",
    "publicAccessBlock", "renameObject", "retention", "session",
})  # fmt: skip
_SECONDS = re.compile(r"[0-9]{1,15}")  # some million years; Python's int() raises over 4,300 digits
_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature", "Expires"})
_SIGNED_HEADERS = frozenset({"content-md5", "content-type"})  # besides x-amz-*
_MARKS_OF_VERSION_4 = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-signature"})
_BUCKET = re.compile(r"(/[^/]+)/?")


def parse_presigned(query: Sequence[tuple[str, str]], now_ms: int) -> Claim | None:
    """Return the claim of a version 2 URL, or None. AccessDenied once it has expired, or if it says it lives for more than a week.

    InvalidArgument for a parameter that is signed and given twice: it would mean one thing to the signature and another to us.
    """
    given = dict(query)
    if not given.keys() >= _PARAMETERS:
        return None
    _check_given_once(query)
    if not _SECONDS.fullmatch(given["Expires"]):
        raise S3Error("AccessDenied", "Invalid date (should be seconds since epoch)")
    left, now = int(given["Expires"]) - now_ms // 1000, datetime.fromtimestamp(now_ms / 1000, UTC)
    if left < 0:
        expired = datetime.fromtimestamp(int(given["Expires"]), UTC)
        raise S3Error("AccessDenied", "Request has expired", Expires=iso_seconds(expired), ServerTime=iso_seconds(now))
    if left > MAX_EXPIRES_SECONDS:
        raise S3Error("AccessDenied", f"A presigned URL may live for at most {MAX_EXPIRES_SECONDS} seconds")
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
        security_token=next((value for name, value in query if name.lower() == "x-amz-security-token"), None),
    )


def verify_presigned(
    claim: Claim, secret: str, *, method: str, resource: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]
) -> None:
    """Raise SignatureDoesNotMatch unless `secret` signed this URL. `resource` is "/bucket/key" as sent, in either addressing style."""
    signed = {name.lower(): value for name, value in query if is_signed_header(name)} | dict(headers)
    if signed.get("x-amz-security-token") != claim.security_token:  # one in a header is nothing that a URL claims
        raise S3Error("InvalidToken")
    text = ""
    for written in _spellings(resource):
        text = "\n".join((
            method,
            signed.get("content-md5", "").strip(),
            signed.get("content-type", "").strip(),
            dict(query)["Expires"],
            *(f"{name}:{signed[name].strip()}" for name in sorted(signed) if name.startswith("x-amz-")),
            written + _subresources(query),
        ))  # fmt: skip
        expected = b64encode(hmac.digest(secret.encode(), text.encode(), "sha1"))
        if hmac.compare_digest(expected, claim.signature.encode()):
            return
    raise S3Error("SignatureDoesNotMatch", AWSAccessKeyId=claim.access_key, StringToSign=text, SignatureProvided=claim.signature)


def is_signed_header(name: str) -> bool:
    """Tell whether a parameter of a URL stands for a header, which its signature covers. boto3 and the JavaScript SDK move them there."""
    lower = name.lower()
    return lower.startswith("x-amz-") or lower in _SIGNED_HEADERS


def _check_given_once(query: Sequence[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for given, value in query:
        name = given.lower() if is_signed_header(given) else given
        if name in _MARKS_OF_VERSION_4:
            raise S3Error("InvalidArgument", "Only one auth mechanism allowed", ArgumentName=given, ArgumentValue=value)
        if name in seen and (name in _PARAMETERS or name in _SIGNED_SUBRESOURCES or is_signed_header(name)):
            raise S3Error("InvalidArgument", "This parameter must be given once", ArgumentName=given, ArgumentValue=value)
        seen.add(name)


def _spellings(resource: str) -> tuple[str, ...]:
    """Return how a resource may have been signed. Of a bucket boto3 signs "/bucket/" and sends "/bucket"; others sign what they send."""
    bucket = _BUCKET.fullmatch(resource)
    return (resource,) if bucket is None else (bucket[1], f"{bucket[1]}/")


def _subresources(query: Sequence[tuple[str, str]]) -> str:
    """Return the signed parameters, which are not encoded in the text that is signed."""
    found = sorted((name, value) for name, value in query if name in _SIGNED_SUBRESOURCES)
    return ("?" + "&".join(f"{name}={value}" if value else name for name, value in found)) if found else ""
