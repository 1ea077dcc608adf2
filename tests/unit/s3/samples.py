"""Values for any shape of botocore's model: what a client may send, and a server may answer, at full length."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from proxy.s3.model import load_model

MODEL = load_model()
SERVICE = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
MOMENT = datetime(2024, 2, 29, 12, 34, 56, tzinfo=UTC)
KEY = " a key/+%ü//../🙂?x=1&y#z"
AWKWARD = " <a> & \"b\" 'ü' 🙂 ]]> \t\n x "
# Older forms of other operations, and those of other services' hosts.
UNREACHABLE = {
    "GetBucketLifecycle",
    "GetBucketNotification",
    "ListDirectoryBuckets",
    "PutBucketLifecycle",
    "PutBucketNotification",
    "WriteGetObjectResponse",
}
OPERATIONS = sorted(set(SERVICE.operation_names) - UNREACHABLE)  # CopyObject and UploadPartCopy are told by a header


def operation_model(name: str) -> OperationModel:
    return SERVICE.operation_model(name)


def input_of(name: str) -> StructureShape:
    shape = operation_model(name).input_shape
    assert shape is not None
    return shape


def output_of(name: str) -> StructureShape:
    shape = operation_model(name).output_shape
    assert shape is not None
    return shape


def streams(shape: StructureShape) -> str | None:
    """Return the member that is an object's bytes, or a stream of events."""
    payload = shape.serialization.get("payload")
    if payload is None:
        return None
    member = shape.members[payload]
    return payload if member.type_name == "blob" or member.serialization.get("eventstream") else None


def sample(shape: StructureShape) -> dict[str, object]:
    """Return every member of a structure, but for a streaming body."""
    streamed = streams(shape)
    return {name: _member(name, member) for name, member in shape.members.items() if name != streamed}


def _member(name: str, shape: Shape) -> object:
    if name in {"Bucket", "Key"} and shape.serialization.get("location") == "uri":
        return "bucket" if name == "Bucket" else KEY
    if shape.serialization.get("location") in {"header", "headers"} or name.startswith("Response"):
        return _value(shape, "plain text")
    return _value(shape, AWKWARD)


def _value(shape: Shape, text: str) -> object:
    if isinstance(shape, StructureShape):
        return {name: _value(member, text) for name, member in shape.members.items()}
    if isinstance(shape, ListShape):
        return [_value(shape.member, text), _value(shape.member, text)]
    if isinstance(shape, MapShape):
        return {"first": "one", "second": "t w o"}
    scalars: Mapping[str, object] = {"integer": 7, "long": 1 << 40, "boolean": True, "timestamp": MOMENT, "blob": b"\x00\xff bytes"}
    if shape.type_name == "string":
        choices = shape.metadata.get("enum")
        return choices[0] if choices else text
    return scalars[shape.type_name]
