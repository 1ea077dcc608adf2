"""Rendering: botocore's own parser reads back the result that was rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from xml.etree.ElementTree import fromstring

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.rendering import XMLNS, Rendered, iso_milliseconds, iso_time, object_headers, render_response

from .samples import AWKWARD, MODEL, MOMENT, OPERATIONS, operation_model, output_of, sample, streams

PARSER = create_parser("rest-xml")
# botocore reads the one's bare element in a hook of its own; the other's answer is a stream of events.
READ_OTHERWISE = {"GetBucketLocation", "SelectObjectContent"}
READABLE = [name for name in OPERATIONS if operation_model(name).output_shape is not None and name not in READ_OTHERWISE]


def render(name: str, result: Mapping[str, object]) -> Rendered:
    rendered = render_response(MODEL.operations[name], result)
    return rendered._replace(pieces=list(rendered.pieces))


def read(name: str, rendered: Rendered) -> dict[str, object]:
    """Return what a client sees."""
    response = {"headers": HeadersDict(rendered.headers), "status_code": rendered.status, "body": rendered.body}
    parsed = PARSER.parse(response, output_of(name))
    del parsed["ResponseMetadata"]
    return dict(parsed)


@pytest.mark.parametrize("name", READABLE)
def test_every_operation_round_trips_with_all_its_members(name: str) -> None:
    shape = output_of(name)
    result = sample(shape)

    rendered = render(name, result)
    seen = read(name, rendered)

    if (streamed := streams(shape)) is not None:
        seen.pop(streamed, None)
    assert seen == result
    assert rendered.status == operation_model(name).http.get("responseCode", 200)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_answers_an_empty_result(name: str) -> None:
    rendered = render(name, {})

    if rendered.body:
        assert fromstring(rendered.body).tag.startswith(f"{{{XMLNS}}}")
        assert rendered.headers == [("Content-Type", "application/xml")]
    else:
        assert rendered.headers == []


@pytest.mark.parametrize(
    "name", ["DeleteObject", "DeleteBucket", "AbortMultipartUpload", "DeleteBucketTagging", "DeleteObjectTagging", "DeleteBucketPolicy"]
)
def test_what_is_gone_answers_without_content(name: str) -> None:
    rendered = render(name, {"VersionId": "v"})

    assert (rendered.status, rendered.body) == (204, b"")


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("ListBuckets", "ListAllMyBucketsResult"),
        ("ListObjectsV2", "ListBucketResult"),
        ("ListObjectVersions", "ListVersionsResult"),
        ("CreateMultipartUpload", "InitiateMultipartUploadResult"),
        ("DeleteObjects", "DeleteResult"),
        ("GetBucketVersioning", "VersioningConfiguration"),
        ("GetObjectTagging", "Tagging"),
        ("GetObjectAttributes", "GetObjectAttributesResponse"),
    ],
)
def test_roots_are_those_of_s3(name: str, root: str) -> None:
    assert fromstring(render(name, {}).body).tag == f"{{{XMLNS}}}{root}"


def test_a_copy_says_its_result() -> None:
    rendered = render("CopyObject", {"CopyObjectResult": {"ETag": '"e"', "LastModified": MOMENT}, "VersionId": "v"})

    members = "<ETag>&quot;e&quot;</ETag><LastModified>2024-02-29T12:34:56.000Z</LastModified>"
    root = f'<CopyObjectResult xmlns="{XMLNS}">{members}</CopyObjectResult>'
    assert rendered.body.decode() == f'<?xml version="1.0" encoding="UTF-8"?>\n{root}'
    assert ("x-amz-version-id", "v") in rendered.headers


@pytest.mark.parametrize("location", ["eu-west-1", "a&b"])
def test_a_location_is_the_root_itself(location: str) -> None:
    root = fromstring(render("GetBucketLocation", {"LocationConstraint": location}).body)

    assert (root.tag, root.text) == (f"{{{XMLNS}}}LocationConstraint", location)


def test_no_location_is_an_empty_root() -> None:
    root = fromstring(render("GetBucketLocation", {"LocationConstraint": None}).body)

    assert (root.tag, root.text, len(root)) == (f"{{{XMLNS}}}LocationConstraint", None, 0)


def test_a_policy_is_sent_as_it_is() -> None:
    rendered = render("GetBucketPolicy", {"Policy": '{"a": "<"}'})

    assert (rendered.status, rendered.headers, rendered.body) == (200, [("Content-Type", "application/json")], b'{"a": "<"}')


def test_a_head_has_no_body() -> None:
    rendered = render("HeadObject", {"ContentLength": 5, "ETag": '"e"'})

    assert (rendered.status, rendered.headers, rendered.body) == (200, [("Content-Length", "5"), ("ETag", '"e"')], b"")


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("ListObjectsV2", lambda items: {"Contents": ({"Key": key} for key in items)}),
        ("ListObjectVersions", lambda items: {"Versions": ({"Key": key} for key in items)}),
        ("ListBuckets", lambda items: {"Buckets": ({"Name": name} for name in items)}),
    ],
)
def test_a_list_is_asked_for_its_items_as_it_is_written(name: str, result: Callable[[Iterator[str]], dict[str, object]]) -> None:
    asked: list[str] = []
    keys = (asked.append(key) or key for key in map(str, range(1000)))
    pieces = iter(render_response(MODEL.operations[name], result(keys)).pieces)

    first = next(pieces)
    asked_at_first = len(asked)
    rest = list(pieces)

    assert 0 < asked_at_first < 50
    assert len(rest) > 20
    found = fromstring(b"".join([first, *rest])).iter()
    assert [element.text for element in found if element.tag.endswith(("Key", "}Name"))] == asked


def test_object_headers() -> None:
    result = {
        "LastModified": MOMENT,
        "ObjectLockRetainUntilDate": MOMENT,
        "DeleteMarker": False,
        "ContentRange": None,
        "Expires": "0",
        "TagCount": 2,
        "Metadata": {"colour": "blue", "empty": ""},
        "Body": b"not a header",
    }

    assert object_headers(MODEL.operations["GetObject"], result) == [
        ("Last-Modified", "Thu, 29 Feb 2024 12:34:56 GMT"),
        ("x-amz-object-lock-retain-until-date", "2024-02-29T12:34:56.000Z"),
        ("x-amz-delete-marker", "false"),
        ("Expires", "0"),
        ("x-amz-tagging-count", "2"),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-meta-empty", ""),
    ]


def test_a_line_break_in_a_record_ends_no_header() -> None:
    result = {"WebsiteRedirectLocation": "/a\r\nSet-Cookie: b\x00", "Metadata": {"a": "b\nc\td"}}

    assert object_headers(MODEL.operations["GetObject"], result) == [
        ("x-amz-website-redirect-location", "/aSet-Cookie: b"),
        ("x-amz-meta-a", "bc\td"),
    ]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2024, 1, 2, 3, 4, 5, 678_999, tzinfo=UTC), "2024-01-02T03:04:05.000Z"),
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2024-01-02T01:04:05.000Z"),
        (datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05.000Z"),
    ],
)
def test_times_are_utc_in_whole_seconds(moment: datetime, text: str) -> None:
    assert f"<LastModified>{text}</LastModified>" in render("ListObjects", {"Contents": [{"LastModified": moment}]}).body.decode()


def test_control_characters_become_references() -> None:
    body = render("ListObjects", {"Contents": [{"Key": "a\x01b\x00\r\n\t\x7f\uffff"}]}).body.decode()

    assert "<Key>a&#x1;b&#x0;&#xd;\n\t\x7f&#xffff;</Key>" in body


def test_an_empty_list_has_no_element_when_flattened() -> None:
    assert b"<Contents" not in render("ListObjects", {"Contents": []}).body
    assert b"<TagSet></TagSet>" in render("GetObjectTagging", {"TagSet": []}).body


@pytest.mark.parametrize("result", [{"Contents": "key"}, {"Contents": [1]}, {"Contents": 5}, {"Contents": [{"Owner": "me"}]}])
def test_a_result_of_the_wrong_kind_is_a_defect(result: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        render("ListObjects", result)


@given(
    st.text(
        alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\t\n\r"), min_size=1
    )
)
def test_any_text_xml_can_carry_comes_back(key: str) -> None:
    result = {"Contents": [{"Key": key}], "Delimiter": AWKWARD}

    assert read("ListObjects", render("ListObjects", result)) == result


@given(st.integers(0, 4_102_444_800_000))
def test_moments_read_the_same_from_milliseconds(ms: int) -> None:
    assert iso_milliseconds(ms) == iso_time(datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000))
