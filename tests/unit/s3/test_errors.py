"""Errors: the document a client reads."""

from __future__ import annotations

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser

from proxy.s3.errors import CODES, S3Error, render_error

from .samples import output_of

GET_OBJECT = output_of("GetObject")


def read(error: S3Error, resource: str = "/b/k") -> dict[str, dict[str, str]]:
    body = render_error(error, resource=resource, request_id="R1", host_id="H1")
    response = {"headers": HeadersDict({}), "status_code": error.status, "body": body}
    return dict(create_parser("rest-xml").parse(response, GET_OBJECT))


@pytest.mark.parametrize("code", [code for code, (status, _) in CODES.items() if status >= 400])
def test_botocore_reads_every_error(code: str) -> None:
    error = S3Error(code)

    seen = read(error)

    assert seen["Error"]["Code"] == code
    assert seen["Error"]["Message"] == error.message


def test_details_become_elements() -> None:
    error = S3Error("NoSuchKey", "gone & <lost>", headers={"x": "y"}, Key="a\rb\"'<🙂>", Size=5)

    seen = read(error, resource="/b/a & b")

    assert (error.code, error.status, error.headers) == ("NoSuchKey", 404, {"x": "y"})
    assert seen["Error"] == {
        "Code": "NoSuchKey",
        "Message": "gone & <lost>",
        "Key": "a\rb\"'<🙂>",
        "Size": "5",
        "Resource": "/b/a & b",
    }


def test_the_request_is_identified_last() -> None:
    body = render_error(S3Error("SlowDown"), resource="/b", request_id="R1", host_id="H1")

    assert body.endswith(b"<Resource>/b</Resource><RequestId>R1</RequestId><HostId>H1</HostId></Error>")


def test_any_request_line_can_be_told() -> None:
    body = render_error(S3Error("InvalidURI", URI="\udcff\x01"), resource="/\udcff", request_id="R", host_id="H").decode()

    assert "<URI>\ufffd&#x1;</URI>" in body
    assert "<Resource>/\ufffd</Resource>" in body


def test_a_code_that_is_not_in_the_table_is_a_defect() -> None:
    with pytest.raises(KeyError):
        S3Error("NoSuchCode")


def test_statuses_are_of_errors() -> None:
    assert all(status == 304 or 400 <= status < 600 for status, _ in CODES.values())
    assert all(message for _, message in CODES.values())
