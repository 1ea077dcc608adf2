"""AWS Signature Version 4: reading the claim of a request, and proving it. Source: "Authenticating Requests", S3 API Reference."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote, unquote

from proxy.s3.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_MODES = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})
MAX_SKEW_SECONDS = 15 * 60
MAX_EXPIRY_SECONDS = 7 * 24 * 3600
_TIME = "%Y%m%dT%H%M%SZ"
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who a request says it is from, and the signature that should prove it."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: datetime
    payload_hash: str
    presigned: bool = False
    expires_seconds: int = 0
    security_token: str | None = None

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"

    @property
    def amz_date(self) -> str:
        return self.timestamp.strftime(_TIME)


def parse_authorization(headers: Mapping[str, str], query: Query) -> Claim | None:
    """Return the claim of the header or of the query, or None for an anonymous request."""
    header = headers.get("authorization")
    names = {name for name, _ in query}
    if header is None:
        if "X-Amz-Algorithm" in names:
            return _presigned(dict(query))
        if "AWSAccessKeyId" in names:
            raise S3Error("InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
        return None
    if "X-Amz-Algorithm" in names:
        raise S3Error("InvalidArgument", "Only one auth mechanism allowed", ArgumentName="Authorization", ArgumentValue=header[:64])
    return _from_header(header, headers)


def check_time(claim: Claim, now_ms: int) -> None:
    """Refuse a request signed too long ago, or too far ahead."""
    age = now_ms / 1000 - claim.timestamp.timestamp()
    now = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if claim.presigned:
        if age > claim.expires_seconds:
            raise S3Error("AccessDenied", "Request has expired", XAmzExpires=claim.expires_seconds, ServerTime=now)
        if age < -MAX_SKEW_SECONDS:
            raise S3Error("AccessDenied", "Request is not valid yet", ServerTime=now)
    elif abs(age) > MAX_SKEW_SECONDS:
        raise S3Error(
            "RequestTimeTooSkewed", RequestTime=claim.amz_date, ServerTime=now, MaxAllowedSkewMilliseconds=MAX_SKEW_SECONDS * 1000
        )


def check_region(claim: Claim, region: str) -> None:
    """Refuse a signature for another region, and say which one is right: clients try again with it."""
    if claim.region != region:
        code = "AuthorizationQueryParametersError" if claim.presigned else "AuthorizationHeaderMalformed"
        raise S3Error(
            code, f"The authorization header is malformed; the region '{claim.region}' is wrong; expecting '{region}'", Region=region
        )


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Derive the day's key."""
    key = f"AWS4{secret}".encode()
    for step in (date, region, service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def verify(claim: Claim, key: bytes, *, method: str, raw_path: str, query: Query, headers: Mapping[str, str]) -> None:
    """Raise `SignatureDoesNotMatch` unless `key` signed this request, and AccessDenied if it left something out that matters."""
    if claim.security_token is not None:
        raise S3Error("InvalidToken", "The provided token is malformed or otherwise invalid: access keys here are permanent.")
    _check_all_signed(claim, headers)
    canonical = canonical_request(claim, method=method, raw_path=raw_path, query=query, headers=headers)
    text = string_to_sign(claim, canonical)
    if not hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key,
            StringToSign=text,
            SignatureProvided=claim.signature,
            CanonicalRequest=canonical,
        )


def canonical_request(claim: Claim, *, method: str, raw_path: str, query: Query, headers: Mapping[str, str]) -> str:
    """Return the request in the one form that is signed."""
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query if name != "X-Amz-Signature")
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in claim.signed_headers]
    return "\n".join((
        method,
        quote(unquote(raw_path, errors="surrogateescape"), safe="/~", errors="surrogateescape"),
        "&".join(f"{name}={value}" for name, value in pairs),
        "".join(lines),
        ";".join(claim.signed_headers),
        claim.payload_hash,
    ))  # fmt: skip


def string_to_sign(claim: Claim, canonical: str) -> str:
    return f"{ALGORITHM}\n{claim.amz_date}\n{claim.scope}\n{sha256(canonical.encode()).hexdigest()}"


def _from_header(header: str, headers: Mapping[str, str]) -> Claim:
    algorithm, _, rest = header.partition(" ")
    _check_algorithm(algorithm)
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if not {"Credential", "SignedHeaders", "Signature"} <= fields.keys():
        raise S3Error("AuthorizationHeaderMalformed")
    access_key, date, region, service = _credential(fields["Credential"], "AuthorizationHeaderMalformed")
    payload_hash = headers.get("x-amz-content-sha256")
    if payload_hash is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    timestamp = _timestamp(headers.get("x-amz-date", ""))
    if timestamp.strftime("%Y%m%d") != date:
        raise S3Error("AuthorizationHeaderMalformed", "The authorization header is malformed; Invalid credential date.")
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(fields["SignedHeaders"].lower().split(";")),
        signature=fields["Signature"],
        timestamp=timestamp,
        payload_hash=_payload_hash(payload_hash),
        security_token=headers.get("x-amz-security-token"),
    )


def _presigned(query: Mapping[str, str]) -> Claim:
    _check_algorithm(query["X-Amz-Algorithm"])
    missing = {"X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"} - query.keys()
    if missing:
        raise S3Error(
            "AuthorizationQueryParametersError",
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, "
            "X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    access_key, date, region, service = _credential(query["X-Amz-Credential"], "AuthorizationQueryParametersError")
    timestamp = _timestamp(query["X-Amz-Date"])
    if timestamp.strftime("%Y%m%d") != date:
        raise S3Error("AuthorizationQueryParametersError", "Invalid credential date: it does not match X-Amz-Date.")
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(query["X-Amz-SignedHeaders"].lower().split(";")),
        signature=query["X-Amz-Signature"],
        timestamp=timestamp,
        payload_hash=query.get("X-Amz-Content-Sha256", UNSIGNED_PAYLOAD),
        presigned=True,
        expires_seconds=_expiry(query["X-Amz-Expires"]),
        security_token=query.get("X-Amz-Security-Token"),
    )


def _payload_hash(text: str) -> str:
    known = text == UNSIGNED_PAYLOAD or text in STREAMING_MODES or (len(text) == 64 and not text.strip("0123456789abcdef"))
    if text.startswith("STREAMING-AWS4-ECDSA"):
        raise S3Error("NotImplemented", "SigV4A is not served; use AWS4-HMAC-SHA256.")
    if not known:
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING mode, or a valid sha256 value.",
            ArgumentName="x-amz-content-sha256",
            ArgumentValue=text,
        )
    return text


def _check_algorithm(algorithm: str) -> None:
    if algorithm == "AWS4-ECDSA-P256-SHA256":
        raise S3Error("NotImplemented", "SigV4A is not served; use AWS4-HMAC-SHA256.")
    if algorithm != ALGORITHM:
        raise S3Error("InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")


def _credential(text: str, error: str) -> tuple[str, str, str, str]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise S3Error(error, 'The Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".')
    if parts[3] != "s3":
        raise S3Error(error, f'Incorrect service "{parts[3]}". This endpoint belongs to "s3".')
    return parts[0], parts[1], parts[2], parts[3]


def _timestamp(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None


def _expiry(text: str) -> int:
    if not text.isdigit():
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires should be a number")
    if int(text) > MAX_EXPIRY_SECONDS:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week (in seconds) that is, 604800")
    return int(text)


def _check_all_signed(claim: Claim, headers: Mapping[str, str]) -> None:
    unsigned = {name for name in headers if name.startswith("x-amz-")} - set(claim.signed_headers)
    if claim.payload_hash == headers.get("x-amz-content-sha256"):
        unsigned.discard("x-amz-content-sha256")  # it is in the signature by its place in the canonical request
    if "host" not in claim.signed_headers:
        unsigned.add("host")
    if unsigned:
        raise S3Error(
            "AccessDenied", "There were headers present in the request which were not signed", HeadersNotSigned=", ".join(sorted(unsigned))
        )
