"""The one table from our errors to S3's."""

from __future__ import annotations

from collections.abc import Callable

from proxy.errors import (
    BucketExists,
    BucketLocked,
    BucketMissing,
    BucketNotEmpty,
    BudgetExhausted,
    ChecksumMismatch,
    CustomerKeyRefused,
    ExtentMissing,
    IntegrityError,
    IntentRevoked,
    JournalBusy,
    KeyUnavailable,
    KmsKeyDisabled,
    KmsKeyMissing,
    ManifestConflict,
    ManifestUnavailable,
    NotEnoughShards,
    NoThread,
    ObjectTooLarge,
    PartInvalid,
    PartsOutOfOrder,
    PartTooSmall,
    PartUnchecked,
    PolicyMissing,
    PreconditionUnmet,
    ProxyError,
    SettingChanged,
    SizeMismatch,
    StoreError,
    UploadMissing,
    VersionLocked,
    VersionMissing,
)
from proxy.s3.errors import S3Error

Rule = Callable[[ProxyError], S3Error]


def translate(error: ProxyError, *, writing: bool = False) -> S3Error:
    """Return what the client is told. Too few shards is never "not found": only the manifest says so."""
    if isinstance(error, S3Error):
        return error
    if writing and isinstance(error, NotEnoughShards):
        return S3Error("SlowDown")
    for kind in type(error).__mro__:
        if (rule := _RULES.get(kind)) is not None:
            return rule(error)
    return S3Error("InternalError")


def _plain(code: str) -> Rule:
    return lambda _error: S3Error(code)


def _precondition(error: ProxyError) -> S3Error:
    missing = isinstance(error, PreconditionUnmet) and error.missing
    return S3Error("NoSuchKey" if missing else "PreconditionFailed")


def _part_invalid(error: ProxyError) -> S3Error:
    if not isinstance(error, PartInvalid) or error.number is None:
        return S3Error("InvalidPart")
    return S3Error("InvalidPart", PartNumber=error.number, ETag=error.etag)


def _too_small(error: ProxyError) -> S3Error:
    assert isinstance(error, PartTooSmall)
    return S3Error("EntityTooSmall", ProposedSize=error.size, MinSizeAllowed=error.minimum, PartNumber=error.number, ETag=error.etag)


def _unchecked(error: ProxyError) -> S3Error:
    assert isinstance(error, PartUnchecked)
    return S3Error("BadDigest", f"The {error.algorithm.lower()} you specified for part {error.number} did not match what we received.")


def _too_large(error: ProxyError) -> S3Error:
    assert isinstance(error, ObjectTooLarge)
    return S3Error("EntityTooLarge", ProposedSize=error.size, MaxSizeAllowed=error.maximum)


def _other_size(error: ProxyError) -> S3Error:
    assert isinstance(error, SizeMismatch)
    message = f"The provided 'x-amz-mp-object-size' header value {error.claimed} does not match what was computed: {error.computed}"
    return S3Error("InvalidRequest", message)


_RULES: dict[type, Rule] = {
    NotEnoughShards: _plain("ServiceUnavailable"),
    BudgetExhausted: _plain("SlowDown"),
    NoThread: _plain("SlowDown"),
    StoreError: _plain("ServiceUnavailable"),
    JournalBusy: lambda _error: S3Error(
        "SlowDown", "Please reduce your request rate. Much is to be stored before this can be acknowledged."
    ),
    ManifestUnavailable: _plain("ServiceUnavailable"),
    KeyUnavailable: _plain("ServiceUnavailable"),
    KmsKeyMissing: lambda error: S3Error("KMS.NotFoundException", str(error)),
    KmsKeyDisabled: lambda error: S3Error("KMS.DisabledException", str(error)),
    CustomerKeyRefused: lambda error: S3Error("InvalidRequest", str(error)),
    PolicyMissing: _plain("ServiceUnavailable"),
    IntentRevoked: _plain("ServiceUnavailable"),
    # The bytes in the stores are wrong now; repair or a returning store may put that right.
    IntegrityError: _plain("ServiceUnavailable"),
    BucketMissing: _plain("NoSuchBucket"),
    BucketExists: _plain("BucketAlreadyExists"),
    BucketNotEmpty: _plain("BucketNotEmpty"),
    BucketLocked: lambda error: S3Error("InvalidBucketState", str(error)),
    VersionLocked: lambda _error: S3Error("AccessDenied", "Access Denied because object protected by object lock."),
    VersionMissing: _plain("NoSuchVersion"),
    ExtentMissing: _plain("SlowDown"),  # the key was overwritten each time we looked, as often as we look
    UploadMissing: _plain("NoSuchUpload"),
    PartInvalid: _part_invalid,
    PartsOutOfOrder: _plain("InvalidPartOrder"),
    PartTooSmall: _too_small,
    PartUnchecked: _unchecked,
    ObjectTooLarge: _too_large,
    SizeMismatch: _other_size,
    ChecksumMismatch: lambda _error: S3Error("BadDigest", "The checksum you specified did not match the calculated checksum."),
    PreconditionUnmet: _precondition,
    SettingChanged: _plain("OperationAborted"),
    # What a client cannot cause: another conflict of the manifest is a defect here, or a race lost. Trying again is right.
    ManifestConflict: _plain("InternalError"),
}
