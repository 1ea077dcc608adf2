"""The table from our errors to S3's."""

from __future__ import annotations

import pytest

from proxy import errors
from proxy.errors import (
    BucketMissing,
    BudgetExhausted,
    CellForged,
    ChecksumMismatch,
    IntentRevoked,
    KeyUnavailable,
    ManifestUnavailable,
    NotEnoughShards,
    ObjectTooLarge,
    PartInvalid,
    PartsOutOfOrder,
    PartTooSmall,
    PreconditionUnmet,
    ProxyError,
    SizeMismatch,
    StoreUnavailable,
    UploadMissing,
    VersionMissing,
)
from proxy.lanes import LanesClosed, NotBegun
from proxy.s3.errors import S3Error
from proxy.server.errors import translate

TOO_FEW = NotEnoughShards(needed=4, found=3, segment="ab")


@pytest.mark.parametrize(
    ("error", "writing", "code", "status"),
    [
        (TOO_FEW, False, "ServiceUnavailable", 503),
        (TOO_FEW, True, "SlowDown", 503),
        (BudgetExhausted("full"), False, "SlowDown", 503),
        (NotBegun(), True, "SlowDown", 503),
        (LanesClosed(), True, "SlowDown", 503),
        (StoreUnavailable("s1", "timeout"), False, "ServiceUnavailable", 503),
        (ManifestUnavailable("locked"), True, "ServiceUnavailable", 503),
        (KeyUnavailable("no key"), False, "ServiceUnavailable", 503),
        (IntentRevoked("late"), True, "ServiceUnavailable", 503),
        (CellForged("cell 3"), False, "ServiceUnavailable", 503),
        (BucketMissing("b"), True, "NoSuchBucket", 404),
        (VersionMissing("v"), True, "NoSuchVersion", 404),
        (UploadMissing("u"), True, "NoSuchUpload", 404),
        (PartInvalid("p"), True, "InvalidPart", 400),
        (PartsOutOfOrder("2 after 3"), True, "InvalidPartOrder", 400),
        (ChecksumMismatch("of the object"), True, "BadDigest", 400),
        (PreconditionUnmet("If-Match"), True, "PreconditionFailed", 412),
        (PreconditionUnmet("If-Match", missing=True), True, "NoSuchKey", 404),
        (S3Error("InvalidRange"), False, "InvalidRange", 416),
    ],
)
def test_each_failure_has_its_answer(error: ProxyError, writing: bool, code: str, status: int) -> None:
    answer = translate(error, writing=writing)
    assert (answer.code, answer.status) == (code, status)


def test_no_failure_of_stores_or_keys_is_ever_not_found() -> None:
    for kind in (errors.StoreError, errors.IntegrityError, NotEnoughShards, BudgetExhausted, KeyUnavailable, ManifestUnavailable):
        for subclass in [kind, *kind.__subclasses__()]:
            error = subclass.__new__(subclass)
            assert translate(error).status == 503, subclass


def test_what_is_not_in_the_table_is_an_internal_error() -> None:
    assert translate(errors.ConfigError("late")).code == "InternalError"


def test_no_store_or_key_is_named_to_the_client() -> None:
    assert "s1" not in translate(StoreUnavailable("s1", "timeout")).message


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (PartInvalid("p", number=3, etag="e"), "InvalidPart", {"PartNumber": 3, "ETag": "e"}),
        (
            PartTooSmall(number=1, etag="e", size=5, minimum=9),
            "EntityTooSmall",
            {"ProposedSize": 5, "MinSizeAllowed": 9, "PartNumber": 1, "ETag": "e"},
        ),
        (ObjectTooLarge(size=9, maximum=5), "EntityTooLarge", {"ProposedSize": 9, "MaxSizeAllowed": 5}),
        (SizeMismatch(claimed=4, computed=5), "InvalidRequest", {}),
    ],
)
def test_a_refused_completion_is_told_with_its_facts(error: ProxyError, code: str, details: dict[str, object]) -> None:
    answer = translate(error, writing=True)
    assert (answer.code, answer.status, answer.details) == (code, 400, details)
