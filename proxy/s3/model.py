"""botocore's machine-readable S3 model, compiled once: operations, where their parameters travel, and their documents.

Only this module knows botocore. Routing, parsing and rendering read the small records below, made for speed: a shape of
botocore's is asked for everything by string, at every use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from urllib.parse import parse_qsl

from botocore.loaders import Loader
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape


@dataclass(frozen=True, slots=True)
class Model:
    """All operations, by name."""

    operations: Mapping[str, Operation]


@dataclass(frozen=True, slots=True)
class Operation:
    """One S3 operation: how it is recognised, where its parameters travel, both ways."""

    name: str
    method: str
    level: str  # service, bucket or object
    status: int
    literals: Mapping[str, str]  # query keys (and values) that are part of the request line, as ?uploads or ?list-type=2
    required_query: frozenset[str]  # query parameters without which this operation is not meant: partNumber, uploadId
    query: Mapping[str, Field]
    headers: Mapping[str, Field]  # by lower-case name
    metadata: str | None  # the member that takes x-amz-meta-*
    document: Document | None  # the request's body, unless it is an object's bytes
    answer_headers: Mapping[str, Field]  # by boto3's name
    answer: Document | None


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter in a header or in the query. `name` is boto3's, `wire` the protocol's: of a map, the prefix."""

    name: str
    wire: str
    kind: str  # string, integer, long, boolean, timestamp, list or map
    iso_time: bool  # how a timestamp is written; otherwise as an HTTP date


@dataclass(frozen=True, slots=True)
class Document:
    """A body: XML, or, where the content is a scalar, bare text."""

    member: str | None  # the member that is the body; None: all members that do not travel elsewhere
    root: str
    content: Node


@dataclass(frozen=True, slots=True)
class Structure:
    """An element with members."""

    members: Mapping[str, Member]  # by the protocol's name
    attributes: Mapping[str, Member]  # by local name
    required: frozenset[str]


@dataclass(frozen=True, slots=True)
class Items:
    """A list. Each item is an element `wire`, unless the member that holds the list is flattened."""

    wire: str
    item: Node


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text."""

    kind: str


Node = Structure | Items | Scalar


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a structure. A flattened list has no element of its own: its items stand where it would."""

    name: str
    wire: str
    content: Node
    flattened: bool


# Where the answer's root element is not the output shape's name. Source: response syntax in the Amazon S3 API Reference.
_ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CreateSession": "CreateSessionResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBucketAnalyticsConfigurations": "ListBucketAnalyticsConfigurationResult",
    "ListBucketIntelligentTieringConfigurations": "ListBucketIntelligentTieringConfigurationsOutput",
    "ListBucketInventoryConfigurations": "ListInventoryConfigurationsResult",
    "ListBucketMetricsConfigurations": "ListMetricsConfigurationsResult",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
# The model has 200. Source: sample response of PutBucketTagging in the Amazon S3 API Reference.
_STATUSES = {"PutBucketTagging": 204, "PutBucketPolicy": 204}
# The model has these as dates; S3 keeps and returns any text, "0" and "-1" among it.
_FREE_TEXT = frozenset({"Expires", "ResponseExpires"})
_ELSEWHERE = frozenset({"header", "headers", "querystring", "uri"})


@cache
def load_model() -> Model:
    """Load and compile the model; some tens of milliseconds, once a process."""
    service = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
    operations = {name: _compile(service.operation_model(name)) for name in service.operation_names}
    return Model({**operations, "PostObject": _posted(operations["PutObject"])})


def _posted(put: Operation) -> Operation:
    """Return what the model lacks: PutObject by a browser's form, whose fields are called as the headers are."""
    return replace(put, name="PostObject", method="POST", level="bucket", status=204)


def _compile(operation: OperationModel) -> Operation:
    path, _, query = operation.http["requestUri"].partition("?")
    literals = dict(parse_qsl(query, keep_blank_values=True))
    literals.pop("x-id", None)
    asked, told = operation.input_shape, operation.output_shape
    required = () if asked is None else asked.required_members
    parameters = {field.wire: field for field in _fields(asked, "querystring")}
    return Operation(
        name=operation.name,
        method=operation.http["method"],
        level="object" if "{Key+}" in path else "bucket" if "{Bucket}" in path else "service",
        status=_STATUSES.get(operation.name) or int(operation.http.get("responseCode", 200)),
        literals=literals,
        required_query=frozenset(wire for wire, field in parameters.items() if field.name in required),
        query=parameters,
        headers={field.wire.lower(): field for field in _fields(asked, "header")},
        metadata=next((field.name for field in _fields(asked, "headers")), None),
        document=_document(asked, asked.name if asked else ""),
        answer_headers={field.name: field for location in ("header", "headers") for field in _fields(told, location)},
        answer=_document(told, _ROOTS.get(operation.name, told.name if told else "")),
    )


def _fields(shape: StructureShape | None, location: str) -> Iterator[Field]:
    """Yield the members that travel in one place."""
    for name, member in () if shape is None else shape.members.items():
        if member.serialization.get("location") == location:
            wire = member.serialization.get("name", name)
            kind = "string" if name in _FREE_TEXT else member.type_name
            yield Field(name, wire, kind, iso_time=member.serialization.get("timestampFormat") == "iso8601")


def _document(shape: StructureShape | None, root: str) -> Document | None:
    if shape is None:
        return None
    payload = shape.serialization.get("payload")
    if payload is None:
        own = _structure(shape)
        return Document(None, shape.serialization.get("name", root), own) if own.members else None
    member = shape.members[payload]
    if member.type_name == "blob" or member.serialization.get("eventstream"):  # an object's bytes
        return None
    return Document(payload, member.serialization.get("name", payload), _node(member))


def _node(shape: Shape) -> Node:
    if isinstance(shape, StructureShape):
        return _structure(shape)
    if isinstance(shape, ListShape):
        return Items(shape.member.serialization.get("name", "member"), _node(shape.member))
    return Scalar(shape.type_name)


def _structure(shape: StructureShape) -> Structure:
    members, attributes = {}, {}
    for name, member in shape.members.items():
        if member.serialization.get("location") in _ELSEWHERE or member.serialization.get("eventpayload"):
            continue
        wire = _wire_name(name, member)
        found = Member(name, wire, _node(member), flattened=bool(member.serialization.get("flattened")))
        if member.serialization.get("xmlAttribute"):
            attributes[wire.rpartition(":")[2]] = found
        else:
            members[wire] = found
    return Structure(members, attributes, frozenset(shape.required_members) & {member.name for member in members.values()})


def _wire_name(name: str, member: Shape) -> str:
    if isinstance(member, ListShape) and member.serialization.get("flattened") and "name" not in member.serialization:
        return str(member.member.serialization.get("name", name))
    return str(member.serialization.get("name", name))
