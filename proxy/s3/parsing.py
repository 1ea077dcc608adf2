"""Parsing: a request into the parameters as boto3 names them, by the model. `documents` reads those of its body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.s3.errors import S3Error
from proxy.s3.model import Field, Operation
from proxy.s3.routing import Target
from proxy.s3.values import read_value

Params = dict[str, object]

META = "x-amz-meta-"
# AWS takes these without a value for not given, as the forms of some clients send them; elsewhere an empty number is none.
_ABSENT_IF_EMPTY = frozenset({"max-keys", "max-parts", "max-uploads", "part-number-marker"})
# RFC 9110, sections 13.1.3 and 13.1.4: a recipient must ignore these where the value is no date.
_IGNORED_UNLESS_DATES = frozenset({"if-modified-since", "if-unmodified-since"})


def parse_request(operation: Operation, target: Target, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Params:
    """Return the parameters; the body is left out. Raises InvalidArgument.

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
    take_headers(operation, headers, params)
    return params


def take_headers(operation: Operation, headers: Mapping[str, str], params: Params) -> None:
    """Add the parameters that headers stand for."""
    fields, metadata = operation.headers, {}
    for name, value in headers.items():
        if (field := fields.get(name)) is not None:
            if field.kind == "string":
                params[field.name] = value
            elif (parsed := _header(field, name, value)) is not None:
                params[field.name] = parsed
        elif name.startswith(META):
            metadata[name.removeprefix(META)] = value
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
        return read_value(field.kind, value.strip())
    except (ValueError, OverflowError) as error:
        if field.name == "MpuObjectSize":
            raise S3Error("InvalidRequest", f"Value for x-amz-mp-object-size header is invalid: '{value}'") from error
        fault = "not an integer or within integer range" if field.kind in {"integer", "long"} else "not valid"
        raise S3Error("InvalidArgument", f"Provided {name} {fault}", ArgumentName=name, ArgumentValue=value) from error
