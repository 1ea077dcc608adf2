"""One call: what a handler is told, and what it may answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec

from proxy.manifest.records import BucketName, ObjectKey, Tenant
from proxy.s3.errors import S3Error
from proxy.s3.model import Operation
from proxy.s3.parsing import Params
from proxy.server.body import RequestBody
from proxy.services import Services


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated request, taken apart. `params` are named as boto3 names them; `headers` have lower-case names."""

    operation: Operation
    params: Params
    headers: Mapping[str, str]
    tenant: Tenant
    services: Services
    upload: RequestBody | None = None  # of the operations that stream

    @property
    def body(self) -> RequestBody:
        if self.upload is None:
            raise S3Error("MissingRequestBodyError")
        return self.upload

    @property
    def bucket(self) -> BucketName:
        return BucketName(self.required_text("Bucket"))

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.required_text("Key"))

    def required_text(self, name: str) -> str:
        value = self.params.get(name)
        if not isinstance(value, str):
            raise S3Error("InvalidArgument", f"This request needs {name}", ArgumentName=name)
        return value

    def text(self, name: str) -> str | None:
        value = self.params.get(name)
        return value if isinstance(value, str) else None

    def integer(self, name: str) -> int | None:
        value = self.params.get(name)
        return value if isinstance(value, int) else None

    def moment(self, name: str) -> datetime | None:
        value = self.params.get(name)
        return value if isinstance(value, datetime) else None

    def document(self, name: str) -> Params:
        """Return the body's document. MalformedXML if there was none."""
        value = self.params.get(name)
        if not isinstance(value, dict):
            raise S3Error("MissingRequestBodyError" if value is None else "MalformedXML")
        return value


class Download(msgspec.Struct, kw_only=True):
    """An answer whose body is an object's bytes. Without `chunks` only the headers are sent, `length` among them."""

    status: int
    headers: list[tuple[str, str]]
    length: int
    chunks: AsyncIterator[bytes | memoryview] | None = None
    failure: str = ""  # set by the sender: why the connection was cut, for the log


Answer = Mapping[str, object] | Download
Handler = Callable[[Call], Awaitable[Answer]]


def moment(ms: int) -> datetime:
    """Return stored milliseconds as the model's timestamps."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def rows(document: Params, name: str) -> list[Params]:
    """Return a list of structures out of a parsed document."""
    value = document.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
