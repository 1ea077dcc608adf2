"""Errors of the Security Token Service.

Source: docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html, and the errors of each of its actions
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.errors import ProxyError
from proxy.s3.errors import S3Error

_STATUSES: Mapping[str, int] = {
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "ExpiredTokenException": 400,
    "IDPCommunicationError": 400,
    "IDPRejectedClaim": 403,
    "IncompleteSignature": 400,
    "InternalFailure": 500,
    "InvalidAction": 400,
    "InvalidClientTokenId": 403,
    "InvalidIdentityToken": 400,
    "MalformedPolicyDocument": 400,
    "MissingAction": 400,
    "MissingAuthenticationToken": 403,
    "PackedPolicyTooLarge": 400,
    "RequestExpired": 400,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "ValidationError": 400,
}
_INVALID = "The security token included in the request is invalid."
# What signatures are refused with here, in the words of the other service.
_OF_S3: Mapping[str, tuple[str, str | None]] = {
    "AccessDenied": ("AccessDenied", None),
    "AuthorizationHeaderMalformed": ("IncompleteSignature", None),
    "ExpiredToken": ("ExpiredToken", "The security token included in the request is expired"),
    "InvalidAccessKeyId": ("InvalidClientTokenId", _INVALID),
    "InvalidToken": ("InvalidClientTokenId", _INVALID),
    "MalformedPolicy": ("MalformedPolicyDocument", None),
    "RequestTimeTooSkewed": ("RequestExpired", None),
    "ServiceUnavailable": ("ServiceUnavailable", None),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", None),
    "SlowDown": ("ServiceUnavailable", None),
}


class StsError(ProxyError):
    """An answer in the service's own words. A code that is not in the table is a defect here, and raises KeyError."""

    def __init__(self, code: str, message: str) -> None:
        self.status = _STATUSES[code]
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


def as_sts(error: S3Error) -> StsError:
    """Return an error of ours as this service tells it."""
    if error.status >= 500 and error.code not in _OF_S3:
        return StsError("InternalFailure", "The request processing has failed because of an unknown error, exception or failure.")
    code, message = _OF_S3.get(error.code, ("ValidationError", None))
    return StsError(code, message or error.message)
