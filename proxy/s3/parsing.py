"""Parsing: a request into the parameters as boto3 names them, by the model."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from proxy.s3.errors import S3Error
from proxy.s3.model import Document, Field, Items, Member, Node, Operation, Scalar, Structure
from proxy.s3.routing import Target

Params = dict[str, object]

_META = "x-amz-meta-"
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
# The largest document S3 takes completes an upload of 10,000 parts, of up to 11 elements each. A tree costs far more than its text.
_MAX_TAGS = 250_000
_MAX_NAMESPACE = 256  # characters; S3's own has 39
# Older SDKs call the document as they call its shape or its member, and AWS takes that.
_OTHER_ROOTS = {"CompleteMultipartUpload": ("CompletedMultipartUpload", "MultipartUpload")}
# AWS takes these without a value for not given, as the forms of some clients send them; elsewhere an empty number is none.
_ABSENT_IF_EMPTY = frozenset({"max-keys", "max-parts", "max-uploads", "part-number-marker"})
# RFC 9110, sections 13.1.3 and 13.1.4: a recipient must ignore these where the value is no date.
_IGNORED_UNLESS_DATES = frozenset({"if-modified-since", "if-unmodified-since"})


def parse_request(
    operation: Operation, target: Target, query: Sequence[tuple[str, str]], headers: Mapping[str, str], body: bytes = b""
) -> Params:
    """Return the parameters; a streaming body is left out. Raises MalformedXML and InvalidArgument.

    Header names are in lower case. What the operation does not know is left out, as on S3.
    """
    params: Params = {}
    if target.bucket is not None:
        params["Bucket"] = target.bucket
    if target.key is not None:
        params["Key"] = target.key
    for name, value in query:
        if (field := operation.query.get(name)) is not None and (value or name not in _ABSENT_IF_EMPTY):
            params[field.name] = _parameter(field, name, value)
    _take_headers(operation, headers, params)
    if body and operation.document is not None:
        _take_document(operation.document, body, params)
    return params


def _take_headers(operation: Operation, headers: Mapping[str, str], params: Params) -> None:
    fields, metadata = operation.headers, {}
    for name, value in headers.items():
        if (field := fields.get(name)) is not None:
            if field.kind == "string":
                params[field.name] = value
            elif (parsed := _header(field, name, value)) is not None:
                params[field.name] = parsed
        elif name.startswith(_META):
            metadata[name.removeprefix(_META)] = value
    if metadata and operation.metadata is not None:
        params[operation.metadata] = metadata


def _parameter(field: Field, name: str, value: str) -> object:
    if name.startswith("response-"):
        _check_header_text(name, value)
    return value if field.kind == "string" else _located(field, name, value)


def _check_header_text(name: str, value: str) -> None:
    """A presigned URL may say what headers the answer has, but not end them with a line break of its own."""
    if not value.isprintable() or not _is_latin_1(value):
        message = "Header value cannot be represented using ISO-8859-1."
        raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)


def _is_latin_1(text: str) -> bool:
    return all(character <= "\xff" for character in text)


def _header(field: Field, name: str, value: str) -> object | None:
    """Return a header's value; None where it is to be ignored."""
    try:
        return _located(field, name, value)
    except S3Error:
        if name in _IGNORED_UNLESS_DATES:
            return None
        raise


def _located(field: Field, name: str, value: str) -> object:
    try:
        return _READERS[field.kind](value.strip())
    except (ValueError, OverflowError) as error:
        raise S3Error("InvalidArgument", f"Provided {name} not valid", ArgumentName=name, ArgumentValue=value) from error


def _take_document(document: Document, body: bytes, params: Params) -> None:
    value = _bare_text(body) if isinstance(document.content, Scalar) else _value(document.content, _root(body, document.root))
    if document.member is not None:
        params[document.member] = value
    elif isinstance(value, dict):
        params.update(value)


def _bare_text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidRequest", "The body is not UTF-8") from None


def _root(body: bytes, name: str) -> Element:
    """Parse XML without a document type: no entities, nothing fetched from elsewhere."""
    if body.count(b"<") > _MAX_TAGS:
        raise S3Error("MalformedXML")
    try:
        element = _parsed(body)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise S3Error("MalformedXML") from error
    root = _local(element.tag)
    if root != name and root not in _OTHER_ROOTS.get(name, ()):
        raise S3Error("MalformedXML")
    return element


def _parsed(body: bytes) -> Element:
    parser = DefusedXMLParser(forbid_dtd=True)
    parser.parser.StartNamespaceDeclHandler = _check_namespace
    parser.feed(body)
    element: Element = parser.close()
    return element


def _check_namespace(_prefix: str | None, uri: str | None) -> None:
    """Refuse a long namespace: the parser copies it for every element it holds for, so 1 MiB of them takes half a minute."""
    if uri is not None and len(uri) > _MAX_NAMESPACE:
        raise ValueError(uri[:_MAX_NAMESPACE])


def _value(content: Node, element: Element) -> object:
    if isinstance(content, Structure):
        return _structure(content, element)
    if isinstance(content, Items):
        if any(_local(child.tag) != content.wire for child in element):
            raise S3Error("MalformedXML")
        return [_value(content.item, child) for child in element]
    return _scalar(content, element)


def _structure(content: Structure, element: Element) -> Params:
    """Read the members. Elements the model does not know are passed over; one given twice is refused, as it has two meanings."""
    result: Params = {}
    for child in element:
        member = content.members.get(_local(child.tag))
        if member is not None:
            _take_member(member, child, result)
    if content.attributes:
        for name, text in element.attrib.items():
            attribute = content.attributes.get(_local(name))
            if attribute is not None:
                result[attribute.name] = text
    if not content.required <= result.keys():
        raise S3Error("MalformedXML")
    return result


def _take_member(member: Member, child: Element, result: Params) -> None:
    if member.flattened and isinstance(member.content, Items):
        items = result.setdefault(member.name, [])
        if isinstance(items, list):
            items.append(_value(member.content.item, child))
    elif member.name in result:
        raise S3Error("MalformedXML")
    else:
        result[member.name] = _value(member.content, child)


def _scalar(content: Scalar, element: Element) -> object:
    text = element.text or ""
    if len(element):
        raise S3Error("MalformedXML")
    if content.kind == "string":
        return text
    try:
        return _READERS[content.kind](text.strip())
    except (ValueError, OverflowError) as error:
        raise S3Error("MalformedXML") from error


def _local(tag: str) -> str:
    """Return a name without its namespace, which clients may leave out."""
    return tag.rpartition("}")[2]


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _boolean(text: str) -> bool:
    lower = text.lower()
    if lower not in {"true", "false"}:
        raise ValueError(text)
    return lower == "true"


def _timestamp(text: str) -> datetime:
    """Read ISO 8601, as in documents, or an HTTP date in any of its three forms."""
    moment = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _blob(text: str) -> bytes:
    return b64decode(text, validate=True)


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


_READERS: Mapping[str, Callable[[str], object]] = {
    "string": str,
    "integer": _integer,
    "long": _integer,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "blob": _blob,
    "list": _list,
}
