"""Claims: who says that they sent a request, in its Authorization header or presigned URL (AWS Signature Version 4).

`parse_authorization` reads a claim without knowing any secret; nothing in it is proven. `sigv4` and `sigv2` judge it, and `evidence` has
the claims of all places in one form.

Source: docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html and sigv4-query-string-auth.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NoReturn

import msgspec

from proxy.s3.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_MODES = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})

# What many requests have in common is read once: a client's credential of a day, the headers it signs, and the second it signs in. Faults
# are raised, and so not kept.
_KEPT_TEXTS = 256  # of up to 8 KiB, as headers have
_KEPT_SECONDS = 1024

_REQUIRED_PARAMETERS = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires")
_PRESIGNED_MARKS = frozenset({"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"})
_SIGV2_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature"})

_TIMESTAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCOPE_DATE = re.compile(r"[0-9]{8}")
_PRINTABLE = re.compile(r"[!-~]+")
_SIGNED_HEADERS = re.compile(r"[^\s;,]+(?:;[^\s;,]+)*")

SIGNATURE = "Signature="

ONE_MECHANISM = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter "
    "or the Authorization header should be specified"
)
_USE_SIGV4 = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
_NO_SIGV4A = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
_BAD_PAYLOAD_HASH = (
    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about its sender; nothing in it is proven until `sigv4.verify` returns.

    `payload_hash` is 64 hex digits, UNSIGNED-PAYLOAD or one of STREAMING_MODES. `signature` seeds the chunk signatures.
    """

    access_key: str
    date: str  # YYYYMMDD, equal to the timestamp's
    region: str
    signed_headers: tuple[str, ...]  # as sent
    signature: str
    timestamp: datetime  # UTC
    payload_hash: str
    presigned: bool = False
    expires_seconds: int | None = None  # of a presigned URL
    security_token: str | None = None
    service: str = "s3"

    @property
    def scope(self) -> str:
        """Return the credential scope: what the signing key is good for."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


# Who claims to be nobody proves nothing, of the body neither.
ANONYMOUS_CLAIM = Claim(
    access_key="",
    date="19700101",
    region="",
    signed_headers=(),
    signature="",
    timestamp=datetime.fromtimestamp(0, UTC),
    payload_hash=UNSIGNED_PAYLOAD,
)


def parse_authorization(headers: Mapping[str, str], query: Sequence[tuple[str, str]]) -> Claim | None:
    """Read the claim out of a request's header or presigned query; None for an anonymous request.

    `headers` has lower-case names, repeated ones joined by commas; `query` is decoded.
    """
    authorization = headers.get("authorization")
    if authorization is not None and not query:
        return parse_header(authorization, headers)
    names = {name for name, _ in query}
    presigned = not names.isdisjoint(_PRESIGNED_MARKS)
    if authorization is not None and (presigned or names >= _SIGV2_PARAMETERS):
        raise S3Error("InvalidArgument", ONE_MECHANISM, ArgumentName="Authorization", ArgumentValue=authorization)
    if presigned:
        return _parse_presigned(headers, query)
    if authorization is not None:
        return parse_header(authorization, headers)
    if names >= _SIGV2_PARAMETERS:
        raise S3Error("InvalidRequest", _USE_SIGV4)
    return None


def parse_service_authorization(
    headers: Mapping[str, str], query: Sequence[tuple[str, str]], *, service: str, payload_hash: str
) -> Claim | None:
    """Read the claim of a request to another service out of its header or its query: such a one signs the hash of the body it has."""
    authorization = headers.get("authorization")
    presigned = any(name in _PRESIGNED_MARKS for name, _ in query)
    if authorization is not None and presigned:
        raise S3Error("InvalidArgument", ONE_MECHANISM, ArgumentName="Authorization", ArgumentValue=authorization)
    if presigned:
        return _parse_presigned(headers, query, service, payload_hash)
    return None if authorization is None else parse_header(authorization, headers, service, payload_hash)


@lru_cache(maxsize=_KEPT_SECONDS)
def format_timestamp(moment: datetime) -> str:
    """Format a UTC time as signatures do: 20130524T000000Z."""
    # Not strftime: on Linux it drops the leading zeros of years before 1000, and it takes twice as long (1.6 against 0.8 µs).
    date = f"{moment.year:04}{moment.month:02}{moment.day:02}"
    return f"{date}T{moment.hour:02}{moment.minute:02}{moment.second:02}Z"


def parse_header(authorization: str, headers: Mapping[str, str], service: str = "s3", payload_hash: str | None = None) -> Claim:
    """Read the claim of an Authorization header."""
    authorization = authorization.strip()
    scheme = authorization.partition(" ")[0]
    if scheme != ALGORITHM:
        _refuse_scheme(scheme, authorization)
    terms, _, signature = authorization.rpartition(SIGNATURE)
    if not HEX_SHA256.fullmatch(signature):
        terms, signature = _with_signature_last(authorization)
    access_key, date, region, signed_headers = _parse_terms(terms, service)
    timestamp = header_timestamp(headers)
    check_scope_date(date, timestamp, malformed)
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        signed_headers=signed_headers,
        signature=signature,
        timestamp=timestamp,
        payload_hash=header_payload_hash(headers) if payload_hash is None else payload_hash,
        security_token=headers.get("x-amz-security-token"),
        service=service,
    )


@lru_cache(maxsize=_KEPT_TEXTS)
def _parse_terms(terms: str, service: str) -> tuple[str, str, str, tuple[str, ...]]:
    """Return access key, date, region and signed headers: what an Authorization header says before its signature, which ends it."""
    fields = _authorization_fields(f"{terms.partition(' ')[2]}{SIGNATURE}")
    if fields["Signature"]:  # then it was the end of another field's name that the caller found
        raise malformed("it goes on after the Signature with a field that nobody knows.")
    access_key, date, region = parse_credential(fields["Credential"], malformed, service)
    return access_key, date, region, _parse_signed_headers(fields["SignedHeaders"], malformed)


def _with_signature_last(authorization: str) -> tuple[str, str]:
    """Return an Authorization header in two: the signature, and what is said before it, wherever the signature stood."""
    scheme, _, rest = authorization.partition(" ")
    fields = _authorization_fields(rest)
    signature = fields.pop("Signature")
    if not HEX_SHA256.fullmatch(signature):
        raise malformed("the Signature must be 64 hexadecimal digits.")
    return f"{scheme} {''.join(f'{name}={value},' for name, value in fields.items())}", signature


def _refuse_scheme(scheme: str, authorization: str) -> NoReturn:
    if scheme == "AWS":
        raise S3Error("InvalidRequest", _USE_SIGV4)
    if scheme == "AWS4-ECDSA-P256-SHA256":
        raise S3Error("InvalidRequest", _NO_SIGV4A)
    raise S3Error("InvalidArgument", "Unsupported Authorization Type", ArgumentName="Authorization", ArgumentValue=authorization)


def _authorization_fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for field in text.split(","):
        name, _, value = field.strip().partition("=")
        if name in fields:
            raise malformed(f"it repeats {name}.")
        fields[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if name not in fields:
            raise malformed(f"it lacks {name}.")
    return fields


def header_timestamp(headers: Mapping[str, str]) -> datetime:
    text = headers.get("x-amz-date") or headers.get("date")
    timestamp = None if text is None else parse_timestamp(text) or _parse_http_date(text)
    if timestamp is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return timestamp


def _parse_http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def header_payload_hash(headers: Mapping[str, str]) -> str:
    value = headers.get("x-amz-content-sha256")
    if value is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    return value if value == UNSIGNED_PAYLOAD else _check_payload_hash(value)


def _parse_presigned(
    headers: Mapping[str, str], query: Sequence[tuple[str, str]], service: str = "s3", payload_hash: str | None = None
) -> Claim:
    parameters = _presigned_parameters(query)
    signature = parameters["X-Amz-Signature"]
    if not HEX_SHA256.fullmatch(signature):
        # Not malformed to AWS: no right signature looks like this one.
        raise S3Error("SignatureDoesNotMatch", SignatureProvided=signature)
    access_key, date, region = parse_credential(parameters["X-Amz-Credential"], bad_parameters, service)
    timestamp = parse_timestamp(parameters["X-Amz-Date"])
    if timestamp is None:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    check_scope_date(date, timestamp, bad_parameters)
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        signed_headers=_parse_signed_headers(parameters["X-Amz-SignedHeaders"], bad_parameters),
        signature=signature,
        timestamp=timestamp,
        payload_hash=_presigned_payload_hash(parameters, headers) if payload_hash is None else payload_hash,
        presigned=True,
        expires_seconds=_parse_expires(parameters["X-Amz-Expires"]),
        security_token=parameters.get("X-Amz-Security-Token") or headers.get("x-amz-security-token"),
        service=service,
    )


def _presigned_parameters(query: Sequence[tuple[str, str]]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    carried: set[str] = set()
    for name, value in query:
        if (lower := name.lower()).startswith("x-amz-"):
            if lower in carried:
                raise S3Error("AuthorizationQueryParametersError", f"{name} must be given once")
            carried.add(lower)
            parameters[name] = value
    if not all(name in parameters for name in _REQUIRED_PARAMETERS):
        message = (
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
        raise S3Error("AuthorizationQueryParametersError", message)
    if parameters["X-Amz-Algorithm"] == "AWS4-ECDSA-P256-SHA256":
        raise S3Error("InvalidRequest", _NO_SIGV4A)
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
    if value in STREAMING_MODES or value == UNSIGNED_PAYLOAD or HEX_SHA256.fullmatch(value):
        return value
    if value.startswith("STREAMING-AWS4-ECDSA-P256-SHA256-"):
        raise S3Error("InvalidRequest", _NO_SIGV4A)
    raise S3Error("InvalidArgument", _BAD_PAYLOAD_HASH, ArgumentName="x-amz-content-sha256", ArgumentValue=value)


class Complaint:
    """Words a fault of the claim in the way its place (header or query) asks for."""

    def __init__(self, code: str, prefix: str) -> None:
        self._code = code
        self._prefix = prefix

    def __call__(self, fault: str, **details: str) -> S3Error:
        return S3Error(self._code, f"{self._prefix}; {fault}", headers=None, **details)


malformed = Complaint("AuthorizationHeaderMalformed", "The authorization header is malformed")
bad_parameters = Complaint("AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter")


@lru_cache(maxsize=_KEPT_TEXTS)
def parse_credential(text: str, complaint: Complaint, expected_service: str = "s3") -> tuple[str, str, str]:
    """Return access key, date and region of a credential."""
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not all(map(_PRINTABLE.fullmatch, parts)):
        raise complaint('the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".')
    access_key, date, region, service, terminal = parts
    if not _SCOPE_DATE.fullmatch(date):
        raise complaint(f'incorrect date format "{date}". This date in the credential must be in the format "yyyyMMdd".')
    if service != expected_service:
        raise complaint(f'incorrect service "{service}". This endpoint belongs to "{expected_service}".')
    if terminal != "aws4_request":
        raise complaint(f'incorrect terminal "{terminal}". This endpoint uses "aws4_request".')
    return access_key, date, region


@lru_cache(maxsize=_KEPT_TEXTS)
def _parse_signed_headers(text: str, complaint: Complaint) -> tuple[str, ...]:
    if not _SIGNED_HEADERS.fullmatch(text):
        raise complaint("the SignedHeaders are mal-formed; expecting lower-case names between semicolons.")
    names = tuple(text.split(";"))
    if len(set(names)) != len(names):  # one long header, signed a thousand times, would be copied as often
        raise complaint("the SignedHeaders repeat a name.")
    return names


def check_scope_date(date: str, timestamp: datetime, complaint: Complaint) -> None:
    """Refuse a credential of another day than the request's."""
    actual = format_timestamp(timestamp)[:8]
    if date != actual:
        raise complaint(f'Invalid credential date "{date}". This date is not the same as X-Amz-Date: "{actual}".')


@lru_cache(maxsize=_KEPT_SECONDS)
def parse_timestamp(text: str) -> datetime | None:
    """Return the time that `format_timestamp` wrote; None for other text."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
