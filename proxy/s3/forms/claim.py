"""Claims of browser forms: who says that they signed the policy among a form's fields, by Signature Version 2 or 4.

Source: docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html; S3 User Guide, "Browser-based uploads using POST
(AWS signature version 2)".
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping, Set
from datetime import UTC, datetime

from proxy.s3.claim import ALGORITHM, UNSIGNED_PAYLOAD, Claim, Complaint, check_scope_date, parse_credential, parse_timestamp
from proxy.s3.errors import S3Error

_bad_field = Complaint("InvalidArgument", "The form's credential is malformed")


def claim_of_form(fields: Mapping[str, str], now_ms: int) -> Claim | None:
    """Read the claim of a form's fields, by lower-case name; None of an anonymous one. A form that claims something has a policy."""
    if "x-amz-credential" in fields or "x-amz-signature" in fields:
        return _version_4(fields)
    if "awsaccesskeyid" in fields or "signature" in fields:
        return _version_2(fields, now_ms)
    return None


def check_region(claim: Claim, region: str, other_regions: Set[str], *, credential: str) -> None:
    """Refuse a policy that was signed for a region that is none of ours."""
    if claim.region != region and claim.region not in other_regions:
        message = f"the region '{claim.region}' is wrong; expecting '{region}'"
        raise S3Error("InvalidArgument", message, ArgumentName="X-Amz-Credential", ArgumentValue=credential, Region=region)


def verify_version_2(claim: Claim, secret: str, policy: str) -> None:
    """Raise SignatureDoesNotMatch unless `secret` signed this policy, which is base64 as it came."""
    expected = b64encode(hmac.digest(secret.encode(), policy.encode(), "sha1")).decode()
    _compare(claim, expected, policy)


def verify_version_4(claim: Claim, key: bytes, policy: str) -> None:
    """Raise SignatureDoesNotMatch unless the signing key signed this policy, which is base64 as it came."""
    _compare(claim, hmac.digest(key, policy.encode(), "sha256").hex(), policy)


def missing_field(name: str) -> S3Error:
    """Return the error for a field that is not there, or stands behind the file. Its name is spelled as S3 spells it."""
    message = f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
    return S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue="")


def _version_4(fields: Mapping[str, str]) -> Claim:
    _check_fields(fields, "policy", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature")
    if fields["x-amz-algorithm"] != ALGORITHM:
        raise S3Error("InvalidArgument", f'x-amz-algorithm only supports "{ALGORITHM}"', ArgumentName="x-amz-algorithm")
    access_key, date, region = parse_credential(fields["x-amz-credential"], _bad_field)
    timestamp = parse_timestamp(fields["x-amz-date"])
    if timestamp is None:
        raise S3Error(
            "InvalidArgument",
            "X-Amz-Date must be formated via ISO8601 Long format",
            ArgumentName="X-Amz-Date",
            ArgumentValue=fields["x-amz-date"],
        )
    check_scope_date(date, timestamp, _bad_field)
    return _claim(fields, access_key, date, region, fields["x-amz-signature"], timestamp)


def _version_2(fields: Mapping[str, str], now_ms: int) -> Claim:
    _check_fields(fields, "policy", "AWSAccessKeyId", "Signature")
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return _claim(fields, fields["awsaccesskeyid"], now.strftime("%Y%m%d"), "", fields["signature"], now)


def _claim(fields: Mapping[str, str], access_key: str, date: str, region: str, signature: str, timestamp: datetime) -> Claim:
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        signed_headers=(),
        signature=signature,
        timestamp=timestamp,
        payload_hash=UNSIGNED_PAYLOAD,
        security_token=fields.get("x-amz-security-token"),
    )


def _check_fields(fields: Mapping[str, str], *names: str) -> None:
    for name in names:
        if name.lower() not in fields:
            raise missing_field(name)


def _compare(claim: Claim, expected: str, policy: str) -> None:
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key,
            StringToSign=policy,
            SignatureProvided=claim.signature,
            StringToSignBytes=policy.encode().hex(" "),
        )
