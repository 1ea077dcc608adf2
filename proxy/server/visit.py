"""One visit: what becomes known of a request on its way, for the answer and the log."""

from __future__ import annotations

from collections.abc import Mapping
from random import getrandbits
from time import perf_counter

from proxy.s3.model import Operation
from proxy.s3.routing import Target
from proxy.server.identity.auth import Sender
from proxy.server.telemetry import Answered
from proxy.server.wire.inlet import Inlet
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response

_SAME_ORIGIN: Mapping[str, str] = {}


class Visit:
    """What is known of a request so far, for the answer and the log."""

    __slots__ = (
        "code",
        "cross_origin",
        "file_size",
        "inlet",
        "of_website",
        "operation",
        "pays",
        "raw_path",
        "raw_query",
        "remote",
        "request",
        "request_id",
        "sender",
        "sent_bytes",
        "started",
        "status",
        "target",
        "tenant",
    )

    def __init__(self, request: Request, inlet: Inlet) -> None:
        self.started = perf_counter()
        self.request = request
        self.inlet = inlet
        self.remote = request.remote  # who asks; where a proxy is in between, what it says of that, as soon as the headers are read
        self.request_id = f"{getrandbits(64):016X}"  # a name, no secret: not worth a system call
        self.raw_path, _, self.raw_query = _origin_form(request.raw_path).partition("?")
        self.target: Target | None = None
        self.operation: Operation | None = None
        self.of_website = False
        self.file_size: int | None = None  # of the file that a form has brought: only its end tells
        self.tenant = ""
        self.sender: Sender | None = None  # once it is proved
        self.cross_origin: Mapping[str, str] = _SAME_ORIGIN  # headers of every answer to a cross-origin request
        self.pays = False  # the requester, and not the bucket's owner
        self.code = ""
        self.status = 499  # nginx's number for a client that went away, if nothing else comes of it
        self.sent_bytes = 0

    @property
    def operation_name(self) -> str:
        return "" if self.operation is None else self.operation.name

    @property
    def resource(self) -> str:
        if self.target is None or self.target.bucket is None:
            return self.raw_path
        return f"/{self.target.bucket}" if self.target.key is None else f"/{self.target.bucket}/{self.target.key}"

    def proved(self, sender: Sender) -> None:
        """It is known who has sent the request."""
        tenant = sender.tenant
        self.sender, self.tenant = sender, "" if tenant is None else tenant.name

    def answered(self, response: Response) -> None:
        """Note the answer. Of one that was begun, what the client has taken counts; any other is about to be sent whole."""
        self.status = response.status
        if self.request.method != "HEAD":
            self.sent_bytes = self.request.outlet.sent_bytes if response.is_begun else response.length_bytes

    def outcome(self) -> Answered:
        return Answered(
            request_id=self.request_id,
            method=self.request.method,
            resource=self.resource,
            operation=self.operation_name,
            tenant=self.tenant,
            remote=self.remote,
            status=self.status,
            code=self.code,
            received_bytes=self.inlet.received_bytes,
            sent_bytes=self.sent_bytes,
            seconds=perf_counter() - self.started,
        )


def _origin_form(raw_path: str) -> str:
    """Return a request's target from its path on: a client that thinks us a proxy names the server before it (RFC 9112, 3.2.2)."""
    if not raw_path.startswith(("http://", "https://")):
        return raw_path
    _, slash, rest = raw_path.partition("://")[2].partition("/")
    return f"/{rest}" if slash else "/"
