"""AWS Signature Version 4: whether a signature proves what a request claims about its sender.

The problem: a signature is an HMAC over a canonical text of the request, so client and server must derive the same text
from what each of them sees. S3 differs here from every other AWS service: the path is percent-encoded once and never
normalised (`//` and `../` are legal in keys), and the body's hash may be a literal, left out, or chained chunk by chunk.

The idea: `check_time` and `verify` judge a `Claim`. The path and the query are decoded and encoded again with AWS's own rules,
because clients differ in what they leave unescaped on the wire. The signed header list is taken as sent, but it must cover the
host and every x-amz-* header present: an unsigned one could have been added on the way.

Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from proxy.s3.claim import ALGORITHM, Claim, bad_parameters, format_timestamp, malformed
from proxy.s3.errors import S3Error

MAX_SKEW_SECONDS = 15 * 60  # S3's tolerance between the client's clock and ours
MAX_EXPIRES_SECONDS = 7 * 24 * 3600  # a signing key is good for seven days, so no URL can live longer
_KEPT_SIGNERS = 256  # of a key each, of a day

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9\-._~/]*")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9\-._~]*")


def check_time(claim: Claim, now_ms: int) -> None:
    """Refuse a claim made too far from now, or a presigned URL before or after its life."""
    if claim.presigned:
        _check_life(claim, datetime.fromtimestamp(now_ms / 1000, UTC))
    elif abs(now_ms / 1000 - claim.timestamp.timestamp()) > MAX_SKEW_SECONDS:
        raise S3Error(
            "RequestTimeTooSkewed",
            RequestTime=format_timestamp(claim.timestamp),
            ServerTime=iso_seconds(datetime.fromtimestamp(now_ms / 1000, UTC)),
            MaxAllowedSkewMilliseconds=MAX_SKEW_SECONDS * 1000,
        )


def check_region(claim: Claim, region: str) -> None:
    """Refuse a claim signed for another region, naming the right one: the SDKs sign again for the region in the answer."""
    if claim.region == region:
        return
    complaint = bad_parameters if claim.presigned else malformed
    raise complaint(f"the region '{claim.region}' is wrong; expecting '{region}'", Region=region)


def verify(claim: Claim, key: bytes, *, method: str, raw_path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> None:
    """Prove the claim with the signing key, or raise.

    `raw_path` is the path as sent, still percent-encoded and without the query; `query` and `headers` are as in
    `parse_authorization`. Raises AccessDenied if headers that matter are not signed, SignatureDoesNotMatch otherwise.
    """
    _check_coverage(claim, headers)
    prove(claim, key, canonical_request(claim, method=method, raw_path=raw_path, query=query, headers=headers))


def prove(claim: Claim, key: bytes, canonical: str) -> None:
    """As `verify`, where the canonical request is known, and the headers that matter are known to be signed."""
    text = string_to_sign(claim, canonical)
    signer = _signer(key).copy()
    signer.update(text.encode())
    if not hmac.compare_digest(signer.finalize().hex(), claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key,
            StringToSign=text,
            SignatureProvided=claim.signature,
            CanonicalRequest=canonical,
        )


@lru_cache(maxsize=_KEPT_SIGNERS)
def _signer(key: bytes) -> HMAC:
    """Return what signs with a key, to be copied: to begin with the key anew takes longer than the text."""
    return HMAC(key, SHA256())


def signing_key(secret: str, date: str, region: str, service: str = "s3") -> bytes:
    """Derive the key that signs one day's requests to one region; worth caching."""
    key = hmac.digest(f"AWS4{secret}".encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def canonical_request(claim: Claim, *, method: str, raw_path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> str:
    """Return the text whose hash is signed."""
    lines = [method, canonical_path(raw_path), canonical_query(query)]
    lines += [f"{name}:{trimmed(headers.get(name, ''))}" for name in claim.signed_headers]
    lines += ["", ";".join(claim.signed_headers), claim.payload_hash]
    return "\n".join(lines)


def string_to_sign(claim: Claim, canonical: str) -> str:
    """Return the text the signature is the HMAC of."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{ALGORITHM}\n{format_timestamp(claim.timestamp)}\n{claim.scope}\n{digest}"


def _check_life(claim: Claim, now: datetime) -> None:
    seconds = claim.expires_seconds or 0
    if seconds < 1:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires must be greater than zero")
    if seconds > MAX_EXPIRES_SECONDS:
        message = (
            "X-Amz-Expires must be less than a week (in seconds); "
            f"that is, the given X-Amz-Expires must be less than {MAX_EXPIRES_SECONDS} seconds"
        )
        raise S3Error("AuthorizationQueryParametersError", message)
    age_seconds = (now - claim.timestamp).total_seconds()
    if age_seconds < -MAX_SKEW_SECONDS:
        raise S3Error("AccessDenied", "Request is not yet valid", ServerTime=iso_seconds(now))
    if age_seconds > seconds:
        expired = claim.timestamp + timedelta(seconds=seconds)
        told: dict[str, str | int] = {"X-Amz-Expires": seconds, "Expires": iso_seconds(expired), "ServerTime": iso_seconds(now)}
        raise S3Error("AccessDenied", "Request has expired", headers=None, **told)


def iso_seconds(moment: datetime) -> str:
    """Return a moment as S3's errors tell it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_coverage(claim: Claim, headers: Mapping[str, str]) -> None:
    signed = frozenset(claim.signed_headers)
    loose = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if "x-amz-content-sha256" in loose and headers["x-amz-content-sha256"] == claim.payload_hash:
        loose.remove("x-amz-content-sha256")  # signed all the same: it is the last line of the canonical request
    if "host" not in signed:
        loose.append("host")
    if loose:
        message = "There were headers present in the request which were not signed"
        raise S3Error("AccessDenied", message, HeadersNotSigned=", ".join(sorted(loose)))


def trimmed(value: str) -> str:
    """Return a header's value as it is signed. Trimall: leading and trailing white space goes, runs of it become one space."""
    return " ".join(value.split())


def canonical_path(raw_path: str) -> str:
    """Return a path as it is signed: decoded, and encoded again by AWS's rules."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path
    return quote_from_bytes(unquote_to_bytes(raw_path), safe="/-_.~") or "/"


def canonical_query(query: Sequence[tuple[str, str]]) -> str:
    """Return a query as it is signed, without its signature."""
    if not query:
        return ""
    pairs = sorted((_encode(name), _encode(value)) for name, value in query if name != "X-Amz-Signature")
    return "&".join([f"{name}={value}" for name, value in pairs])


def _encode(text: str) -> str:
    return text if _PLAIN_WORD.fullmatch(text) else quote_from_bytes(text.encode(), safe="-_.~")
