"""The one table from our errors to S3's."""

from __future__ import annotations

from collections.abc import Callable

from proxy.errors import (
    BucketExists,
    BucketMissing,
    BucketNotEmpty,
    BudgetExhausted,
    ExtentMissing,
    IntegrityError,
    IntentRevoked,
    KeyUnavailable,
    ManifestConflict,
    ManifestUnavailable,
    NotEnoughShards,
    PartInvalid,
    PolicyMissing,
    PreconditionUnmet,
    ProxyError,
    StoreError,
    UploadMissing,
    VersionMissing,
)
from proxy.s3.errors import S3Error

Rule = Callable[[ProxyError, bool], S3Error]


def translate(error: ProxyError, *, writing: bool = False) -> S3Error:
    """Return what the client is told. Too few shards is never "not found": only the manifest says so."""
    if isinstance(error, S3Error):
        return error
    for kind in type(error).__mro__:
        if (rule := _RULES.get(kind)) is not None:
            return rule(error, writing)
    return S3Error("InternalError")


def _plain(code: str) -> Rule:
    return lambda _error, _writing: S3Error(code)


def _too_few(_error: ProxyError, writing: bool) -> S3Error:  # noqa: FBT001 - the table's second column
    return S3Error("SlowDown" if writing else "ServiceUnavailable")


def _precondition(error: ProxyError, _writing: bool) -> S3Error:  # noqa: FBT001 - the table's second column
    missing = isinstance(error, PreconditionUnmet) and error.missing
    return S3Error("NoSuchKey" if missing else "PreconditionFailed")


_RULES: dict[type, Rule] = {
    NotEnoughShards: _too_few,
    BudgetExhausted: _plain("SlowDown"),
    StoreError: _plain("ServiceUnavailable"),
    ManifestUnavailable: _plain("ServiceUnavailable"),
    KeyUnavailable: _plain("ServiceUnavailable"),
    PolicyMissing: _plain("ServiceUnavailable"),
    IntentRevoked: _plain("ServiceUnavailable"),
    # The bytes in the stores are wrong now; repair or a returning store may put that right.
    IntegrityError: _plain("ServiceUnavailable"),
    BucketMissing: _plain("NoSuchBucket"),
    BucketExists: _plain("BucketAlreadyExists"),
    BucketNotEmpty: _plain("BucketNotEmpty"),
    VersionMissing: _plain("NoSuchVersion"),
    ExtentMissing: _plain("SlowDown"),  # the key was overwritten each time we looked, as often as we look
    UploadMissing: _plain("NoSuchUpload"),
    PartInvalid: _plain("InvalidPart"),
    PreconditionUnmet: _precondition,
    # What a client cannot cause: another conflict of the manifest is a defect here, or a race lost. Trying again is right.
    ManifestConflict: _plain("InternalError"),
}
