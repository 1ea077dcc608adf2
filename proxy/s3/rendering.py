"""Rendering: a result, named as boto3 names it, into status, headers and XML, by the model."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import NamedTuple
from xml.sax.saxutils import escape

from proxy.s3.model import ListShape, Operation, Shape, StructureShape

Headers = list[tuple[str, str]]
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
# Operations that S3 answers with 204 although the model does not say so.
_NO_CONTENT = re.compile(r"^(Delete(?!Objects)|Abort)|^PutBucketPolicy$")
# Root elements that are not the shape's name.
_ROOTS = {
    "ListBuckets": "ListAllMyBucketsResult", "ListObjects": "ListBucketResult", "ListObjectsV2": "ListBucketResult",
    "ListObjectVersions": "ListVersionsResult", "ListMultipartUploads": "ListMultipartUploadsResult", "ListParts": "ListPartsResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult", "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "DeleteObjects": "DeleteResult", "GetBucketTagging": "Tagging", "GetObjectTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketAcl": "AccessControlPolicy", "GetObjectAcl": "AccessControlPolicy", "GetObjectAttributes": "GetObjectAttributesResponse",
}  # fmt: skip
# Characters XML 1.0 has no place for; S3 sends them as references all the same, and clients ask for encoding-type=url.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\r]")


class Rendered(NamedTuple):
    status: int
    headers: Headers
    body: bytes


def render_response(operation: Operation, result: Mapping[str, object]) -> Rendered:
    """Return the whole response, but for the headers every response has."""
    headers = object_headers(operation, result)
    if _NO_CONTENT.match(operation.name):
        return Rendered(204, headers, b"")
    body = _document(operation, result)
    if body:
        headers.append(("Content-Type", "application/xml"))
    return Rendered(200, headers, body)


def object_headers(operation: Operation, result: Mapping[str, object]) -> Headers:
    """Return the members of the result that travel as headers."""
    headers: Headers = []
    for name, location, wire, _ in operation.outputs:
        value = result.get(name)
        if value is None:
            continue
        if location == "headers" and isinstance(value, Mapping):
            headers += [(f"{wire}{key}", str(text)) for key, text in value.items()]
        else:
            headers.append((wire, _header_text(value)))
    return headers


def _document(operation: Operation, result: Mapping[str, object]) -> bytes:
    shape = operation.output_shape
    if shape is None:
        return b""
    if operation.name == "GetBucketLocation":
        location = escape(str(result.get("LocationConstraint") or ""))
        return _with_prolog(f'<LocationConstraint xmlns="{XMLNS}">{location}</LocationConstraint>')
    payload = shape.serialization.get("payload")
    if payload is not None:
        member = shape.members[payload]
        if not isinstance(member, StructureShape) or payload not in result:
            return b""
        root = member.serialization.get("name", payload)
        return _with_prolog(_element(root, member, result[payload], f' xmlns="{XMLNS}"'))
    if all(member.serialization.get("location") for member in shape.members.values()):
        return b""
    return _with_prolog(_element(_ROOTS.get(operation.name, shape.name), shape, result, f' xmlns="{XMLNS}"'))


def _with_prolog(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _element(name: str, shape: Shape, value: object, attributes: str = "") -> str:
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        parts, extra = [], ""
        for member_name, member in shape.members.items():
            if member_name not in value or value[member_name] is None or member.serialization.get("location"):
                continue
            wire = member.serialization.get("name", member_name)
            if member.serialization.get("xmlAttribute"):
                extra += f' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {wire}="{escape(str(value[member_name]))}"'
            else:
                parts.append(_member(wire, member, value[member_name]))
        return f"<{name}{attributes}{extra}>{''.join(parts)}</{name}>"
    return f"<{name}>{_text(value)}</{name}>"


def _member(wire: str, shape: Shape, value: object) -> str:
    if isinstance(shape, ListShape) and isinstance(value, Sequence):
        if shape.serialization.get("flattened"):
            return "".join(_element(wire, shape.member, item) for item in value)
        inner = shape.member.serialization.get("name", "member")
        return f"<{wire}>{''.join(_element(inner, shape.member, item) for item in value)}</{wire}>"
    return _element(wire, shape, value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return iso_time(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    text = escape(str(value), {'"': "&quot;"})
    return _CONTROL.sub(lambda match: f"&#x{ord(match[0]):x};", text)


def _header_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return format_datetime(value, usegmt=True)
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def iso_time(moment: datetime) -> str:
    """Return S3's form: UTC, milliseconds, Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
