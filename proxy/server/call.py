"""One call: what a handler is told, and what it may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec

from proxy.engine.reading.read import Reading
from proxy.manifest.events import Cause
from proxy.manifest.records import Bucket, ObjectKey, Readable, Tenant, Version
from proxy.s3.copy_source import CopySource
from proxy.s3.errors import S3Error
from proxy.s3.model import Operation
from proxy.s3.notification import SETTING as NOTIFICATION
from proxy.s3.parsing import Params
from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import Resource
from proxy.s3.policy.principal import ANONYMOUS, Principal
from proxy.s3.rendering import object_headers
from proxy.server.body import RequestBody
from proxy.server.guard import CLOSED, Guard
from proxy.services import Services


class OwnedBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket as it was when the request came, and whose it is."""

    bucket: Bucket
    owner: Tenant


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy reads, and the bucket that holds it."""

    source: CopySource
    held: OwnedBucket
    guard: Guard = CLOSED


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """An authorised request, taken apart. `params` are named as boto3 names them; `headers` have lower-case names.

    `bucket` and `owner` are settled: a handler looks neither up, and does not ask again who may do this. Data is coded and sealed with the
    key of `owner`, who need not be the one who asks.
    """

    operation: Operation
    params: Params
    headers: Mapping[str, str]
    principal: Principal = ANONYMOUS
    asker: Tenant | None = None  # the principal's tenant
    services: Services
    held: OwnedBucket | None = None  # the bucket of the request, unless it has none yet
    copied: Origin | None = None  # of the operations that copy
    guard: Guard = CLOSED  # asked again where the body names what a request is about
    ahead: list[Readable] = []  # what was looked up already; to be taken once, as it grows old
    upload: RequestBody | None = None  # of the operations that stream
    request_id: str = ""
    host_id: str = ""
    remote: str = ""  # the address that asks
    hop: str = ""  # the address at the other end of the connection: a proxy's, where one is in between
    early: dict[str, str] = {}  # headers of an answer that is begun before the outcome is known

    @property
    def body(self) -> RequestBody:
        if self.upload is None:
            raise S3Error("MissingRequestBodyError")
        return self.upload

    @property
    def tenant(self) -> Tenant:
        """The account that asks. AccessDenied for none: only an account can own what is made."""
        if self.asker is None:
            raise S3Error("AccessDenied")
        return self.asker

    @property
    def bucket(self) -> Bucket:
        return (self.held or self._held).bucket

    @property
    def owner(self) -> Tenant:
        """The bucket's owner."""
        return (self.held or self._held).owner

    @property
    def origin(self) -> Origin:
        if self.copied is None:
            raise LookupError(f"{self.operation.name} copies nothing")
        return self.copied

    @property
    def source_bucket(self) -> Bucket:
        return self.origin.held.bucket

    @property
    def source_owner(self) -> Tenant:
        return self.origin.held.owner

    @property
    def _held(self) -> OwnedBucket:
        if self.held is None:
            raise LookupError(f"{self.operation.name} is about no bucket")
        return self.held

    @property
    def key(self) -> ObjectKey:
        value = self.params.get("Key")
        return ObjectKey(value if type(value) is str else self.required_text("Key"))

    def cause(self, name: str) -> Cause | None:
        """Return what those who listen to the bucket are told of who did something, by S3's name of it; None if nobody listens."""
        if NOTIFICATION not in self.bucket.settings:
            return None
        return Cause(
            name=name,
            owner=self.owner.canonical_id,
            principal="" if self.asker is None else self.asker.canonical_id,
            source_ip=self.remote,
            request_id=self.request_id,
            host_id=self.host_id,
        )

    async def may_list(self, bucket: Bucket) -> bool:
        """Tell whether the asker may list a bucket of this request: nobody else learns that a key is not there."""
        return await self._guard_of(bucket).may(Action("s3:ListBucket"), Resource(bucket.name))

    def confirm(self, bucket: Bucket, version: Version, version_id: str | None) -> None:
        """Raise AccessDenied where the version found is another than access was decided by, and is not for the asker."""
        guard = self._guard_of(bucket)
        if not guard.allows_all:
            guard.confirm(version, version_id)

    def _guard_of(self, bucket: Bucket) -> Guard:
        return self.copied.guard if self.copied is not None and bucket is self.copied.held.bucket else self.guard

    async def may(self, action: Action) -> bool:
        """Tell whether the asker may do this, too, with the object of the request: of what an answer tells only to some."""
        try:
            await self.guard.check(action, Resource(self.bucket.name, self.text("Key")), self.text("VersionId"))
        except S3Error:
            return False
        return True

    def tell_early(self, result: Mapping[str, object]) -> None:
        """Say what is known already of the answer: it may be begun before the outcome is."""
        self.early.update(object_headers(self.operation, result))

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
    chunks: Reading | None = None
    version: Version | None = None  # what it is of
    failure: str = ""  # set by the sender: why the connection was cut, for the log


Answer = Mapping[str, object] | Download
Handle = Callable[[Call], Awaitable[Answer]]  # what serves an operation


def moment(ms: int) -> datetime:
    """Return stored milliseconds as the model's timestamps."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def rows(document: Params, name: str) -> list[Params]:
    """Return a list of structures out of a parsed document."""
    value = document.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
