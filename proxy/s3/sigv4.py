"""AWS Signature Version 4: who claims to have sent a request, and whether the signature proves it.

The problem: a signature is an HMAC over a canonical text of the request, so client and server must derive the same text
from what each of them sees. S3 differs here from every other AWS service: the path is percent-encoded once and never
normalised (`//` and `../` are legal in keys), and the body's hash may be a literal, left out, or chained chunk by chunk.

The idea: `parse_authorization` reads the claim (from the header or from a presigned URL) without knowing any secret;
`check_time` and `verify` then judge it. The path and the query are decoded and encoded again with AWS's own rules, because
clients differ in what they leave unescaped on the wire. The signed header list is taken as sent, but it must cover the
host and every x-amz-* header present: an unsigned one could have been added on the way.

Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from proxy.s3.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_MODES = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})

MAX_SKEW_SECONDS = 15 * 60  # S3's tolerance between the client's clock and ours
MAX_EXPIRES_SECONDS = 7 * 24 * 3600  # a signing key is good for seven days, so no URL can live longer

_REQUIRED_PARAMETERS = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires")
_PRESIGNED_MARKS = frozenset({"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"})
_SIGV2_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature"})

_TIMESTAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCOPE_DATE = re.compile(r"[0-9]{8}")
_PRINTABLE = re.compile(r"[!-~]+")
_SIGNED_HEADERS = re.compile(r"[^\s;,]+(?:;[^\s;,]+)*")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9\-._~/]*")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9\-._~]*")

_BOTH_MECHANISMS = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter "
    "or the Authorization header should be specified"
)
_USE_SIGV4 = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
_NO_SIGV4A = "Multi-region signatures (AWS4-ECDSA-P256-SHA256) are not supported. Please use AWS4-HMAC-SHA256."
_BAD_PAYLOAD_HASH = (
    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about its sender; nothing in it is proven until `verify` returns.

    `payload_hash` is 64 hex digits, UNSIGNED-PAYLOAD or one of STREAMING_MODES. `signature` seeds the chunk signatures.
    """

    access_key: str
    date: str  # YYYYMMDD, equal to the timestamp's
    region: str
    service: str
    signed_headers: tuple[str, ...]  # as sent
    signature: str
    timestamp: datetime  # UTC
    payload_hash: str
    presigned: bool = False
    expires_seconds: int | None = None  # of a presigned URL
    security_token: str | None = None

    @property
    def scope(self) -> str:
        """Return the credential scope: date/region/service/aws4_request."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def parse_authorization(headers: Mapping[str, str], query: Sequence[tuple[str, str]]) -> Claim | None:
    """Read the claim out of a request's header or presigned query; None for an anonymous request.

    `headers` has lower-case names, repeated ones joined by commas; `query` is decoded.
    """
    authorization = headers.get("authorization")
    names = {name for name, _ in query}
    presigned = not names.isdisjoint(_PRESIGNED_MARKS)
    if authorization is not None and presigned:
        raise S3Error("InvalidArgument", _BOTH_MECHANISMS, ArgumentName="Authorization", ArgumentValue=authorization)
    if presigned:
        return _parse_presigned(headers, query)
    if authorization is not None:
        return _parse_header(authorization, headers)
    if names >= _SIGV2_PARAMETERS:
        raise S3Error("InvalidRequest", _USE_SIGV4)
    return None


def check_time(claim: Claim, now_ms: int) -> None:
    """Refuse a claim made too far from now, or a presigned URL before or after its life."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if claim.presigned:
        _check_life(claim, now)
    elif abs((now - claim.timestamp).total_seconds()) > MAX_SKEW_SECONDS:
        raise S3Error(
            "RequestTimeTooSkewed",
            RequestTime=format_timestamp(claim.timestamp),
            ServerTime=_iso(now),
            MaxAllowedSkewMilliseconds=MAX_SKEW_SECONDS * 1000,
        )


def check_region(claim: Claim, region: str) -> None:
    """Refuse a claim signed for another region, naming the right one: the SDKs sign again for the region in the answer."""
    if claim.region == region:
        return
    complaint = _bad_parameters if claim.presigned else _malformed
    raise complaint(f"the region '{claim.region}' is wrong; expecting '{region}'", Region=region)


def verify(claim: Claim, key: bytes, *, method: str, raw_path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> None:
    """Prove the claim with the signing key, or raise.

    `raw_path` is the path as sent, still percent-encoded and without the query; `query` and `headers` are as in
    `parse_authorization`. Raises AccessDenied if headers that matter are not signed, SignatureDoesNotMatch otherwise.
    """
    if claim.security_token is not None:
        # No temporary credentials are ever issued here, so any session token is someone else's.
        raise S3Error("InvalidToken")
    _check_coverage(claim, headers)
    canonical = canonical_request(claim, method=method, raw_path=raw_path, query=query, headers=headers)
    text = string_to_sign(claim, canonical)
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key,
            StringToSign=text,
            SignatureProvided=claim.signature,
            CanonicalRequest=canonical,
        )


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Derive the key that signs one day's requests to one region and service; worth caching."""
    key = hmac.digest(f"AWS4{secret}".encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def canonical_request(claim: Claim, *, method: str, raw_path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> str:
    """Return the text whose hash is signed."""
    lines = [method, _canonical_path(raw_path), _canonical_query(query)]
    # Trimall: leading and trailing white space goes, runs of it become one space.
    lines += [f"{name}:{' '.join(headers.get(name, '').split())}" for name in claim.signed_headers]
    lines += ["", ";".join(claim.signed_headers), claim.payload_hash]
    return "\n".join(lines)


def string_to_sign(claim: Claim, canonical: str) -> str:
    """Return the text the signature is the HMAC of."""
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{format_timestamp(claim.timestamp)}\n{claim.scope}\n{digest}"


def format_timestamp(moment: datetime) -> str:
    """Format a UTC time as signatures do: 20130524T000000Z."""
    # Not strftime: on Linux it drops the leading zeros of years before 1000, and it takes twice as long (1.6 against 0.8 µs).
    date = f"{moment.year:04}{moment.month:02}{moment.day:02}"
    return f"{date}T{moment.hour:02}{moment.minute:02}{moment.second:02}Z"


def _parse_header(authorization: str, headers: Mapping[str, str]) -> Claim:
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme != ALGORITHM:
        _refuse_scheme(scheme, authorization)
    fields = _authorization_fields(rest)
    signature = fields["Signature"]
    if not _HEX_SHA256.fullmatch(signature):
        raise _malformed("the Signature must be 64 hexadecimal digits.")
    access_key, date, region, service = _parse_credential(fields["Credential"], _malformed)
    timestamp = _header_timestamp(headers)
    _check_scope_date(date, timestamp, _malformed)
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=_parse_signed_headers(fields["SignedHeaders"], _malformed),
        signature=signature,
        timestamp=timestamp,
        payload_hash=_header_payload_hash(headers),
        security_token=headers.get("x-amz-security-token"),
    )


def _refuse_scheme(scheme: str, authorization: str) -> NoReturn:
    if scheme == "AWS":
        raise S3Error("InvalidRequest", _USE_SIGV4)
    if scheme == "AWS4-ECDSA-P256-SHA256":
        raise S3Error("NotImplemented", _NO_SIGV4A)
    raise S3Error("InvalidArgument", "Unsupported Authorization Type", ArgumentName="Authorization", ArgumentValue=authorization)


def _authorization_fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for field in text.split(","):
        name, _, value = field.strip().partition("=")
        if name in fields:
            raise _malformed(f"it repeats {name}.")
        fields[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if name not in fields:
            raise _malformed(f"it lacks {name}.")
    return fields


def _header_timestamp(headers: Mapping[str, str]) -> datetime:
    text = headers.get("x-amz-date") or headers.get("date")
    timestamp = None if text is None else _parse_timestamp(text) or _parse_http_date(text)
    if timestamp is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return timestamp


def _parse_http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _header_payload_hash(headers: Mapping[str, str]) -> str:
    value = headers.get("x-amz-content-sha256")
    if value is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    return _check_payload_hash(value)


def _parse_presigned(headers: Mapping[str, str], query: Sequence[tuple[str, str]]) -> Claim:
    parameters = _presigned_parameters(query)
    signature = parameters["X-Amz-Signature"]
    if not _HEX_SHA256.fullmatch(signature):
        # Not malformed to AWS: no right signature looks like this one.
        raise S3Error("SignatureDoesNotMatch", SignatureProvided=signature)
    access_key, date, region, service = _parse_credential(parameters["X-Amz-Credential"], _bad_parameters)
    timestamp = _parse_timestamp(parameters["X-Amz-Date"])
    if timestamp is None:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    _check_scope_date(date, timestamp, _bad_parameters)
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=_parse_signed_headers(parameters["X-Amz-SignedHeaders"], _bad_parameters),
        signature=signature,
        timestamp=timestamp,
        payload_hash=_presigned_payload_hash(parameters, headers),
        presigned=True,
        expires_seconds=_parse_expires(parameters["X-Amz-Expires"]),
        security_token=parameters.get("X-Amz-Security-Token") or headers.get("x-amz-security-token"),
    )


def _presigned_parameters(query: Sequence[tuple[str, str]]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in query:
        if name.startswith("X-Amz-"):
            if name in parameters:
                raise S3Error("AuthorizationQueryParametersError", f"{name} must be given once")
            parameters[name] = value
    if not all(name in parameters for name in _REQUIRED_PARAMETERS):
        message = (
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
        raise S3Error("AuthorizationQueryParametersError", message)
    if parameters["X-Amz-Algorithm"] == "AWS4-ECDSA-P256-SHA256":
        raise S3Error("NotImplemented", _NO_SIGV4A)
    if parameters["X-Amz-Algorithm"] != ALGORITHM:
        raise S3Error("AuthorizationQueryParametersError", f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    return parameters


def _presigned_payload_hash(parameters: Mapping[str, str], headers: Mapping[str, str]) -> str:
    value = parameters.get("X-Amz-Content-Sha256") or headers.get("x-amz-content-sha256")
    return UNSIGNED_PAYLOAD if value is None else _check_payload_hash(value)


def _parse_expires(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires should be a number")
    return int(text)


def _check_payload_hash(value: str) -> str:
    if value in STREAMING_MODES or value == UNSIGNED_PAYLOAD or _HEX_SHA256.fullmatch(value):
        return value
    if value.startswith("STREAMING-AWS4-ECDSA-P256-SHA256-"):
        raise S3Error("NotImplemented", _NO_SIGV4A)
    raise S3Error("InvalidArgument", _BAD_PAYLOAD_HASH, ArgumentName="x-amz-content-sha256", ArgumentValue=value)


class _Complaint:
    """Words a fault of the claim in the way its place (header or query) asks for."""

    def __init__(self, code: str, prefix: str) -> None:
        self._code = code
        self._prefix = prefix

    def __call__(self, fault: str, **details: str) -> S3Error:
        return S3Error(self._code, f"{self._prefix}; {fault}", headers=None, **details)


_malformed = _Complaint("AuthorizationHeaderMalformed", "The authorization header is malformed")
_bad_parameters = _Complaint("AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter")


def _parse_credential(text: str, complaint: _Complaint) -> tuple[str, str, str, str]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not all(map(_PRINTABLE.fullmatch, parts)):
        raise complaint('the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".')
    access_key, date, region, service, terminal = parts
    if not _SCOPE_DATE.fullmatch(date):
        raise complaint(f'incorrect date format "{date}". This date in the credential must be in the format "yyyyMMdd".')
    if service != "s3":
        raise complaint(f'incorrect service "{service}". This endpoint belongs to "s3".')
    if terminal != "aws4_request":
        raise complaint(f'incorrect terminal "{terminal}". This endpoint uses "aws4_request".')
    return access_key, date, region, service


def _parse_signed_headers(text: str, complaint: _Complaint) -> tuple[str, ...]:
    if not _SIGNED_HEADERS.fullmatch(text):
        raise complaint("the SignedHeaders are mal-formed; expecting lower-case names between semicolons.")
    return tuple(text.split(";"))


def _check_scope_date(date: str, timestamp: datetime, complaint: _Complaint) -> None:
    actual = format_timestamp(timestamp)[:8]
    if date != actual:
        raise complaint(f'Invalid credential date "{date}". This date is not the same as X-Amz-Date: "{actual}".')


def _parse_timestamp(text: str) -> datetime | None:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


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
        raise S3Error("AccessDenied", "Request is not yet valid", ServerTime=_iso(now))
    if age_seconds > seconds:
        expired = claim.timestamp + timedelta(seconds=seconds)
        raise S3Error("AccessDenied", "Request has expired", Expires=_iso(expired), ServerTime=_iso(now))


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_coverage(claim: Claim, headers: Mapping[str, str]) -> None:
    signed = claim.signed_headers
    loose = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if "x-amz-content-sha256" in loose and headers["x-amz-content-sha256"] == claim.payload_hash:
        loose.remove("x-amz-content-sha256")  # signed all the same: it is the last line of the canonical request
    if "host" not in signed:
        loose.append("host")
    if loose:
        message = "There were headers present in the request which were not signed"
        raise S3Error("AccessDenied", message, HeadersNotSigned=", ".join(sorted(loose)))


def _canonical_path(raw_path: str) -> str:
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path
    return quote_from_bytes(unquote_to_bytes(_wire_bytes(raw_path)), safe="/-_.~") or "/"


def _canonical_query(query: Sequence[tuple[str, str]]) -> str:
    if not query:
        return ""
    pairs = sorted((_encode(name), _encode(value)) for name, value in query if name != "X-Amz-Signature")
    return "&".join([f"{name}={value}" for name, value in pairs])


def _encode(text: str) -> str:
    return text if _PLAIN_WORD.fullmatch(text) else quote_from_bytes(_wire_bytes(text), safe="-_.~")


def _wire_bytes(text: str) -> bytes:
    # HTTP servers hand over bytes that are not UTF-8 as lone surrogates.
    return text.encode("utf-8", "surrogateescape")
