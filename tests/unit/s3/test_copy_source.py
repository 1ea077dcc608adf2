"""What a copy's source header names."""

from __future__ import annotations

import pytest

from proxy.s3.copy_source import CopySource, parse_copy_source
from proxy.s3.errors import S3Error


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("bucket/key", CopySource("bucket", "key", None)),
        ("/bucket/a/b", CopySource("bucket", "a/b", None)),
        ("bucket%2Fa%20b+c", CopySource("bucket", "a b c", None)),
        ("bucket/50%25?versionId=v1", CopySource("bucket", "50%", "v1")),
        ("bucket/k?versionId=", CopySource("bucket", "k", "")),
    ],
)
def test_a_source_is_decoded_once(text: str, source: CopySource) -> None:
    assert parse_copy_source(text) == source


@pytest.mark.parametrize(
    "text", ["", "bucket", "bucket/", "/bucket/", "bucket/%%%%", "bucket/%zz", "bucket/%", "bucket/%ff", "bucket/\udcff"]
)
def test_what_names_no_object_is_refused(text: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_copy_source(text)
    assert (caught.value.code, caught.value.status) == ("InvalidArgument", 400)
