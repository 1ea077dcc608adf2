"""The targets: for each, what is done with the bytes of a client, and what they may look like.

A target takes any bytes. It may refuse them as S3 does, with an error of a client's; whatever else it raises is a fault of ours.
"""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser

from proxy.s3.aws_chunked import ChunkedDecoder
from proxy.s3.claim import STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER, parse_authorization
from proxy.s3.copy_source import parse_copy_source
from proxy.s3.cors import cors_document, cross_origin_headers, parse_rules, preflight_headers
from proxy.s3.documents import DocumentReader
from proxy.s3.errors import S3Error, render_error
from proxy.s3.forms.form import check_policy, form_answer, form_headers, read_form, tagging_document
from proxy.s3.forms.parser import FileData, FormField, FormFile, FormParser, parse_boundary
from proxy.s3.forms.policy import parse_policy
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import configuration_of, encode_configuration
from proxy.s3.metadata import check_metadata, encode_metadata
from proxy.s3.model import Operation, load_model
from proxy.s3.parsing import parse_request
from proxy.s3.policy.document import read_bucket_policy, read_identity_policy, read_trust_policy
from proxy.s3.ranges import parse_range
from proxy.s3.request import read_headers, read_query
from proxy.s3.routing import Router, split_target
from proxy.s3.sigv2 import parse_presigned
from proxy.s3.sts.answers import render_sts_error
from proxy.s3.sts.errors import StsError
from proxy.s3.sts.requests import Parameters
from proxy.s3.sts.tags import MAX_TAGS
from proxy.s3.tagging import parse_tagging_header
from proxy.s3.website import parse_website, site_of_host, website_document
from proxy.server.wire.heads import MAX_HEAD_SIZE, MAX_HEADERS_SIZE, BoundedParser

MODEL = load_model()
ROUTER = Router(MODEL)
TAGGING = tagging_document(MODEL)
DOCUMENTS = tuple(operation for operation in MODEL.operations.values() if operation.document is not None)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(MOMENT.timestamp() * 1000)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
MAX_INPUT = 64 * 1024  # the first byte decides how the rest is cut, or what it is


class Target(NamedTuple):
    """One thing to be fuzzed. `words` are what inputs are made of, `seeds` are some that are good."""

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]

    def try_input(self, data: bytes) -> None:
        """Run it. A refusal must be one that a client can be told."""
        try:
            self.run(data[:MAX_INPUT])
        except S3Error as error:
            assert error.status < 500 or error.code == "NotImplemented", error
            render_error(error, resource="/", request_id="R", host_id="H")


def pieces(data: bytes) -> list[bytes]:
    """Cut the bytes behind the first as that says: whole, one by one, or in pieces of its size."""
    size = data[0] if data else 0
    rest = data[1:]
    step = len(rest) + 1 if size == 0 else size
    return [rest[start : start + step] for start in range(0, len(rest), step)]


def run_form(data: bytes) -> None:
    parser, sent, filename = FormParser(b"b"), list[FormField](), None
    passed = 0
    for piece in pieces(data):
        for event in parser.feed(piece):
            if isinstance(event, FormField):
                sent.append(event)
            elif isinstance(event, FormFile):
                filename = event.filename
                assert 0 < event.offset <= len(data)
            elif isinstance(event, FileData):
                passed += len(event.data)
    parser.finish()
    assert passed < len(data)
    run_fields(sent, filename)


def run_fields(sent: list[FormField], filename: str | None) -> None:
    form = read_form(sent, filename)
    headers = form_headers(form, {"host": "h"}, TAGGING)
    parse_request(MODEL.operations["PostObject"], split_target("bucket", "/"), (), headers)
    answer = form_answer(form, address="http://h/b/k", bucket="b", etag='"e"') if form.key else None
    assert answer is not None
    assert answer.headers["Location"].isprintable()
    if "policy" in form.fields:
        check_policy(form, "bucket", NOW_MS)


def run_form_fields(data: bytes) -> None:
    """Fields alone: name and value by turns, between NULs."""
    texts = data.decode("utf-8", "replace").split("\0")
    run_fields([FormField(name, value) for name, value in zip(texts[1::2], texts[2::2], strict=False)], texts[0])


def run_boundary(data: bytes) -> None:
    parse_boundary(data.decode("utf-8", "surrogateescape"))


def run_form_policy(data: bytes) -> None:
    policy = parse_policy(b64encode(data).decode())
    policy.check({"key": "k", "content-type": "a,b"}, {}, bucket="bucket", now_ms=NOW_MS)


def read_document(operation: Operation, data: bytes) -> dict[str, object]:
    assert operation.document is not None
    reader = DocumentReader(operation.document)
    for piece in pieces(data):
        reader.feed(piece)
    return reader.finish()


def setting(operation: str, data: bytes) -> Mapping[str, object]:
    """Return the document of a bucket's setting."""
    document = MODEL.operations[operation].document
    assert document is not None
    found = read_document(MODEL.operations[operation], data).get(document.member or "")
    if not isinstance(found, dict):
        raise S3Error("MalformedXML")
    return found


def run_xml(data: bytes) -> None:
    read_document(DOCUMENTS[data[0] % len(DOCUMENTS)] if data else DOCUMENTS[0], data[1:])


def run_cors(data: bytes) -> None:
    text = cors_document(_rows(setting("PutBucketCors", data), "CORSRules"))
    rules = parse_rules(text)
    asked = {"origin": "http://a.test", "access-control-request-method": "GET", "access-control-request-headers": "x-a,x-b"}
    told = cross_origin_headers(rules, "GET", asked)
    assert not any("\r" in value or "\n" in value for value in told.values())
    preflight_headers(rules, split_target("b", "/k"), asked)


def run_website(data: bytes) -> None:
    website = parse_website(website_document(setting("PutBucketWebsite", data)))
    for key in ("", "docs/", "docs/a\r\n"):
        for status in (None, 403, 404):
            rule = website.rule_for(key, status)
            assert rule is None or rule.location(key, protocol="http", host="h").isprintable() or not (rule.redirect.host or "").isascii()


def run_lifecycle(data: bytes) -> None:
    configuration = read_configuration(setting("PutBucketLifecycleConfiguration", data), minimum_size=None, storage_classes=("COLD",))
    assert configuration_of(encode_configuration(configuration)) == configuration


def run_bucket_policy(data: bytes) -> None:
    for read in (lambda: read_bucket_policy(data, "bucket"), lambda: read_identity_policy(data), lambda: read_trust_policy(data)):
        try:
            read()
        except S3Error as error:
            assert error.status < 500


def run_sts(data: bytes) -> None:
    """A form of the Security Token Service, or the query that says the same."""
    try:
        parameters = Parameters(data)
        told = [parameters.action]
        for read in (parameters.role, parameters.session_name, parameters.external_id, parameters.policy, parameters.without_tags):
            with suppress(StsError):
                told.append(str(read()))
        tags = parameters.tags()
        assert len(tags.values) <= MAX_TAGS
        assert tags.transitive <= tags.values.keys()
        tags.after(tags._replace(transitive=frozenset(tags.values)))
    except StsError as error:
        assert error.status < 500
        render_sts_error(error, "R")


def run_chunked(data: bytes) -> None:
    mode = (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER)[data[0] % 3 if data else 0]
    trailers = () if mode == STREAMING_SIGNED else ("x-amz-checksum-crc32",)
    decoder = ChunkedDecoder(
        mode, decoded_length=len(_HELLO), seed_signature="0" * 64, signing_key=b"k", timestamp=MOMENT, scope="s", trailers_expected=trailers
    )
    plaintext = sum(len(found) for piece in pieces(data[1:]) for found in decoder.feed(piece))
    assert plaintext <= len(data)
    decoder.finish()


class _Protocol(BaseProtocol):
    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


def run_head(data: bytes) -> None:
    """A connection's bytes: request lines, headers, bodies. What the parser takes for a request is read further."""

    async def parse() -> None:
        loop = asyncio.get_running_loop()
        sizes = {"max_line_size": MAX_HEAD_SIZE, "max_field_size": MAX_HEADERS_SIZE, "max_headers": 512}

        def new() -> HttpRequestParser:
            return HttpRequestParser(_Protocol(loop), loop, 1 << 20, payload_exception=web.RequestPayloadError, **sizes)

        parser = BoundedParser(new)
        for piece in pieces(data):
            try:
                messages = parser.feed_data(piece)[0]
            except HttpProcessingError as error:
                assert 400 <= error.code < 500
                return
            for message, _ in messages:
                raw_path, _, query = message.path.partition("?")
                _read_request(message.method, raw_path, query, list(message.headers.items()))

    asyncio.run(parse())


def run_request(data: bytes) -> None:
    """A request as it was parsed: lines of method, path, query, and headers."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    method, path, query = (*lines[:3], "", "", "")[:3]
    fields = [(name, value) for name, _, value in (line.partition(":") for line in lines[3:])]
    _read_request(method, path, query, [(name, value) for name, value in fields if _TOKEN.fullmatch(name)])  # HTTP's parser sees to that


def _read_request(method: str, raw_path: str, raw_query: str, sent: list[tuple[str, str]]) -> None:
    headers = read_headers(sent)
    site_of_host(headers.get("host", ""), ("s3.test",), ("web.test",))
    target, query = split_target(None, raw_path), read_query(raw_query)
    for read in (
        lambda: parse_authorization(headers, query),
        lambda: parse_presigned(query, NOW_MS),
        lambda: parse_range(headers.get("range"), 1000),
        lambda: parse_copy_source(headers.get("x-amz-copy-source", "")),
        lambda: parse_tagging_header(headers.get("x-amz-tagging", "")),
        lambda: parse_boundary(headers.get("content-type", "")),
        lambda: encode_metadata(check_metadata({name: value for name, value in headers.items() if name.startswith("x-amz-meta-")})),
        lambda: parse_request(ROUTER.route(method, target, query, headers), target, query, headers),
    ):
        try:
            read()
        except S3Error as error:
            assert error.status < 500 or error.code == "NotImplemented"


def _rows(document: Mapping[str, object], name: str) -> list[dict[str, object]]:
    rows = document.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


_PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
_FORM = (
    _PART % (b"key", b"", b"u/${filename}")
    + _PART % (b"x-amz-meta-a", b"", b"1")
    + _PART % (b"file", b'; filename="f.txt"', b"content")
    + b"--b--\r\n"
)
_FORM_POLICY = json.dumps(
    {
        "expiration": "2030-01-01T00:00:00Z",
        "conditions": [
            {"bucket": "bucket"},
            ["starts-with", "$key", ""],
            ["starts-with", "$Content-Type", ""],
            ["content-length-range", 0, 9],
        ],
    }
).encode()
_NAMES = (
    b"key",
    b"acl",
    b"policy",
    b"file",
    b"tagging",
    b"x-amz-meta-",
    b"content-type",
    b"success_action_redirect",
    b"success_action_status",
)
_TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
_CORS = (
    b"<CORSConfiguration><CORSRule><AllowedOrigin>http://*.test</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
    b"<AllowedHeader>x-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3</MaxAgeSeconds><ID>i</ID></CORSRule></CORSConfiguration>"
)
_WEBSITE = (
    b"<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument><ErrorDocument><Key>e</Key></ErrorDocument><RoutingRules>"
    b"<RoutingRule><Condition><KeyPrefixEquals>docs/</KeyPrefixEquals></Condition><Redirect><ReplaceKeyPrefixWith>d/</ReplaceKeyPrefixWith>"
    b"<HttpRedirectCode>302</HttpRedirectCode></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>"
)
_LIFECYCLE = (
    b"<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status><Filter><And><Prefix>p</Prefix><Tag><Key>a</Key><Value>b</Value></Tag>"
    b"</And></Filter><Expiration><Days>3</Days></Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
    b"</NoncurrentVersionExpiration></Rule></LifecycleConfiguration>"
)
_XML = (
    b"<",
    b">",
    b"</",
    b"/>",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<?xml",
    b"<!DOCTYPE x",
    b"&amp;",
    b"&#0;",
    b"&#x41;",
    b' xmlns="a"',
)
_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["s3:GetObject", "s3:Put*"],
                "Resource": "arn:aws:s3:::bucket/${aws:username}/*",
                "Condition": {"StringLikeIfExists": {"aws:Referer": ["http://a/*"]}, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
            }
        ],
    }
).encode()
_JSON = (b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"1e999", b"-0", b"\\u0000", b"\\ud800", b'"*"', b"[[[[[[[[")
_HELLO = b"hello"
_CHUNKED = b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"
_UNSIGNED = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
_HEAD = b"PUT /b/k?acl HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nx-amz-meta-a: b\r\n\r\nabcGET / HTTP/1.1\r\nHost: h\r\n\r\n"
_SIGNED = b"AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64
_REQUEST = b"GET\n/b/a%20b\nlist-type=2&prefix=a\nhost:h\nauthorization:" + _SIGNED + b"\nx-amz-date:20260101T000000Z\nrange:bytes=0-1"
_STS = (
    b"Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fr&RoleSessionName=ab"
    b"&Tags.member.1.Key=a&Tags.member.1.Value=b&TransitiveTagKeys.member.1=a&X-Amz-Date=1"
)
_HEADERS = (
    b"x-amz-copy-source:/b/k?versionId=a", b"x-amz-tagging:a=b&c=", b"x-amz-meta-a:=?utf-8?q?a=3D?=", b"if-match:*", b"range:bytes=-1,2-",
    b"uploads", b"uploadId=a", b"partNumber=1", b"versionId=null", b"X-Amz-Expires=1", b"AWSAccessKeyId=a", b"%00", b"%ff", b"..", b"//",
    b"transfer-encoding: chunked", b"expect: 100-continue", b"content-type:multipart/form-data; boundary=b", b"\xff", b"\r\n\r\n",
)  # fmt: skip


def _of(operation: str, document: bytes) -> bytes:
    """Return an input of the target `xml`."""
    return bytes([DOCUMENTS.index(MODEL.operations[operation]), 7]) + document


_DOCUMENTS = (_of("PutObjectTagging", _TAGS), _of("PutBucketCors", _CORS), _of("PutBucketLifecycleConfiguration", _LIFECYCLE))
TARGETS = {
    target.name: target
    for target in (
        Target(
            "form", run_form, (b"\0" + _FORM, b"\1" + _FORM, b"\7" + _FORM + b"x"), (b"--b", b"\r\n", b"--b--", b'; filename="', *_NAMES)
        ),
        Target(
            "form_fields",
            run_form_fields,
            (
                b"\0".join((b"f", b"key", b"k", b"content-type", b"a", b"policy", b64encode(_FORM_POLICY))),
                b"\0".join((b"f", b"key", b"k", b"tagging", _TAGS)),
            ),
            (b"\0", b"${filename}", b"http://a/", b"201", *_NAMES, *_XML),
        ),
        Target(
            "boundary", run_boundary, (b'multipart/form-data; boundary="a b"', b"multipart/form-data;boundary=b"), (b";", b"=", b'"', b"\\")
        ),
        Target("form_policy", run_form_policy, (_FORM_POLICY,), (b"$key", b"starts-with", b"expiration", b"conditions", *_JSON)),
        Target(
            "xml",
            run_xml,
            _DOCUMENTS,
            (*_XML, b"Tagging", b"Delete", b"Key"),
        ),
        Target("cors", run_cors, (b"\0" + _CORS, b"\5" + _CORS), (*_XML, b"CORSRule", b"AllowedOrigin", b"AllowedMethod", b"*", b"PUT")),
        Target(
            "website",
            run_website,
            (b"\0" + _WEBSITE, b"\5" + _WEBSITE),
            (*_XML, b"Redirect", b"HostName", b"Protocol", b"404", b"Condition"),
        ),
        Target(
            "lifecycle", run_lifecycle, (b"\0" + _LIFECYCLE,), (*_XML, b"Date", b"Days", b"Transition", b"2026-01-01T00:00:00Z", b"Prefix")
        ),
        Target("policy", run_bucket_policy, (_POLICY,), (*_JSON, b"${", b"Condition", b"NotAction", b"ForAllValues:", b"NumericLessThan")),
        Target(
            "sts",
            run_sts,
            (_STS,),
            (b"&", b"=", b"Tags.member.1.Key", b"Tags.member.", b".Value", b"TransitiveTagKeys.member.1", b"Policy", b"%7B", b"X-Amz-Date"),
        ),
        Target(
            "chunked",
            run_chunked,
            (b"\2\0" + _UNSIGNED, b"\2\1" + _UNSIGNED),
            (b"\r\n", _CHUNKED, b"0;chunk-signature=", b"ffffffff", b":"),
        ),
        Target("head", run_head, (b"\0" + _HEAD, b"\3" + _HEAD), (b"\r\n", b"HTTP/1.1", b"Content-Length: 9\r\n", *_HEADERS)),
        Target("request", run_request, (_REQUEST,), (b"\n", b":", b"=", b"&", b"%", *_HEADERS)),
    )
}
