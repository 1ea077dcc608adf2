"""Headers that ask for what is not served."""

from __future__ import annotations

import pytest

from proxy.s3.errors import S3Error
from proxy.server.refusals import refuse_unserved


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-acl", "public-read", "NotImplemented"),
        ("x-amz-grant-read", "id=1", "NotImplemented"),
        ("x-amz-server-side-encryption", "aws:kms", "NotImplemented"),
        ("x-amz-server-side-encryption", "ROT13", "InvalidArgument"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", "NotImplemented"),
        ("x-amz-copy-source-server-side-encryption-customer-key", "k", "NotImplemented"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "InvalidRequest"),
        ("x-amz-bucket-object-lock-enabled", "true", "NotImplemented"),
        ("x-amz-write-offset-bytes", "5", "NotImplemented"),
    ],
)
def test_what_is_not_served_is_refused(name: str, value: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        refuse_unserved({"host": "h", name: value})
    assert caught.value.code == code


def test_what_is_true_anyway_passes() -> None:
    refuse_unserved(
        {
            "x-amz-acl": "private",
            "x-amz-server-side-encryption": "AES256",
            "x-amz-bucket-object-lock-enabled": "false",
            "x-amz-request-payer": "requester",
            "x-amz-meta-acl": "public-read",
        }
    )
