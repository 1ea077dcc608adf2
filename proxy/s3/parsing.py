"""Parsing: a request into the parameters as boto3 names them, by the model."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from proxy.s3.errors import S3Error
from proxy.s3.model import ListShape, MapShape, Operation, Shape, StructureShape
from proxy.s3.routing import Target

Params = dict[str, object]
# A condition on a date that is none is no condition (RFC 9110, section 13.1.3); Expires is kept as sent, whatever it is.
_LENIENT_DATES = frozenset({"if-modified-since", "if-unmodified-since"})
_FREE_DATES = frozenset({"expires", "response-expires"})
_PREFIX = re.compile(r"^\{[^}]*\}")


def parse_request(
    operation: Operation, target: Target, query: Sequence[tuple[str, str]], headers: Mapping[str, str], body: bytes = b""
) -> Params:
    """Return the parameters; a streaming body is left out. Raises MalformedXML and InvalidArgument."""
    params: Params = {}
    if target.bucket is not None:
        params["Bucket"] = target.bucket
    if target.key is not None:
        params["Key"] = target.key
    inputs = operation.inputs
    for name, value in query:
        if (found := inputs.get(f"?{name}")) is not None:
            params[found[1]] = _scalar(found[2], value, name)
    metadata: dict[str, str] = {}
    for name, value in headers.items():
        if name in _LENIENT_DATES and not _is_date(value):
            continue
        if (found := inputs.get(name)) is not None:
            params[found[1]] = _scalar(found[2], value, name)
        elif name.startswith("x-amz-meta-"):
            metadata[name[11:]] = value
    if metadata and "x-amz-meta-" in inputs:
        params["Metadata"] = metadata
    if operation.payload is not None and operation.input_shape is not None:
        shape = operation.input_shape.members[operation.payload]
        if isinstance(shape, StructureShape) and body:
            params[operation.payload] = _structure(shape, _document(body))
    return params


def _is_date(text: str) -> bool:
    try:
        _timestamp(text)
    except ValueError:
        return False
    return True


def _document(body: bytes) -> Element:
    try:
        return fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise S3Error("MalformedXML") from error


def _value(shape: Shape, element: Element) -> object:
    if isinstance(shape, StructureShape):
        return _structure(shape, element)
    if isinstance(shape, ListShape):
        return [_value(shape.member, child) for child in element]
    if isinstance(shape, MapShape):
        raise S3Error("MalformedXML")
    try:
        return _scalar(shape, element.text or "", _local(element))
    except S3Error as error:
        raise S3Error("MalformedXML") from error


def _structure(shape: StructureShape, element: Element) -> Params:
    children: dict[str, list[Element]] = {}
    for child in element:
        children.setdefault(_local(child), []).append(child)
    result: Params = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        if member.serialization.get("xmlAttribute"):
            values = [value for key, value in element.attrib.items() if _PREFIX.sub("", key) == wire.rpartition(":")[2]]
            if values:
                result[name] = values[0]
        elif isinstance(member, ListShape) and member.serialization.get("flattened"):
            wire = member.member.serialization.get("name", wire) if "name" not in member.serialization else wire
            if wire in children:
                result[name] = [_value(member.member, child) for child in children[wire]]
        elif wire in children:
            result[name] = _value(member, children[wire][0])
    missing = [name for name in shape.required_members if name not in result]
    if missing:
        raise S3Error("MalformedXML")
    return result


def _scalar(shape: Shape, text: str, wire: str) -> object:
    kind = "string" if wire.lower() in _FREE_DATES else shape.type_name
    try:
        if kind in {"integer", "long"}:
            if not re.fullmatch(r"-?\d{1,19}", text):
                raise ValueError(text)
            return int(text)
        if kind == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if kind == "timestamp":
            return _timestamp(text)
        if kind == "blob":
            return b64decode(text, validate=True)
        if kind == "list":
            return [item.strip() for item in text.split(",")]
    except (ValueError, KeyError, TypeError) as error:
        raise S3Error("InvalidArgument", f"Provided {wire} not valid", ArgumentName=wire, ArgumentValue=text) from error
    return text


def _timestamp(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        raise ValueError(text) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _local(element: Element) -> str:
    return _PREFIX.sub("", str(element.tag))
