"""Parsing: what botocore serialises comes back as it was given; what is malformed is refused in S3's words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.documents import DocumentReader
from proxy.s3.errors import S3Error
from proxy.s3.model import Operation
from proxy.s3.parsing import Params, parse_request
from proxy.s3.routing import Router, Target, split_target

from .samples import MODEL, MOMENT, OPERATIONS, input_of, operation_model, sample

ROUTER = Router(MODEL)
OBJECT = Target("bucket", "key")
SERIALIZER = create_serializer("rest-xml", include_validation=False)


def serialised(name: str, params: Mapping[str, object]) -> tuple[str, str, list[tuple[str, str]], dict[str, str], bytes]:
    """Return method, path, query, headers and body as botocore sends them."""
    request = SERIALIZER.serialize_to_request(params, operation_model(name))
    path, _, literals = request["url_path"].partition("?")
    query = [(key, value) for key, _, value in (pair.partition("=") for pair in literals.split("&") if pair)]
    query += [(key, _query_text(value)) for key, value in request["query_string"].items()]
    headers = {key.lower(): str(value) for key, value in request["headers"].items()}
    body = request["body"] or b""
    return request["method"], path, query, headers, body.encode() if isinstance(body, str) else bytes(body)


def _query_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parsed(name: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, query: tuple[tuple[str, str], ...] = ()) -> Params:
    operation = MODEL.operations[name]
    return parse_request(operation, OBJECT, query, headers or {}) | read(operation, body)


def read(operation: Operation, body: bytes, *, size: int = 1000) -> Params:
    """Push a document in, `size` bytes at a time."""
    if not body or operation.document is None:
        return {}
    reader = DocumentReader(operation.document)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.finish()


def refusal(name: str, body: bytes = b"", **request: object) -> S3Error:
    with pytest.raises(S3Error) as caught:
        parsed(name, body, **request)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("name", [name for name in OPERATIONS if operation_model(name).input_shape is not None])
def test_every_operation_round_trips_with_all_its_parameters(name: str) -> None:
    params = sample(input_of(name))
    method, path, query, headers, body = serialised(name, params)

    target = split_target(None, path if "Bucket" in params else "/")
    operation = ROUTER.route(method, target, query, headers)
    result = parse_request(operation, target, query, headers) | read(operation, body)

    for free_text in {"Expires", "ResponseExpires"} & params.keys():
        params[free_text] = format_datetime(MOMENT, usegmt=True)
    assert operation.name == name
    assert result == params


def test_metadata_is_named_in_lower_case_and_kept_apart() -> None:
    headers = {"x-amz-meta-colour": "Blue", "x-amz-meta-": "none", "x-amz-meta-a-b": "", "content-type": "text/plain"}

    assert parsed("PutObject", headers=headers)["Metadata"] == {"colour": "Blue", "": "none", "a-b": ""}
    assert "Metadata" not in parsed("GetObject", headers=headers)


def test_what_the_operation_does_not_know_is_left_out() -> None:
    assert parsed("GetObject", headers={"user-agent": "x", "host": "h"}, query=(("x-id", "GetObject"),)) == {
        "Bucket": "bucket",
        "Key": "key",
    }


@pytest.mark.parametrize("value", ["0", "-1", "Thu, 01 Dec 1994 16:00:00 GMT", "whenever"])
def test_expires_is_any_text(value: str) -> None:
    assert parsed("PutObject", headers={"expires": value})["Expires"] == value
    assert parsed("GetObject", query=(("response-expires", value),))["ResponseExpires"] == value


@pytest.mark.parametrize(
    "value", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z"]
)
def test_dates_are_read_in_all_their_forms(value: str) -> None:
    expected = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)

    assert parsed("GetObject", headers={"if-modified-since": value})["IfModifiedSince"] == expected
    assert parsed("CopyObject", headers={"x-amz-copy-source-if-modified-since": value})["CopySourceIfModifiedSince"] == expected


@pytest.mark.parametrize("value", ["", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT", "0001-01-01T00:00:00+14:00", "99999"])
def test_a_condition_that_is_no_date_is_ignored(value: str) -> None:
    assert "IfModifiedSince" not in parsed("GetObject", headers={"if-modified-since": value})


@pytest.mark.parametrize("value", ["x", "1.5", "1e3", "٣", "9" * 20, "9" * 5000, "--1", "0x10"])
def test_a_bad_number_is_an_invalid_argument(value: str) -> None:
    error = refusal("ListObjectsV2", query=(("max-keys", value),))

    assert (error.code, error.details) == ("InvalidArgument", {"ArgumentName": "max-keys", "ArgumentValue": value})


def test_a_page_s_number_without_a_value_is_not_given() -> None:
    assert "MaxKeys" not in parsed("ListObjectsV2", query=(("max-keys", ""),))
    assert parsed("ListParts", query=(("uploadId", "u"), ("max-parts", ""), ("part-number-marker", ""))).keys() == {
        "Bucket",
        "Key",
        "UploadId",
    }
    assert refusal("GetObject", query=(("partNumber", ""),)).code == "InvalidArgument"


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("PutObject", "x-amz-server-side-encryption-bucket-key-enabled", "perhaps"),
        ("CopyObject", "x-amz-copy-source-if-modified-since", "perhaps"),
    ],
)
def test_a_bad_header_is_an_invalid_argument(name: str, header: str, value: str) -> None:
    error = refusal(name, headers={header: value})

    assert (error.code, error.details) == ("InvalidArgument", {"ArgumentName": header, "ArgumentValue": value})


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\x00", "\x7f", "€"])
def test_a_query_cannot_break_the_headers_of_the_answer(value: str) -> None:
    assert refusal("GetObject", query=(("response-content-disposition", value),)).code == "InvalidArgument"


def test_lists_in_headers_are_split() -> None:
    params = parsed("GetObjectAttributes", headers={"x-amz-object-attributes": "ETag, ObjectSize,Checksum"})

    assert params["ObjectAttributes"] == ["ETag", "ObjectSize", "Checksum"]


@pytest.mark.parametrize("root", ['<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/">', "<Tagging>", '<Tagging xmlns="urn:x">'])
def test_the_namespace_is_optional(root: str) -> None:
    body = f"{root}<TagSet><Tag><Key>k</Key><Value/></Tag></TagSet></Tagging>".encode()

    assert parsed("PutObjectTagging", body)["Tagging"] == {"TagSet": [{"Key": "k", "Value": ""}]}


def test_text_keeps_its_spaces_and_the_rest_does_not() -> None:
    body = b"<?xml version='1.0'?><Delete>\n <Object> <Key> a &#x9; </Key> </Object>\n<Quiet> true </Quiet><!-- x --></Delete>"

    assert parsed("DeleteObjects", body)["Delete"] == {"Objects": [{"Key": " a \t "}], "Quiet": True}


def test_unknown_elements_are_passed_over() -> None:
    body = b"<Delete><Object><Key>k</Key><Colour>blue</Colour></Object><New><Deep/></New></Delete>"

    assert parsed("DeleteObjects", body)["Delete"] == {"Objects": [{"Key": "k"}]}


def test_a_comment_does_not_cut_text() -> None:
    assert parsed("DeleteObjects", b"<Delete><Object><Key>a<!-- c -->b</Key></Object></Delete>")["Delete"] == {"Objects": [{"Key": "ab"}]}


def test_other_encodings_are_read() -> None:
    body = '<?xml version="1.0" encoding="UTF-16"?><Delete><Object><Key>ü</Key></Object></Delete>'.encode("utf-16")

    assert parsed("DeleteObjects", body)["Delete"] == {"Objects": [{"Key": "ü"}]}


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
OUTSIDE = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&a;</Key></Object></Delete>'


@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"x",
        b"<Delete>",
        b"<Delete></Delete>",
        b"<Remove><Object><Key>k</Key></Object></Remove>",
        b"<Delete><Object/></Delete>",
        b"<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>",
        b"<Delete><Object><Key>k<b/></Key></Object></Delete>",
        b"<Delete><Object><Key>k</Key><Size>big</Size></Object></Delete>",
        b"<Delete><Object><Key>k</Key></Object><Quiet>perhaps</Quiet></Delete>",
        b"<Delete><Object><Key>&#0;</Key></Object></Delete>",
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        b"<Delete><Object><Key>&nbsp;</Key></Object></Delete>",
        b'<?xml version="1.0" encoding="klingon"?><Delete><Object><Key>k</Key></Object></Delete>',
        b"<!DOCTYPE Delete><Delete><Object><Key>k</Key></Object></Delete>",
        LAUGHS,
        OUTSIDE,
        b"<Delete>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</Delete>",
        b"<Delete>" + b"<a/>" * 300_000 + b"</Delete>",
        b'<Delete xmlns="' + b"u" * 300_000 + b'"><Object><Key>k</Key></Object>' + b"<a/>" * 1000 + b"</Delete>",
    ],
    ids=lambda body: body[:60].decode("latin-1"),
)
def test_malformed_and_hostile_documents_are_refused(body: bytes) -> None:
    assert refusal("DeleteObjects", body).code == "MalformedXML"


@pytest.mark.parametrize("root", ["CompleteMultipartUpload", "CompletedMultipartUpload", "MultipartUpload"])
def test_a_completion_goes_by_three_names(root: str) -> None:
    body = f"<{root}><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></{root}>".encode()
    assert parsed("CompleteMultipartUpload", body)["MultipartUpload"] == {"Parts": [{"PartNumber": 1, "ETag": "e"}]}
    assert refusal("DeleteObjects", body).code == "MalformedXML"


def test_a_list_holds_only_its_items() -> None:
    body = b"<Tagging><TagSet><Label><Key>k</Key><Value>v</Value></Label></TagSet></Tagging>"

    assert refusal("PutObjectTagging", body).code == "MalformedXML"


def test_a_policy_is_bare_text() -> None:
    assert parsed("PutBucketPolicy", b'{"Version": "2012-10-17"}')["Policy"] == '{"Version": "2012-10-17"}'
    assert refusal("PutBucketPolicy", b"\xff").code == "InvalidRequest"


def test_no_body_is_no_document() -> None:
    assert "Delete" not in parsed("DeleteObjects")


@given(st.binary(max_size=200) | st.text(alphabet="<>/&;#x0DeltObjcKyV \"'!-[]", max_size=200).map(str.encode))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        parsed("DeleteObjects", body)
    except S3Error as error:
        assert error.code == "MalformedXML"


@given(st.text(), st.text())
def test_any_parameter_is_read_or_refused(name: str, value: str) -> None:
    for parameter in (name, "max-keys", "response-expires", "fetch-owner"):
        for operation in ("ListObjectsV2", "GetObject"):
            try:
                parsed(operation, query=((parameter, value),), headers={"if-modified-since": value, "x-amz-meta-x": value})
            except S3Error as error:
                assert error.code == "InvalidArgument"


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_document_can_be_pushed_in_by_any_pieces(size: int) -> None:
    body = (
        '<?xml version="1.0"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet> true </Quiet>'
        "<Object><Key>a&amp;b<!-- - -->\u00e9\U0001f600<![CDATA[<]]></Key><New><Key>x</Key></New></Object></Delete>"
    ).encode()

    assert read(MODEL.operations["DeleteObjects"], body, size=size) == {
        "Delete": {"Quiet": True, "Objects": [{"Key": "a&b\u00e9\U0001f600<"}]}
    }


@pytest.mark.parametrize(
    "inner",
    [
        b"<Object><Key>k</Key></Object>" * 10_001,
        b"<a>" * 100 + b"</a>" * 100,
        b"<a " + b" ".join(b'a%d=""' % number for number in range(20_000)) + b"/>",
        b"<Object><Key>k<b/></Key></Object>",
        b'<a xmlns="' + b"n" * 300 + b'"/>',
    ],
    ids=["items", "depth", "attributes", "an element in text", "namespace"],
)
def test_a_document_that_is_more_than_any_of_s3_is_refused(inner: bytes) -> None:
    assert refusal("DeleteObjects", b"<Delete><Object><Key>k</Key></Object>" + inner + b"</Delete>").code == "MalformedXML"


def test_what_the_model_does_not_know_is_passed_over_however_often_it_comes() -> None:
    inner = b"<Object><Key>k</Key></Object>" + b"<a><Key>x</Key></a>" * 20_000

    assert parsed("DeleteObjects", b"<Delete>" + inner + b"</Delete>")["Delete"] == {"Objects": [{"Key": "k"}]}
