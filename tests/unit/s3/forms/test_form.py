"""Browser forms: what their fields mean, and what an upload is answered."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.forms.form import Form, form_answer, form_headers, read_form, tagging_document
from proxy.s3.forms.parser import FormField
from proxy.s3.model import load_model

TAGGING = tagging_document(load_model())


def form(filename: str | None = "f.txt", /, **fields: str) -> Form:
    return read_form([FormField(name.replace("_", "-"), value) for name, value in fields.items()], filename)


def test_names_are_in_any_case_and_fields_of_one_name_are_joined() -> None:
    read = read_form([FormField("KEY", "k"), FormField("x-amz-meta-a", "1"), FormField("X-Amz-Meta-A", "2")], None)
    assert read.fields == {"key": "k", "x-amz-meta-a": "1,2"}
    assert read.spelled == {"key": "KEY", "x-amz-meta-a": "x-amz-meta-a"}


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        ("a.txt", "u/a.txt-a.txt"),
        ("C:\\d\\a.txt", "u/a.txt-a.txt"),
        ("/d/a b", "u/a b-a b"),
        ("", "u/-"),
        (None, "u/${filename}-${filename}"),
    ],
)
def test_the_files_name_without_its_path_stands_in_any_field(filename: str | None, key: str) -> None:
    read = form(filename, key="u/${filename}-${filename}", x_amz_meta_name="${filename}")
    assert read.key == key
    assert read.fields["x-amz-meta-name"] == key[2:].partition("-")[0]


@pytest.mark.parametrize("fields", [{"key": "${filename}" * 500}, {f"f{number}": "${filename}" * 10 for number in range(50)}])
def test_a_long_name_of_a_file_cannot_make_fields_grow_without_end(fields: dict[str, str]) -> None:
    with pytest.raises(S3Error, match="MaxPostPreDataLengthExceeded"):
        form("n" * 200, **fields)


@pytest.mark.parametrize("fields", [{}, {"key": ""}])
def test_a_form_must_have_a_key(fields: dict[str, str]) -> None:
    with pytest.raises(S3Error) as caught:
        assert form(**fields).key
    assert (caught.value.code, caught.value.details) == ("InvalidArgument", {"ArgumentName": "key", "ArgumentValue": ""})


def test_fields_become_the_headers_of_an_upload() -> None:
    fields = {
        "key": "k",
        "acl": "private",
        "Content_Type": "text/plain",
        "Cache_Control": "no-store",
        "x_amz_meta_a": "\x01\u4e2d",
        "x_amz_storage_class": "STANDARD",
        "x_amz_checksum_algorithm": "SHA256",
        "x_amz_credential": "c",
        "x_amz_signature": "s",
        "submit": "Upload",
    }
    headers = form_headers(form(**fields), {"host": "h", "content-type": "multipart/form-data", "content-length": "7"}, TAGGING)
    assert headers == {
        "host": "h",
        "x-amz-acl": "private",
        "content-type": "text/plain",
        "cache-control": "no-store",
        "x-amz-meta-a": "\x01\u4e2d",
        "x-amz-storage-class": "STANDARD",
        "x-amz-sdk-checksum-algorithm": "SHA256",
    }


def test_tags_are_a_document() -> None:
    tags = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1</Value></Tag><Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>"
    assert form_headers(form(tagging=tags), {}, TAGGING) == {"x-amz-tagging": "a+b=1&c="}
    for text, code in (("no XML", "MalformedXML"), (tags.replace("a b", "c"), "InvalidTag")):
        with pytest.raises(S3Error, match=code):
            form_headers(form(tagging=text), {}, TAGGING)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "\0"])
def test_a_field_cannot_end_the_header_that_it_stands_for(value: str) -> None:
    with pytest.raises(S3Error, match="InvalidArgument"):
        form_headers(form(content_type=value), {}, TAGGING)


@pytest.mark.parametrize(("asked", "status"), [(None, 204), ("204", 204), ("200", 200), ("404", 204), ("", 204)])
def test_an_upload_is_answered_with_the_status_asked_for(asked: str | None, status: int) -> None:
    fields = {"key": "k"} if asked is None else {"key": "k", "success_action_status": asked}
    read = read_form([FormField(name, value) for name, value in fields.items()], None)
    assert form_answer(read, address="http://h/b/k", bucket="b", etag='"e"') == (status, {"Location": "http://h/b/k"}, b"")


def test_with_201_comes_a_document() -> None:
    read = read_form([FormField("key", "a&b/\u4e2d"), FormField("success_action_status", "201")], None)
    status, headers, body = form_answer(read, address="http://h/b/a%26b", bucket="b", etag='"e"')
    assert (status, headers["Content-Type"]) == (201, "application/xml")
    root = ElementTree.fromstring(body)
    assert root.tag == "PostResponse"
    assert [(element.tag, element.text) for element in root] == [
        ("Location", "http://h/b/a%26b"),
        ("Bucket", "b"),
        ("Key", "a&b/\u4e2d"),
        ("ETag", '"e"'),
    ]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://x.test/done", "http://x.test/done?bucket=b&key=a%2Fb+c&etag=%22e%22"),
        ("https://x.test/?a=1 2", "https://x.test/?a=1%202&bucket=b&key=a%2Fb+c&etag=%22e%22"),
        ("https://x.test/\u00fc#end", "https://x.test/%C3%BC?bucket=b&key=a%2Fb+c&etag=%22e%22#end"),
        ("/relative", None),
        ("x.test", None),
        ("javascript:alert(1)", None),
        ("http://x.test/\r\nSet-Cookie: a", None),
        ("http://[", None),
    ],
)
@pytest.mark.parametrize("name", ["success_action_redirect", "redirect"])
def test_a_browser_is_sent_where_it_can_go(name: str, url: str, location: str | None) -> None:
    read = read_form([FormField("key", "a/b c"), FormField(name, url), FormField("success_action_status", "201")], None)
    status, headers, body = form_answer(read, address="http://h/b/k", bucket="b", etag='"e"')
    if location is None:
        assert status == 201
    else:
        assert (status, headers, body) == (303, {"Location": location}, b"")
