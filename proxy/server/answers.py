"""Answers: what a handler returns or raises, made into what is sent."""

from __future__ import annotations

import logging
import os
from base64 import b64encode
from collections.abc import Mapping

from proxy.errors import ProxyError
from proxy.manifest.records import Version
from proxy.s3.errors import S3Error, render_error
from proxy.s3.model import Operation
from proxy.s3.rendering import object_headers, render_response
from proxy.server.call import Answer, Download
from proxy.server.errors import translate
from proxy.server.handlers.encryption import SSE_S3, SSE_S3_FIELDS
from proxy.server.handlers.versions import written_fields, written_id
from proxy.server.streaming import send_download
from proxy.server.turns import Turns
from proxy.server.visit import Visit
from proxy.server.wire.response import Response

logger = logging.getLogger(__name__)

_TELL_REGION = frozenset({301, 400, 403})


class Answers:
    """Makes the answers of one process."""

    def __init__(self, *, region: str, turns: Turns, idle_seconds: float) -> None:
        """Cut a download off whose client takes nothing for `idle_seconds`."""
        self.host_id = b64encode(os.urandom(32)).decode()
        self._region = region
        self._turns = turns
        self._idle_seconds = idle_seconds

    def headers(self, visit: Visit) -> list[tuple[str, str]]:
        """Return what the headers of every answer begin with."""
        headers = [("x-amz-request-id", visit.request_id), ("x-amz-id-2", self.host_id)]
        if visit.cross_origin:
            headers.extend(visit.cross_origin.items())
        if visit.pays:
            headers.append(("x-amz-request-charged", "requester"))
        return headers

    async def render(self, visit: Visit, operation: Operation, answer: Answer) -> Response:
        """Return the answer of a handler; a download has been sent by then."""
        if isinstance(answer, Download):
            headers = self.headers(visit)
            headers.extend(answer.headers)
            response = await send_download(visit.request.outlet, answer, headers, idle_seconds=self._idle_seconds)
            visit.code = answer.failure
            return response
        rendered = render_response(operation, answer)
        headers = self.headers(visit)
        headers.extend(rendered.headers)
        return Response(rendered.status, headers, await self._turns.join(rendered.pieces) if rendered.pieces else b"")

    def tell(self, visit: Visit, operation: Operation, result: Mapping[str, object]) -> Response:
        """As `render`, of an operation that answers by headers alone."""
        headers = self.headers(visit)
        headers.extend(object_headers(operation, result))
        return Response(operation.status, headers)

    def tell_written(self, visit: Visit, operation: Operation, version: Version) -> Response:
        """As `tell`, of a plain write, whose headers are always the same ones: written at once, they take a third of the time.

        What is in them was made here, the values of a checksum too: nothing that could end a header.
        """
        if visit.cross_origin or visit.pays:
            return self.tell(visit, operation, written_fields(version, SSE_S3_FIELDS))
        named, checksum = written_id(version), version.checksum
        lines = f'x-amz-request-id: {visit.request_id}\r\nx-amz-id-2: {self.host_id}\r\nETag: "{version.etag}"\r\n'
        if named is not None:
            lines += f"x-amz-version-id: {named}\r\n"
        lines += f"x-amz-server-side-encryption: {SSE_S3}\r\n"
        if checksum is not None:
            lines += f"x-amz-checksum-{checksum.algorithm.lower()}: {checksum.value}\r\nx-amz-checksum-type: {checksum.type}\r\n"
        told = [] if named is None else [("x-amz-version-id", named)]  # what may be asked for again
        return Response(operation.status, told, lines=f"{lines}Content-Length: 0\r\n".encode())

    def explain(self, visit: Visit, error: Exception) -> S3Error:
        """Return what a client is told of an error. What an operator has to know of it is logged."""
        if not isinstance(error, ProxyError):
            logger.error("%s %s", visit.request_id, visit.operation_name, exc_info=error)
            return S3Error("InternalError")
        answer = translate(error, writing=visit.request.method not in {"GET", "HEAD"})
        if answer.status >= 500 and answer is not error:
            logger.warning("%s %s: %s", visit.request_id, visit.operation_name, error)
        return answer

    def refusal(self, visit: Visit, error: S3Error) -> Response:
        visit.code = error.code
        headers = self.headers(visit)
        headers.extend(error.headers.items())
        if error.status in _TELL_REGION and visit.target is not None and visit.target.bucket is not None:
            # From it boto3 learns which region to sign for. It is the same for every bucket, and tells of none whether it exists.
            headers.append(("x-amz-bucket-region", self._region))
        if visit.request.method == "HEAD" or error.status == 304:
            return Response(error.status, headers)
        headers.append(("Content-Type", "application/xml"))
        return Response(error.status, headers, self.error_document(visit, error))

    def error_document(self, visit: Visit, error: S3Error) -> bytes:
        visit.code = error.code
        return render_error(error, resource=visit.resource, request_id=visit.request_id, host_id=self.host_id)
