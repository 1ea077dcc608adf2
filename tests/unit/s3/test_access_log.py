"""Lines of access logs, and the keys of the objects that they make."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.s3.access_log import Entry, LogTarget, check_logging, line_of, object_key, operation_name
from proxy.s3.errors import S3Error
from proxy.s3.model import load_model

AT = 1_750_000_000_000
ENTRY = Entry(
    owner="o" * 64,
    bucket="photos",
    at_ms=AT,
    remote="192.0.2.3",
    requester="r" * 64,
    request_id="3E57427F3EXAMPLE",
    operation="REST.GET.OBJECT",
    key="a b/c.jpg",
    request_uri="GET /photos/a%20b/c.jpg HTTP/1.1",
    status=200,
    error_code="",
    sent_bytes=113,
    object_size=113,
    milliseconds=7,
    referer="",
    user_agent="S3Console/0.4",
    version_id="",
    host_id="s9lzHYrFp76",
    signature_version="SigV4",
    cipher_suite="ECDHE-RSA-AES128-GCM-SHA256",
    authentication="AuthHeader",
    host="s3.example.org",
    tls_version="TLSv1.2",
)
# As whoever reads such logs takes them apart: bare fields, fields in brackets, fields in quotation marks.
FIELDS = re.compile(r'\[[^\]]*\](?=\s)|"[^"]*"|\S+')


def test_a_line_reads_as_aws_writes_it() -> None:
    assert line_of(ENTRY) == (
        f"{'o' * 64} photos [15/Jun/2025:15:06:40 +0000] 192.0.2.3 {'r' * 64} 3E57427F3EXAMPLE REST.GET.OBJECT a%20b/c.jpg "
        '"GET /photos/a%20b/c.jpg HTTP/1.1" 200 - 113 113 7 - - "S3Console/0.4" - s9lzHYrFp76 SigV4 '
        "ECDHE-RSA-AES128-GCM-SHA256 AuthHeader s3.example.org TLSv1.2 - -\n"
    )


@example("k", "agent", "referer", "[]0")
@given(st.text(), st.text(), st.text(), st.text())
def test_a_line_has_its_fields_whatever_a_client_sends(key: str, agent: str, referer: str, host: str) -> None:
    line = line_of(ENTRY._replace(key=key, user_agent=agent, referer=referer, host=host))
    assert line.count("\n") == 1
    assert line.isascii()
    assert len(FIELDS.findall(line)) == 26


@pytest.mark.parametrize(
    ("operation", "method", "name"),
    [
        ("GetObject", "GET", "REST.GET.OBJECT"),
        ("HeadBucket", "HEAD", "REST.HEAD.BUCKET"),
        ("ListObjectsV2", "GET", "REST.GET.BUCKET"),
        ("CopyObject", "PUT", "REST.COPY.OBJECT"),
        ("DeleteObjects", "POST", "REST.POST.MULTI_OBJECT_DELETE"),
        ("PutObjectTagging", "PUT", "REST.PUT.OBJECT_TAGGING"),
        ("PutObjectAcl", "PUT", "REST.PUT.ACL"),
        ("GetBucketPolicy", "GET", "REST.GET.BUCKETPOLICY"),
        ("CreateMultipartUpload", "POST", "REST.POST.UPLOADS"),
    ],
)
def test_an_operation_is_called_as_in_aws_logs(operation: str, method: str, name: str) -> None:
    has_key = load_model().operations[operation].level == "object"
    assert operation_name(operation, method, has_key=has_key) == name


def test_requests_to_websites_and_forms_have_names_of_their_own() -> None:
    assert operation_name("GetObject", "GET", has_key=True, of_website=True) == "WEBSITE.GET.OBJECT"
    assert operation_name("", "GET", has_key=False, of_website=True) == "WEBSITE.GET.OBJECT"  # sent elsewhere before anything was read
    assert operation_name("PostObject", "POST", has_key=False) == "REST.POST.OBJECT"  # refused before its key was known


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (LogTarget("logs", "x/"), "x/2025-06-15-15-06-40-U"),
        (LogTarget("logs", "x/", "DeliveryTime"), "x/000000000000/us-east-1/photos/2025/06/15/2025-06-15-15-06-40-U"),
        (LogTarget("logs", "x/", "EventTime"), "x/000000000000/us-east-1/photos/2025/06/15/2025-06-15-00-00-00-U"),
    ],
)
def test_the_key_of_an_object_of_lines(target: LogTarget, key: str) -> None:
    assert object_key(target, account="000000000000", region="us-east-1", bucket="photos", at_ms=AT, unique="U") == key


@pytest.mark.parametrize(
    ("enabled", "code"),
    [
        ({"TargetPrefix": ""}, "MalformedXML"),
        ({"TargetBucket": "UPPER_case", "TargetPrefix": ""}, "InvalidBucketName"),
        ({"TargetBucket": "logs", "TargetPrefix": "x" * 801}, "InvalidArgument"),
        ({"TargetBucket": "logs", "TargetPrefix": "ü" * 401}, "InvalidArgument"),
        ({"TargetBucket": "logs", "TargetPrefix": "a/../../b"}, "InvalidArgument"),
        ({"TargetBucket": "logs", "TargetPrefix": "", "TargetGrants": [{}]}, "InvalidArgument"),
        (
            {"TargetBucket": "logs", "TargetPrefix": "", "TargetObjectKeyFormat": {"SimplePrefix": {}, "PartitionedPrefix": {}}},
            "MalformedXML",
        ),
        (
            {"TargetBucket": "logs", "TargetPrefix": "", "TargetObjectKeyFormat": {"PartitionedPrefix": {"PartitionDateSource": "Never"}}},
            "MalformedXML",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(enabled: dict[str, object], code: str) -> None:
    with pytest.raises(S3Error) as refused:
        check_logging({"LoggingEnabled": enabled})
    assert refused.value.code == code


def test_a_document_without_a_target_turns_logging_off() -> None:
    assert check_logging({}) is None
