"""Errors: AWS's codes in AWS's document, and no wrong success for what is not served."""

from __future__ import annotations

import pytest

from tests.blackbox.raw import RawAnswer, RawClient
from tests.servers import Shardgate, log_with


def test_error_document(raw: RawClient, bucket: str) -> None:
    answer = raw.request("GET", f"/{bucket}/no%20such/key")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/xml"
    assert answer.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    error = answer.error
    assert error["Code"] == "NoSuchKey"
    assert error["Message"] == "The specified key does not exist."
    assert error["Key"] == "no such/key"
    assert error["RequestId"] == answer.headers["x-amz-request-id"]
    assert error["HostId"] == answer.headers["x-amz-id-2"]


def test_every_answer_has_its_own_request_id(raw: RawClient, bucket: str) -> None:
    ids = {
        raw.request(method, path).headers["x-amz-request-id"]
        for method, path in (("GET", "/"), ("HEAD", f"/{bucket}"), ("GET", "/missing-bucket"))
    }
    assert len(ids) == 3


def test_head_of_something_missing_has_no_body(raw: RawClient, bucket: str) -> None:
    answer = raw.request("HEAD", f"/{bucket}/missing")
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["x-amz-request-id"]


NOT_SERVED = "analytics intelligent-tiering metrics"


@pytest.mark.parametrize("query", NOT_SERVED.split())
def test_operation_not_served_is_not_implemented(raw: RawClient, bucket: str, query: str) -> None:
    ids = [("id", "x")] if query in ("analytics", "intelligent-tiering", "inventory", "metrics") else []
    assert raw.request("PUT", f"/{bucket}", [(query, ""), *ids], body=b"<x/>").verdict == (501, "NotImplemented")


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("GET", [("torrent", "")]),
        ("POST", [("select", ""), ("select-type", "2")]),
        ("PUT", [("renameObject", "")]),
    ],
)
def test_object_operation_not_served_is_not_implemented(raw: RawClient, bucket: str, method: str, query: list[tuple[str, str]]) -> None:
    raw.request("PUT", f"/{bucket}/k", body=b"x")
    assert raw.request(method, f"/{bucket}/k", query, body=b"" if method == "GET" else b"<x/>").verdict == (501, "NotImplemented")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/"), ("PATCH", "/{bucket}/k"), ("DELETE", "/"), ("PUT", "/"), ("TRACE", "/{bucket}")]
)
def test_method_not_allowed(raw: RawClient, bucket: str, method: str, path: str) -> None:
    answer = raw.request(method, path.format(bucket=bucket))
    assert answer.status in (405, 501)


@pytest.mark.parametrize("path", ["/{bucket}/%ff", "/{bucket}/%zz", "/{bucket}/%00%"])
def test_path_that_is_no_utf8_is_refused(raw: RawClient, bucket: str, path: str) -> None:
    answer = raw.request("GET", path.format(bucket=bucket))
    assert answer.status in (400, 403), answer


def test_entities_in_a_document_are_refused(raw: RawClient, bucket: str) -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
    assert raw.request("POST", f"/{bucket}", [("delete", "")], {"x-amz-checksum-crc32": _crc32(bomb)}, bomb).verdict == (
        400,
        "MalformedXML",
    )


def test_document_of_many_megabytes_is_refused(raw: RawClient, bucket: str) -> None:
    body = b"<Delete>" + b"<Object><Key>k</Key></Object>" * 150_000 + b"</Delete>"
    answer = raw.request("POST", f"/{bucket}", [("delete", "")], {"x-amz-checksum-crc32": _crc32(body)}, body)
    assert answer.status == 400
    assert answer.error["Code"] in ("MalformedXML", "MaxMessageLengthExceeded", "EntityTooLarge")


def test_hostile_text_in_an_error_is_escaped(raw: RawClient, bucket: str) -> None:
    answer = raw.request("GET", f"/{bucket}/%3Cscript%3E%26%22%27")
    assert answer.status == 404
    assert answer.error["Key"] == "<script>&\"'"


def test_characters_xml_does_not_know_stay_out_of_documents(raw: RawClient, bucket: str) -> None:
    """A parser must be able to read the document; AWS writes such characters as references."""
    assert raw.request("PUT", f"/{bucket}/a%0Bb", body=b"x").status in (200, 400)
    for path in (f"/{bucket}/missing%0Bkey", f"/{bucket}"):
        assert b"\x0b" not in raw.request("GET", path).body, path


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"GARBAGE\r\n\r\n", "BadRequest"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "BadRequest"),
        (b"GET / HTTP/9.9\r\n\r\n", "BadRequest"),
        (b"GET / HTTP/1.1\r\n\r\n", "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", "BadRequest"),
        (b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", "BadRequest"),
        (b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "BadRequest"),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", "RequestHeaderSectionTooLarge"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nx-amz-meta-a: " + b"a" * 20_000 + b"\r\n\r\n", "RequestHeaderSectionTooLarge"),
    ],
    ids=["garbage", "tls", "version", "no host", "no colon", "length", "two lengths", "long line", "long header"],
)
def test_what_is_no_http_is_refused_in_s3_s_words(server: Shardgate, raw: RawClient, request_bytes: bytes, code: str) -> None:
    head, _, body = raw.exchange(request_bytes).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    error = RawAnswer(400, headers, body).error
    assert (status, error["Code"], headers["connection"]) == ("HTTP/1.1 400 Bad Request", code, "close")
    assert (headers["server"], headers["content-type"]) == ("Shardgate", "application/xml")
    log = log_with(server, headers["x-amz-request-id"])
    assert [line for line in log.splitlines() if headers["x-amz-request-id"] in line and " INFO " in line] != []
    assert error["RequestId"] == headers["x-amz-request-id"]
    assert "Traceback" not in log
    assert raw.request("GET", "/").status == 200


def preflight(raw: RawClient, path: str, headers: dict[str, str] | None = None) -> dict[str, str]:
    answer = raw.send("OPTIONS", path, (("X-Amz-Signature", "anything"),), headers)
    return {"status": str(answer.status), **answer.error}


def test_preflight_needs_no_signature_and_is_refused(raw: RawClient, bucket: str) -> None:
    origin = {"origin": "https://example.com", "access-control-request-method": "PUT"}
    for path in (f"/{bucket}/k", f"/{bucket}"):
        told = preflight(raw, path, origin)
        assert (told["status"], told["Code"], told["Method"], told["ResourceType"]) == ("403", "AccessForbidden", "PUT", "BUCKET")
        assert told["Message"] == "CORSResponse: CORS is not enabled for this bucket."
    told = preflight(raw, f"/{bucket}/k")
    assert (told["status"], told["Code"]) == ("400", "BadRequest")
    assert told["Message"] == "Insufficient information. Origin request header needed."
    assert preflight(raw, "/", origin)["Message"] == "CORSResponse: Bucket not found"


def test_refused_upload_is_told_why_before_its_body_was_sent(raw: RawClient) -> None:
    """A client that sends 8 MiB to a missing bucket must see the error, not a broken pipe."""
    assert raw.request("PUT", "/no-such-bucket-here/k", body=bytes(8 * 1024 * 1024)).verdict == (404, "NoSuchBucket")


def _crc32(data: bytes) -> str:
    import base64
    import zlib

    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
