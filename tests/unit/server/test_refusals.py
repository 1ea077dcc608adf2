"""Headers that ask for what is not served."""

from __future__ import annotations

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.model import load_model
from proxy.server.refusals import refuse_unserved

OPERATIONS = load_model().operations


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-object-lock-event-hold", "ON", "InvalidRequest"),
        ("x-amz-write-offset-bytes", "5", "NotImplemented"),
        ("x-amz-if-match-size", "5", "NotImplemented"),
        ("x-amz-if-match-initiated-time", "Thu, 29 Feb 2024 12:00:00 GMT", "NotImplemented"),
    ],
)
def test_what_is_not_served_is_refused(name: str, value: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        refuse_unserved(OPERATIONS["PutObject"], {"host": "h", name: value})
    assert caught.value.code == code


def test_what_is_true_anyway_passes() -> None:
    refuse_unserved(
        OPERATIONS["PutObject"],
        {
            "x-amz-request-payer": "requester",
            "x-amz-meta-acl": "public-read",
        },
    )


@pytest.mark.parametrize(
    ("operation", "served"),
    [
        ("PutObject", {"If-Match", "If-None-Match"}),
        ("CopyObject", {"If-Match", "If-None-Match"}),
        ("CompleteMultipartUpload", {"If-Match", "If-None-Match"}),
        ("DeleteObject", {"If-Match", "X-Amz-If-Match-Size", "X-Amz-If-Match-Last-Modified-Time"}),
        ("AbortMultipartUpload", {"X-Amz-If-Match-Initiated-Time"}),
        ("DeleteObjects", set()),
        ("UploadPart", set()),
        ("CreateMultipartUpload", set()),
        ("PutObjectTagging", set()),
        ("DeleteBucket", set()),
    ],
)
def test_a_condition_s3_does_not_know_of_a_write_is_refused(operation: str, served: set[str]) -> None:
    for name in (
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "X-Amz-If-Match-Size",
        "X-Amz-If-Match-Last-Modified-Time",
        "X-Amz-If-Match-Initiated-Time",
    ):
        try:
            refuse_unserved(OPERATIONS[operation], {name.lower(): "x"})
        except S3Error as error:
            assert (error.code, error.status, error.details["Header"]) == ("NotImplemented", 501, name)
            assert name not in served
        else:
            assert name in served


def test_a_read_may_pass_over_a_condition() -> None:
    refuse_unserved(OPERATIONS["ListObjectsV2"], {"if-none-match": "x"})
