"""Who may ask: signatures, clocks, chunk signatures, and what happens to a body nobody has asked for yet."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import content, s3_error
from tests.blackbox.raw import RawClient
from tests.blackbox.signer import Signed, Signer
from tests.servers import Shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
BODY = content(150_001)


def pieces(body: bytes, size: int = 65536) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def framed(signed: Signed, chunks: Sequence[bytes], trailer: bytes | None = None) -> bytes:
    """Return an aws-chunked body with chunk signatures."""
    framing, previous = b"", signed.signature
    for chunk in [*chunks, b""]:
        previous = signed.chunk(chunk, previous)
        framing += b"%x;chunk-signature=%s\r\n" % (len(chunk), previous.encode())
        framing += chunk + b"\r\n" if chunk else b""
    if trailer is None:
        return framing + b"\r\n"
    return framing + trailer + b"\r\nx-amz-trailer-signature:" + signed.trailer(trailer + b"\n", previous).encode() + b"\r\n\r\n"


def unsigned_framed(chunks: Sequence[bytes], trailer: bytes = b"") -> bytes:
    framing = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return framing + b"0\r\n" + (trailer + b"\r\n" if trailer else b"") + b"\r\n"


def streaming_headers(mode: str, trailer: str = "") -> dict[str, str]:
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(BODY))}
    return headers | ({"x-amz-trailer": trailer} if "TRAILER" in mode else {})


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


@pytest.fixture
def path(bucket: str) -> str:
    return f"/{bucket}/k"


def missing(s3: S3Client, path: str) -> bool:
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=path.split("/")[1], Key="k")
    return True


def stored(s3: S3Client, path: str) -> bytes:
    return s3.get_object(Bucket=path.split("/")[1], Key="k")["Body"].read()


# Header signatures


def test_signed_request_is_served(raw: RawClient) -> None:
    assert raw.request("GET", "/").verdict == (200, "")


def test_anonymous_request_is_denied(raw: RawClient, s3: S3Client, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert raw.send(method, path).verdict == (403, "AccessDenied")
    assert raw.send("GET", "/").verdict == (403, "AccessDenied")


def test_unknown_access_key(raw: RawClient, signer: Signer) -> None:
    answer = replace(raw, signer=replace(signer, access_key="NOBODYNOBODYNOBODYNO")).request("GET", "/")
    assert answer.verdict == (403, "InvalidAccessKeyId")
    assert answer.error["AWSAccessKeyId"] == "NOBODYNOBODYNOBODYNO"


def test_wrong_secret_key(raw: RawClient, signer: Signer) -> None:
    answer = replace(raw, signer=replace(signer, secret_key="wrong")).request("GET", "/")
    assert answer.verdict == (403, "SignatureDoesNotMatch")
    assert answer.error["StringToSign"].startswith("AWS4-HMAC-SHA256\n")
    assert answer.error["CanonicalRequest"].startswith("GET\n/\n")
    assert answer.error["SignatureProvided"]


def test_wrong_region(raw: RawClient, signer: Signer) -> None:
    answer = replace(raw, signer=replace(signer, region="eu-nowhere-7")).request("GET", "/")
    assert answer.verdict == (400, "AuthorizationHeaderMalformed")
    assert answer.error["Region"] == "us-east-1"


def test_wrong_service(raw: RawClient, signer: Signer) -> None:
    assert replace(raw, signer=replace(signer, service="ec2")).request("GET", "/").verdict == (400, "AuthorizationHeaderMalformed")


@pytest.mark.parametrize("minutes", [-16, 16, -60 * 24 * 8])
def test_clock_more_than_fifteen_minutes_off(raw: RawClient, signer: Signer, minutes: int) -> None:
    signed = signer.sign("GET", "/", when=datetime.now(UTC) + timedelta(minutes=minutes))
    answer = raw.send("GET", "/", (), signed.headers)
    assert answer.verdict == (403, "RequestTimeTooSkewed")
    assert answer.error["ServerTime"]
    assert answer.error["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize("minutes", [-14, 14])
def test_clock_less_than_fifteen_minutes_off(raw: RawClient, signer: Signer, minutes: int) -> None:
    signed = signer.sign("GET", "/", when=datetime.now(UTC) + timedelta(minutes=minutes))
    assert raw.send("GET", "/", (), signed.headers).status == 200


def test_what_is_signed_cannot_be_changed(raw: RawClient, path: str) -> None:
    signed = raw.sign("PUT", path, {"x-amz-meta-a": "1", "content-type": "text/plain"})
    refused = (403, "SignatureDoesNotMatch")
    assert raw.send("PUT", path, (), signed.headers | {"x-amz-meta-a": "2"}, b"x").verdict == refused
    assert raw.send("PUT", path, (), signed.headers | {"content-type": "text/html"}, b"x").verdict == refused
    assert raw.send("PUT", f"{path}2", (), signed.headers, b"x").verdict == refused
    assert raw.send("PUT", path, [("acl", "")], signed.headers, b"x").verdict == refused
    assert raw.send("DELETE", path, (), signed.headers).verdict == refused


def test_amz_headers_must_be_signed(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path)
    answer = raw.send("PUT", path, (), signed.headers | {"x-amz-meta-a": "1"}, b"x")
    assert answer.verdict == (403, "AccessDenied")
    assert missing(s3, path)


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=0",
    ],
)
def test_malformed_authorization(raw: RawClient, authorization: str) -> None:
    headers = raw.sign("GET", "/").headers | {"authorization": authorization}
    assert raw.send("GET", "/", (), headers).verdict == (400, "AuthorizationHeaderMalformed")


@pytest.mark.parametrize("authorization", ["AWS key:signature", "Basic dXNlcjpwYXNz", "Bearer x", "nonsense"])
def test_other_schemes_are_refused(raw: RawClient, authorization: str) -> None:
    headers = raw.sign("GET", "/").headers | {"authorization": authorization}
    answer = raw.send("GET", "/", (), headers)
    assert answer.status in (400, 403)
    assert answer.error["Code"] in ("InvalidRequest", "InvalidArgument", "AccessDenied")


def test_missing_content_sha256_is_refused(raw: RawClient, signer: Signer) -> None:
    headers = {name: value for name, value in signer.sign("GET", "/").headers.items() if name != "x-amz-content-sha256"}
    assert raw.send("GET", "/", (), headers).status in (400, 403)


def test_nonsense_content_sha256_is_refused(raw: RawClient, path: str) -> None:
    assert raw.request("PUT", path, body=b"x", payload_hash="nonsense").verdict == (400, "InvalidArgument")


def test_session_token_of_a_permanent_key_is_refused(raw: RawClient) -> None:
    assert raw.request("GET", "/", headers={"x-amz-security-token": "token"}).verdict == (400, "InvalidToken")


def test_header_spaces_and_case_do_not_matter(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, {"x-amz-meta-a": "one  two   three"})
    assert raw.send("PUT", path, (), signed.headers | {"x-amz-meta-a": "  one two three  "}, b"x").status == 200


# The five ways of saying what the body is


@pytest.mark.parametrize("size", [8192, 65536, 150_000, 200_000])
def test_signed_chunks(raw: RawClient, s3: S3Client, path: str, size: int) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED), payload_hash=SIGNED)
    assert raw.send("PUT", path, (), signed.headers, framed(signed, pieces(BODY, size))).verdict == (200, "")
    assert stored(s3, path) == BODY
    assert s3.head_object(Bucket=path.split("/")[1], Key="k").get("ContentEncoding", "") == ""


def test_content_encoding_beside_aws_chunked_is_kept(raw: RawClient, s3: S3Client, path: str) -> None:
    headers = streaming_headers(SIGNED) | {"content-encoding": "aws-chunked,gzip"}
    signed = raw.sign("PUT", path, headers, payload_hash=SIGNED)
    assert raw.send("PUT", path, (), signed.headers, framed(signed, pieces(BODY))).verdict == (200, "")
    assert s3.head_object(Bucket=path.split("/")[1], Key="k")["ContentEncoding"] == "gzip"


def test_empty_object_in_signed_chunks(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED) | {"x-amz-decoded-content-length": "0"}, payload_hash=SIGNED)
    assert raw.send("PUT", path, (), signed.headers, framed(signed, [])).verdict == (200, "")
    assert stored(s3, path) == b""


def test_tampered_chunk_is_refused(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED), payload_hash=SIGNED)
    body = bytearray(framed(signed, pieces(BODY)))
    body[70_000] ^= 1
    assert raw.send("PUT", path, (), signed.headers, bytes(body)).verdict == (403, "SignatureDoesNotMatch")
    assert missing(s3, path)


def test_chunks_in_another_order_are_refused(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED), payload_hash=SIGNED)
    whole = framed(signed, pieces(BODY))
    size = len(b"10000;chunk-signature=") + 64 + 2 + 65536 + 2
    swapped = whole[size : 2 * size] + whole[:size] + whole[2 * size :]
    assert raw.send("PUT", path, (), signed.headers, swapped).verdict == (403, "SignatureDoesNotMatch")
    assert missing(s3, path)


def test_last_chunk_must_be_signed_too(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED), payload_hash=SIGNED)
    body = framed(signed, pieces(BODY))
    forged = body[:-68] + b"0" * 64 + body[-4:]
    assert len(forged) == len(body)
    assert raw.send("PUT", path, (), signed.headers, forged).verdict == (403, "SignatureDoesNotMatch")
    assert missing(s3, path)


def test_stream_without_its_last_chunk_is_incomplete(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED), payload_hash=SIGNED)
    body = framed(signed, pieces(BODY))
    cut = body[: body.rindex(b"0;chunk-signature=")]
    answer = raw.send("PUT", path, (), signed.headers, cut)
    assert answer.verdict == (400, "IncompleteBody")
    assert missing(s3, path)


@pytest.mark.parametrize("claimed", [len(BODY) - 1, len(BODY) + 1, 0])
def test_decoded_length_must_agree(raw: RawClient, s3: S3Client, path: str, claimed: int) -> None:
    headers = streaming_headers(SIGNED) | {"x-amz-decoded-content-length": str(claimed)}
    signed = raw.sign("PUT", path, headers, payload_hash=SIGNED)
    answer = raw.send("PUT", path, (), signed.headers, framed(signed, pieces(BODY)))
    assert answer.status == 400
    assert missing(s3, path)


def test_decoded_length_is_needed(raw: RawClient, path: str) -> None:
    signed = raw.sign("PUT", path, {"content-encoding": "aws-chunked"}, payload_hash=SIGNED)
    assert raw.send("PUT", path, (), signed.headers, framed(signed, pieces(BODY))).verdict == (411, "MissingContentLength")


@pytest.mark.parametrize(
    "garbage", [b"zz\r\n", b"-5\r\n", b"ffffffffffffffff;chunk-signature=0\r\n", b"10\n", b"\r\n\r\n", b"5;x=" + b"y" * 100_000]
)
def test_malformed_framing_is_refused(raw: RawClient, s3: S3Client, path: str, garbage: bytes) -> None:
    for mode in (SIGNED, UNSIGNED_TRAILER):
        signed = raw.sign("PUT", path, streaming_headers(mode, "x-amz-checksum-crc32"), payload_hash=mode)
        answer = raw.send("PUT", path, (), signed.headers, garbage + BODY)
        assert answer.status in (400, 403), answer
    assert missing(s3, path)


def test_signed_chunks_with_a_trailer(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=SIGNED_TRAILER)
    trailer = f"x-amz-checksum-crc32:{crc32(BODY)}".encode()
    assert raw.send("PUT", path, (), signed.headers, framed(signed, pieces(BODY), trailer)).verdict == (200, "")
    assert stored(s3, path) == BODY
    assert s3.head_object(Bucket=path.split("/")[1], Key="k", ChecksumMode="ENABLED")["ChecksumCRC32"] == crc32(BODY)


def test_wrong_checksum_in_a_signed_trailer(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=SIGNED_TRAILER)
    body = framed(signed, pieces(BODY), f"x-amz-checksum-crc32:{crc32(b'other')}".encode())
    assert raw.send("PUT", path, (), signed.headers, body).verdict == (400, "BadDigest")
    assert missing(s3, path)


def test_forged_trailer_signature(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=SIGNED_TRAILER)
    body = framed(signed, pieces(BODY), f"x-amz-checksum-crc32:{crc32(BODY)}".encode())
    forged = body[:-68] + b"0" * 64 + b"\r\n\r\n"
    assert raw.send("PUT", path, (), signed.headers, forged).verdict == (403, "SignatureDoesNotMatch")
    assert missing(s3, path)


def test_unsigned_chunks_with_a_trailer(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(UNSIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=UNSIGNED_TRAILER)
    trailer = f"x-amz-checksum-crc32:{crc32(BODY)}".encode()
    assert raw.send("PUT", path, (), signed.headers, unsigned_framed(pieces(BODY), trailer)).verdict == (200, "")
    assert stored(s3, path) == BODY


def test_wrong_checksum_in_an_unsigned_trailer(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(UNSIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=UNSIGNED_TRAILER)
    body = unsigned_framed(pieces(BODY), f"x-amz-checksum-crc32:{crc32(b'other')}".encode())
    assert raw.send("PUT", path, (), signed.headers, body).verdict == (400, "BadDigest")
    assert missing(s3, path)


def test_announced_trailer_must_come(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(UNSIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=UNSIGNED_TRAILER)
    answer = raw.send("PUT", path, (), signed.headers, unsigned_framed(pieces(BODY)))
    assert answer.verdict == (400, "MalformedTrailerError")
    assert missing(s3, path)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda body: b"garbage\r\n" + body, "IncompleteBody"),
        (lambda body: body + b"more", "IncompleteBody"),
        (lambda body: body.replace(b"x-amz-checksum-crc32:", b"x-amz-checksum-sha1:"), "MalformedTrailerError"),
        (lambda body: body.replace(b"x-amz-checksum-crc32:", b"x-amz-checksum-crc32="), "MalformedTrailerError"),
    ],
)
def test_broken_framing_is_refused(raw: RawClient, s3: S3Client, path: str, damage: Callable[[bytes], bytes], code: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(UNSIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=UNSIGNED_TRAILER)
    body = damage(unsigned_framed(pieces(BODY), f"x-amz-checksum-crc32:{crc32(BODY)}".encode()))
    assert raw.send("PUT", path, (), signed.headers, body).verdict == (400, code)
    assert missing(s3, path)


@pytest.mark.parametrize("mode", [SIGNED, UNSIGNED_TRAILER])
def test_only_the_last_chunk_may_be_under_eight_kibibytes(raw: RawClient, s3: S3Client, path: str, mode: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(mode, "x-amz-checksum-crc32"), payload_hash=mode)
    chunks = [BODY[:8191], BODY[8191:]]
    trailer = f"x-amz-checksum-crc32:{crc32(BODY)}".encode()
    answer = raw.send("PUT", path, (), signed.headers, framed(signed, chunks) if mode == SIGNED else unsigned_framed(chunks, trailer))
    assert answer.verdict == (400, "InvalidChunkSizeError")
    assert (answer.error["Chunk"], answer.error["BadChunkSize"]) == ("2", "8191")
    assert missing(s3, path)


def test_signed_chunks_make_a_part(raw: RawClient, s3: S3Client, path: str, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    query = [("partNumber", "1"), ("uploadId", upload)]
    signed = raw.signer.sign("PUT", path, query, streaming_headers(SIGNED), payload_hash=SIGNED)
    answer = raw.send("PUT", path, query, signed.headers, framed(signed, pieces(BODY)))
    assert (answer.status, answer.headers["etag"]) == (200, f'"{hashlib.md5(BODY).hexdigest()}"')


# Lengths


def test_put_needs_a_length(raw: RawClient, path: str) -> None:
    signed = raw.sign("PUT", path)
    lines = [f"PUT {path} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items())]
    answer = raw.exchange("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode() + b"1\r\nx\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"<Code>MissingContentLength</Code>" in answer


def test_object_over_five_gib_is_refused_unread(raw: RawClient, path: str) -> None:
    signed = raw.sign("PUT", path)
    lines = [f"PUT {path} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items())]
    answer = raw.exchange("\r\n".join([*lines, f"Content-Length: {5 * 1024**3 + 1}", "", ""]).encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>EntityTooLarge</Code>" in answer


# Expect: 100-continue


def expecting(signed: Signed, path: str, length: int) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {length}", "Expect: 100-continue", "", ""]).encode()


def test_continue_comes_after_authentication(raw: RawClient, s3: S3Client, path: str) -> None:
    with raw.connect() as connection:
        connection.sendall(expecting(raw.sign("PUT", path), path, 5))
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert stored(s3, path) == b"hello"


def test_no_continue_for_a_stranger(server: Shardgate, raw: RawClient, path: str) -> None:
    stranger = Signer(server.access_key, "wrong", host=f"127.0.0.1:{server.port}")
    with raw.connect() as connection:
        connection.sendall(expecting(stranger.sign("PUT", path), path, 5))
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_no_continue_for_a_missing_bucket(raw: RawClient) -> None:
    path = "/no-such-bucket-here/k"
    with raw.connect() as connection:
        connection.sendall(expecting(raw.sign("PUT", path), path, 5))
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 404 ")


# Revocation is told by the console's own tests; here: a key is only good for its tenant


def test_second_tenant_has_a_list_of_its_own(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    assert s3.list_buckets()["Owner"]["ID"] != other_s3.list_buckets()["Owner"]["ID"]
    assert bucket not in [one["Name"] for one in other_s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize("expires", ["9" * 16, "9" * 5000, "-1", "\u0661"])
def test_an_expiry_that_is_no_moment_is_refused(raw: RawClient, expires: str) -> None:
    query = [("AWSAccessKeyId", "a"), ("Signature", "b"), ("Expires", expires)]
    assert raw.send("GET", "/bucket/k", query).verdict == (403, "AccessDenied")


def test_unsigned_chunks_within_chunks_of_http(raw: RawClient, s3: S3Client, path: str) -> None:
    """As the JavaScript SDK sends a stream. The first bytes of the body come with the head."""
    sent = streaming_headers(UNSIGNED_TRAILER, "x-amz-checksum-crc32") | {"transfer-encoding": "chunked"}
    signed = raw.sign("PUT", path, sent, payload_hash=UNSIGNED_TRAILER)
    body = unsigned_framed(pieces(BODY), f"x-amz-checksum-crc32:{crc32(BODY)}".encode())
    head = "\r\n".join([f"PUT {path} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items()), "\r\n"]).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces(body, 9000)) + b"0\r\n\r\n"
    assert raw.exchange(head + chunks).startswith(b"HTTP/1.1 200 ")
    assert stored(s3, path) == BODY


# Text that is none


@pytest.mark.parametrize(
    "line",
    [
        b"GET /bucket?prefix=\xff HTTP/1.1",
        b"GET /bucket/\xff HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET /?AWSAccessKeyId=\xff&Signature=a&Expires=9999999999 HTTP/1.1",
        b"GET /bucket/k?X-Amz-Credential=\xff&X-Amz-Algorithm=a HTTP/1.1",
        b"GET /bucket?%ff=%ff HTTP/1.1",
        b"OPTIONS /bucket?\xff HTTP/1.1",
    ],
)
def test_a_request_line_that_is_not_text_is_refused(raw: RawClient, line: bytes) -> None:
    """By HTTP's parser or by ours: aiohttp has one that passes such bytes on, and one that does not."""
    answer = raw.exchange(line + b"\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert re.search(rb"<Code>(InvalidURI|BadRequest)</Code>", answer)


@pytest.mark.parametrize("header", [b"Host: \xff.s3.test", b"Authorization: AWS4-HMAC-SHA256 Credential=\xff", b"x-amz-date: \xff"])
def test_a_header_that_is_not_text_is_no_failure_of_ours(raw: RawClient, header: bytes) -> None:
    headers = {"host": "127.0.0.1"} if not header.startswith(b"Host") else {}
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in headers.items())
    answer = raw.exchange(b"GET / HTTP/1.1\r\n" + lines + header + b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 ", b"HTTP/1.1 404 "))


def test_a_trailer_after_the_trailers_signature_is_refused(raw: RawClient, s3: S3Client, path: str) -> None:
    signed = raw.sign("PUT", path, streaming_headers(SIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=SIGNED_TRAILER)
    body, previous = b"", signed.signature
    for chunk in (BODY, b""):
        previous = signed.chunk(chunk, previous)
        body += b"%x;chunk-signature=%s\r\n" % (len(chunk), previous.encode()) + (chunk + b"\r\n" if chunk else b"")
    body += f"x-amz-trailer-signature:{signed.trailer(b'', previous)}\r\nx-amz-checksum-crc32:{crc32(BODY)}\r\n\r\n".encode()
    assert raw.send("PUT", path, (), signed.headers, body).verdict == (400, "MalformedTrailerError")
    assert missing(s3, path)


def test_a_line_break_after_an_unsigned_trailer_is_passed_over(raw: RawClient, s3: S3Client, path: str) -> None:
    """As minio-go sends it."""
    signed = raw.sign("PUT", path, streaming_headers(UNSIGNED_TRAILER, "x-amz-checksum-crc32"), payload_hash=UNSIGNED_TRAILER)
    trailer = f"x-amz-checksum-crc32:{crc32(BODY)}".encode()
    assert raw.send("PUT", path, (), signed.headers, unsigned_framed(pieces(BODY), trailer) + b"\r\n").verdict == (200, "")
    assert stored(s3, path) == BODY
