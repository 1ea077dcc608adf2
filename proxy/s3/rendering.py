"""Rendering: a result, named as boto3 names it, into status, headers and XML, by the model."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import NamedTuple

from proxy.s3.escaping import xml_text
from proxy.s3.model import Document, Field, Items, Member, Node, Operation, Scalar, Structure

Headers = list[tuple[str, str]]
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_RUN = 16  # items, of up to 6 KB each: what is written at a time takes a few milliseconds at most
_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'


class Rendered(NamedTuple):
    """A response, but for the headers every response has. Its document can be had once, whole or as it is written."""

    status: int
    headers: Headers
    pieces: Iterable[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


class Written(NamedTuple):
    """Elements that are written already: as many as are made at a time. They may stand among the items of a list in a document."""

    text: bytes


def render_response(operation: Operation, result: Mapping[str, object]) -> Rendered:
    """Return the response. Members that are None are left out; lists may be any iterable of what they hold.

    A list in the document is asked for its items as the document is written: in `pieces` a few at a time, as a thousand take long.
    """
    headers = object_headers(operation, result)
    document = operation.answer
    if document is None or operation.status == 204 or operation.method == "HEAD":
        return Rendered(operation.status, headers, ())
    content = result if document.member is None else result.get(document.member)
    if content is None:
        return Rendered(operation.status, headers, ())
    if isinstance(document.content, Scalar):  # a bucket policy: JSON as it was put
        headers.append(("Content-Type", "application/json"))
        return Rendered(operation.status, headers, iter((str(content).encode(),)))
    headers.append(("Content-Type", "application/xml"))
    return Rendered(operation.status, headers, _pieces(operation, document, content))


def object_headers(operation: Operation, result: Mapping[str, object]) -> Headers:
    """Return the members of the result that travel as headers, in the result's order."""
    headers: Headers = []
    fields = operation.answer_headers
    for name, value in result.items():
        if value is None or (field := fields.get(name)) is None:
            continue
        if type(value) is str:
            headers.append((field.wire, value if value.isprintable() else one_line(value)))  # no further call: each GET has ten
        elif isinstance(value, Mapping):
            headers += [(f"{field.wire}{key}", one_line(str(text))) for key, text in value.items()]
        else:
            headers.append((field.wire, _header_text(field, value)))
    return headers


def one_line(text: str) -> str:
    """Return a header's text without what would end the header, whatever record it comes from: a line break costs the whole answer."""
    return text if text.isprintable() else _CONTROL.sub("", text)


def iso_time(moment: datetime) -> str:
    """Return S3's form: UTC, and ".000Z" after whole seconds, cut as they are in Last-Modified, so that the two never differ."""
    return f"{_utc(moment).isoformat(timespec='seconds')[:-6]}.000Z"


def iso_milliseconds(ms: int) -> str:
    """Return `iso_time` of a stored moment, in milliseconds since 1970. A listing has a thousand of them, many in one second."""
    return _iso_seconds(ms // 1000)


@lru_cache(maxsize=4096)
def _iso_seconds(seconds: int) -> str:
    return iso_time(datetime.fromtimestamp(seconds, UTC))


@lru_cache(maxsize=4096)
def http_time(seconds: int) -> str:
    """Return a moment, in seconds since 1970, as headers tell it. The objects that are read most are few."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def _header_text(field: Field, value: object) -> str:
    if isinstance(value, datetime):
        return iso_time(value) if field.iso_time else format_datetime(_utc(value), usegmt=True)
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return _text(value)


def _pieces(operation: Operation, document: Document, content: object) -> Iterator[bytes]:
    if operation.name == "GetBucketLocation":  # its one member is the root element's text, nothing for us-east-1
        location = content.get("LocationConstraint") if isinstance(content, Mapping) else None
        yield f'{_PROLOG}<LocationConstraint xmlns="{XMLNS}">{xml_text(str(location or ""))}</LocationConstraint>'.encode()
        return
    parts = [_PROLOG]
    for written in _written(parts, document.root, document.content, content, f' xmlns="{XMLNS}"'):
        if parts:
            yield "".join(parts).encode()
            parts.clear()
        if written:
            yield written
    yield "".join(parts).encode()


def _written(parts: list[str], name: str, content: Node, value: object, attributes: str) -> Iterator[bytes]:
    """Append the root element to the parts of the document, and pause after some items of each of its lists.

    What it yields follows on the parts so far: what is written already, or nothing.
    """
    if not isinstance(content, Structure):
        _write(parts, name, content, value, attributes)
        return
    fields = _begin_structure(parts, name, content, value, attributes)
    for member in content.members.values():
        if (inner := fields.get(member.name)) is None:
            continue
        if isinstance(member.content, Items):
            yield from _written_list(parts, member, member.content, inner)
        else:
            _write(parts, member.wire, member.content, inner)
    parts.append(f"</{name}>")


def _written_list(parts: list[str], member: Member, content: Items, value: object) -> Iterator[bytes]:
    if not member.flattened:
        parts.append(f"<{member.wire}>")
    wire = member.wire if member.flattened else content.wire
    for number, item in enumerate(_items(value), start=1):
        if type(item) is Written:
            yield item.text
            continue
        _write(parts, wire, content.item, item)
        if number % _RUN == 0:
            yield b""
    if not member.flattened:
        parts.append(f"</{member.wire}>")


def _write(parts: list[str], name: str, content: Node, value: object, attributes: str = "") -> None:
    """Append an element to the parts of the document."""
    if isinstance(content, Scalar):
        text = xml_text(value) if type(value) is str else _text(value)
        parts.append(f"<{name}{attributes}>{text}</{name}>")
    elif isinstance(content, Items):
        parts.append(f"<{name}{attributes}>")
        for item in _items(value):
            _write(parts, content.wire, content.item, item)
        parts.append(f"</{name}>")
    else:
        _write_structure(parts, name, content, value, attributes)


def _begin_structure(parts: list[str], name: str, content: Structure, value: object, attributes: str) -> Mapping[str, object]:
    """Append a structure's start tag; return its members by name."""
    fields = _mapping(name, value)
    xml_attributes = _attributes(content, fields) if content.attributes else ""
    parts.append(f"<{name}{attributes}{xml_attributes}>")
    return fields


def _write_structure(parts: list[str], name: str, content: Structure, value: object, attributes: str) -> None:
    fields = _begin_structure(parts, name, content, value, attributes)
    for member in content.members.values():
        if (inner := fields.get(member.name)) is None:
            continue
        if type(inner) is str and type(member.content) is Scalar:  # most of a listing: no further call
            parts.append(f"<{member.wire}>{xml_text(inner)}</{member.wire}>")
        elif type(inner) is int and type(member.content) is Scalar:
            parts.append(f"<{member.wire}>{inner}</{member.wire}>")
        else:
            _write_member(parts, member, inner)
    parts.append(f"</{name}>")


def _write_member(parts: list[str], member: Member, value: object) -> None:
    if member.flattened and isinstance(member.content, Items):
        for item in _items(value):
            _write(parts, member.wire, member.content.item, item)
    else:
        _write(parts, member.wire, member.content, value)


def _mapping(name: str, value: object) -> Mapping[str, object]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError(f"{name} takes a mapping, not {type(value).__name__}")
    return value


def _items(value: object) -> Iterable[object]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"a list takes an iterable, not {type(value).__name__}")
    return value


def _attributes(content: Structure, value: Mapping[str, object]) -> str:
    """Return attributes; the one S3 has is xsi:type of a grantee."""
    given = [(member.wire, value[member.name]) for member in content.attributes.values() if value.get(member.name) is not None]
    if not given:
        return ""
    return f' xmlns:xsi="{XSI}"' + "".join(f' {wire}="{xml_text(str(text))}"' for wire, text in given)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return iso_time(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode()
    return xml_text(str(value))


def _utc(moment: datetime) -> datetime:
    """Return the moment in UTC; one without a zone is in UTC already."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
