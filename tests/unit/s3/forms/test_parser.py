"""The parser of browser forms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.forms.parser import MAX_FORM_BYTES, Event, FileData, FileEnd, FormField, FormFile, FormParser, parse_boundary

BOUNDARY = b"xYzZY"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return b"--" + BOUNDARY + f'\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def file(value: bytes, filename: str = "f.txt") -> bytes:
    return part("file", value, f'; filename="{filename}"\r\nContent-Type: text/plain')


END = b"--" + BOUNDARY + b"--\r\n"


def parse(pieces: Iterable[bytes]) -> list[Event]:
    """Return the events, with the file's bytes joined."""
    parser, events = FormParser(BOUNDARY), list[Event]()
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, FileData) and events and isinstance(events[-1], FileData):
                events[-1] = FileData(events[-1].data + event.data)
            else:
                events.append(event)
    parser.finish()
    return events


def refusal(*pieces: bytes) -> tuple[str, dict[str, str | int]]:
    with pytest.raises(S3Error) as caught:
        parse(pieces)
    return caught.value.code, caught.value.details


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def test_fields_come_first_then_the_file_and_what_follows_is_ignored() -> None:
    form = part("key", b"a b") + part("x-amz-meta-\u00fc", "\u4e2d".encode()) + file(b"content") + part("submit", b"go") + END
    offset = form.index(b"content")
    assert parse([form]) == [
        FormField("key", "a b"),
        FormField("x-amz-meta-\u00fc", "\u4e2d"),
        FormFile("f.txt", offset),
        FileData(b"content"),
        FileEnd(),
    ]


@given(
    value=st.binary(max_size=60) | st.sampled_from([b"\r\n--xYzZ", b"\r\n\r\n--xYz", b"\r", b"\r\n--" + BOUNDARY[:-1] + b"\r\n"]),
    content=st.lists(st.sampled_from([b"\r", b"\n", b"--", BOUNDARY[:3], b"a", b"\r\n--xYz", b"\r\n"]), max_size=30),
    places=st.lists(st.integers(0, 2000), max_size=12),
)
def test_however_it_arrives_the_form_is_the_same(value: bytes, content: list[bytes], places: list[int]) -> None:
    data = b"".join(content)
    text = value.decode("latin-1").replace("\r\n--xYzZY", "")
    whole = b"preamble\r\n" + part("a", text.encode()) + file(data) + part("b", b"x") + END + b"epilogue"
    events = parse([whole])
    assert events == parse(cut(whole, places)) == parse(bytes([byte]) for byte in whole)
    assert events[0] == FormField("a", text)
    assert b"".join(event.data for event in events if isinstance(event, FileData)) == data


def test_a_delimiter_may_have_white_space_behind_it_and_a_form_no_line_break_at_its_end() -> None:
    form = (part("key", b"k") + file(b"x") + END).replace(b"xYzZY\r\n", b"xYzZY \t\r\n", 1)
    assert parse([form.removesuffix(b"\r\n")])[0] == FormField("key", "k")


def test_empty_values_and_an_empty_file() -> None:
    form = part("key", b"") + file(b"") + END
    assert parse([form]) == [FormField("key", ""), FormFile("f.txt", form.index(b"\r\n" + END)), FileEnd()]


@pytest.mark.parametrize(
    ("more", "filename"),
    [
        ('; filename="a.txt"', "a.txt"),
        ("; filename=a.txt", "a.txt"),
        ('; FileName="a;b=c.txt"; other=1', "a;b=c.txt"),
        ('; filename="C:\\dir\\a.txt"', "C:\\dir\\a.txt"),
        ('; filename="say \\"a\\".txt"', 'say "a".txt'),
        ('; filename=""', ""),
        ("", None),
    ],
)
def test_the_files_name_is_what_the_client_calls_it(more: str, filename: str | None) -> None:
    events = parse([part("File", b"x", more) + END])
    assert isinstance(events[0], FormFile)
    assert events[0].filename == filename


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"no form at all",
        part("key", b"k"),
        part("key", b"k") + file(b"x"),
        file(b"x").replace(b"form-data; name", b"form-data; nome") + END,
        file(b"x").replace(b'f.txt"', b"f.txt") + END,
        b"--" + BOUNDARY + b"\r\n\r\nno head\r\n" + END,
        file(b"x").replace(b"xYzZY\r\n", b"xYzZYmore\r\n", 1) + END,
        part("key", b"\xff") + file(b"x") + END,
    ],
)
def test_what_is_no_form_is_refused(form: bytes) -> None:
    assert refusal(form)[0] == "MalformedPOSTRequest"


def test_a_form_has_one_file() -> None:
    assert refusal(part("key", b"k") + END) == ("InvalidArgument", {"ArgumentName": "file", "ArgumentValue": 0})
    assert refusal(file(b"x") + file(b"y") + END) == ("InvalidArgument", {"ArgumentName": "file", "ArgumentValue": 2})
    attachment = file(b"x").replace(b"form-data", b"attachment")
    assert refusal(attachment + END) == ("InvalidArgument", {"ArgumentName": "file", "ArgumentValue": 0})


@pytest.mark.parametrize("step", [1_000_000, 1000, 7])
@pytest.mark.parametrize(
    "form",
    [
        part("key", b"k" * MAX_FORM_BYTES),
        part("key", b"k" * 1000) * 25,
        b"x" * (MAX_FORM_BYTES + 100),
        b"--" + BOUNDARY + b"\r\nh: " + b"v" * MAX_FORM_BYTES,
        b"--" + BOUNDARY + b" " * (MAX_FORM_BYTES + 100),
    ],
)
def test_what_stands_before_the_file_is_bounded(form: bytes, step: int) -> None:
    pieces = [form[start : start + step] for start in range(0, len(form), step)]
    assert refusal(*pieces) == ("MaxPostPreDataLengthExceeded", {"MaxPostPreDataLengthBytes": 20480})


def test_what_follows_the_file_is_bounded() -> None:
    assert refusal(file(b"x") + part("y", b"y" * MAX_FORM_BYTES) + END)[0] == "MaxPostPreDataLengthExceeded"
    assert refusal(file(b"x") + END + b"y" * MAX_FORM_BYTES)[0] == "MaxPostPreDataLengthExceeded"
    parse([file(b"x" * 100_000) + part("y", b"y" * (MAX_FORM_BYTES - 500)) + END])


def test_a_parser_keeps_little_of_a_file() -> None:
    parser = FormParser(BOUNDARY)
    parser.feed(part("key", b"k") + file(b"")[:-2])
    for piece in (b"\r\n--xYz" * 10_000, b"\r" * 100_000, b"x" * 100_000):
        passed = sum(len(event.data) for event in parser.feed(piece) if isinstance(event, FileData))
        assert passed >= len(piece) - 20


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; BOUNDARY="a b?c"', b"a b?c"),
        (f"multipart/form-data;boundary={'b' * 70}", b"b" * 70),
    ],
)
def test_the_boundary_is_a_parameter_of_the_type(content_type: str, boundary: bytes) -> None:
    assert parse_boundary(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("text/html", "PreconditionFailed"),
        ("", "PreconditionFailed"),
        ("multipart/mixed; boundary=x", "PreconditionFailed"),
        ("multipart/form-data", "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=", "MalformedPOSTRequest"),
        (f"multipart/form-data; boundary={'b' * 71}", "MalformedPOSTRequest"),
        ('multipart/form-data; boundary="a\r"', "MalformedPOSTRequest"),
    ],
)
def test_what_is_no_forms_type_is_refused(content_type: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_boundary(content_type)
    assert caught.value.code == code
