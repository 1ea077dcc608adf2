"""botocore's machine-readable S3 model, compiled once: operations with their URIs, parameters and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

__all__ = ["ListShape", "MapShape", "Model", "Operation", "Shape", "StructureShape", "load_model"]


@dataclass(frozen=True)
class Operation:
    """One S3 operation: how it is recognised, where its parameters travel."""

    name: str
    method: str
    level: str  # service, bucket or object
    literals: Mapping[str, str]  # query keys (and values) that are part of the request line, as ?uploads or ?list-type=2
    input_shape: StructureShape | None
    output_shape: StructureShape | None

    @cached_property
    def inputs(self) -> Mapping[str, tuple[str, str, Shape]]:
        """Wire name (lower case for headers) → (location, boto3's name, shape) of header and query parameters."""
        return {} if self.input_shape is None else dict(_located(self.input_shape))

    @cached_property
    def query_names(self) -> frozenset[str]:
        """Query parameters the operation knows."""
        return frozenset(wire[1:] for wire, (location, _, _) in self.inputs.items() if location == "querystring") | self.literals.keys()

    @cached_property
    def required_query(self) -> frozenset[str]:
        """Query parameters without which this operation is not meant (partNumber, uploadId, versionId …)."""
        shape = self.input_shape
        if shape is None:
            return frozenset()
        required = set(shape.required_members)
        return frozenset(wire[1:] for wire, (where, name, _) in self.inputs.items() if where == "querystring" and name in required)

    @cached_property
    def payload(self) -> str | None:
        """The member that is the request body, if one is."""
        return None if self.input_shape is None else self.input_shape.serialization.get("payload")

    @cached_property
    def outputs(self) -> tuple[tuple[str, str, str, Shape], ...]:
        """(boto3's name, location, wire name, shape) of the header parameters of the response."""
        if self.output_shape is None:
            return ()
        return tuple(
            (name, shape.serialization["location"], shape.serialization.get("name", name), shape)
            for name, shape in self.output_shape.members.items()
            if shape.serialization.get("location") in {"header", "headers"}
        )


@dataclass(frozen=True)
class Model:
    """All operations, by name."""

    operations: Mapping[str, Operation]


def load_model() -> Model:
    """Load and compile the model; some 20 ms, once a process."""
    service = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
    return Model({name: _compile(service.operation_model(name)) for name in service.operation_names})


def _compile(operation: OperationModel) -> Operation:
    path, _, query = operation.http["requestUri"].partition("?")
    level = "object" if "{Key+}" in path else "bucket" if "{Bucket}" in path else "service"
    literals = dict(parse_qsl(query, keep_blank_values=True))
    literals.pop("x-id", None)
    return Operation(operation.name, operation.http["method"], level, literals, operation.input_shape, operation.output_shape)


def _located(shape: StructureShape) -> list[tuple[str, tuple[str, str, Shape]]]:
    """Query parameters get a leading "?" so that they never meet a header of the same name."""
    found = []
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        wire = member.serialization.get("name", name)
        if location == "querystring":
            found.append((f"?{wire}", (location, name, member)))
        elif location in {"header", "headers"}:
            found.append((wire.lower(), (location, name, member)))
    return found
