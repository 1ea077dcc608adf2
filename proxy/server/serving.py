"""Serving: a request that may be served becomes a call, its handler is called, and what comes of that is sent.

Most answers are made, and then sent. Two kinds are not. What may take longer than a client waits is begun before the outcome is known (see
`whitespace`). Documents that may be large are made in turns and sent within the budget (see `documents`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.engine.memory.grant import Grant
from proxy.manifest.records import ObjectKey, Readable
from proxy.s3.model import Operation
from proxy.s3.parsing import Params
from proxy.s3.rendering import render_response
from proxy.server.access import Access
from proxy.server.answers import Answers
from proxy.server.body import MAX_DOCUMENT_SIZE, RequestBody, has_body, read_document
from proxy.server.call import Answer, Call, Download, Handle
from proxy.server.documents import LARGE, Documents, document_memory
from proxy.server.handlers.deleting import marker_fields
from proxy.server.handlers.plain_writes import plain_attributes
from proxy.server.identity.auth import Sender
from proxy.server.looks import READS
from proxy.server.plain_reads import PlainReads, is_plain
from proxy.server.turns import Turns
from proxy.server.visit import Visit
from proxy.server.whitespace import WhiteSpace
from proxy.server.wire.response import Response
from proxy.server.wire.soon import Soon
from proxy.services import Services

LONG = frozenset({"CopyObject", "UploadPartCopy", "CompleteMultipartUpload"})


class Serving:
    """Calls the handlers of one process."""

    def __init__(self, services: Services, answers: Answers, turns: Turns) -> None:
        self._services = services
        self._limits = services.config.limits
        self._answers = answers
        self._turns = turns
        self._plain = PlainReads(services.engine, host_id=answers.host_id)
        self._documents = Documents(
            services.budget, wait_seconds=self._limits.memory_wait_seconds, idle_seconds=self._limits.reader_idle_seconds
        )

    def call(
        self,
        visit: Visit,
        operation: Operation,
        params: Params,
        headers: Mapping[str, str],
        sender: Sender,
        access: Access,
        body: RequestBody | None,
    ) -> Call:
        """Return what a handler is told of a request. `body` is what it streams."""
        return Call(
            operation=operation,
            params=params,
            headers=headers,
            principal=sender.principal,
            asker=sender.tenant,
            services=self._services,
            held=access.held,
            copied=access.origin,
            guard=access.guard,
            ahead=[] if sender.caller.found is None else [sender.caller.found],
            upload=body,
            request_id=visit.request_id,
            host_id=self._answers.host_id,
            remote=visit.remote,
            hop=visit.request.remote,
        )

    async def serve_document(self, visit: Visit, handle: Handle, call: Call, sender: Sender) -> Response:
        """Read the document whole, then serve. Its memory is held as long as what was read of it is in use."""
        operation = call.operation
        body = RequestBody(
            visit.inlet,
            call.headers,
            sender.claim,
            sender.signing_key,
            max_size=MAX_DOCUMENT_SIZE,
            checksum_is_of_body=operation.name != "CompleteMultipartUpload",
        )
        async with document_memory(self._services.budget, body.size_bytes, owner=owner_of(call)) as held:
            document = await read_document(body, held)
            if document and operation.document is not None:
                params = call.params | await self._turns.read(operation.document, document)
                call = msgspec.structs.replace(call, params=params)
            del document
            await call.guard.check_body(call.params)
            return await self.serve(visit, handle, call, held)

    async def serve(self, visit: Visit, handle: Handle, call: Call, held: Grant | None = None) -> Response:
        """Call the handler, and send its answer. `held` is the memory of the request's document."""
        if call.operation.name in READS and is_plain(call):
            return await self._serve_plain(visit, handle, call)
        if call.operation.name in LONG:
            return await self._serve_long(visit, handle, call)
        if call.operation.name in LARGE:
            return await self._serve_large(visit, handle, call, held)
        return await self._answers.render(visit, call.operation, await handle(call))

    def plainly(self, visit: Visit, operation: Operation, found: Readable | None, access: Access) -> Response | None:
        """Return the answer to a plain read (`is_plain`), if it is known or a usual one: the handler need not be called."""
        held, guard, plain = access.decided, access.guard, self._plain
        if found is None or held is None:
            return None
        return plain.answer(visit, found, held.bucket, guard) or plain.usual(visit, operation, found, held, guard)

    def write_plainly(self, visit: Visit, operation: Operation, sender: Sender, access: Access, key: ObjectKey) -> Soon | None:
        """Begin a plain write (`is_plain_write`) that waits for its pack alone. The body has not been read if this returns None."""
        held = access.decided
        if held is None or held.bucket.settings:
            return None
        headers = visit.request.headers
        body = RequestBody(visit.inlet, headers, sender.claim, sender.signing_key)
        attributes = plain_attributes(headers)
        outcome = self._services.engine.put_at_once(held.bucket, held.owner, key, body, attributes)
        if outcome is None:
            return None
        return Soon(outcome, lambda: self._answers.tell_written(visit, operation, outcome.result()))

    def delete_plainly(self, visit: Visit, operation: Operation, access: Access, key: ObjectKey) -> Soon | None:
        """Begin a plain deletion that waits for its commit alone. Nothing has been begun if this returns None."""
        held = access.decided
        if held is None or held.bucket.settings or has_body(visit.request.headers):
            return None
        begun = self._services.engine.begin_delete_latest(held.bucket, key)
        if begun is None:
            return None
        return Soon(begun.ended, lambda: self._answers.tell(visit, operation, marker_fields(begun.result())))

    async def _serve_plain(self, visit: Visit, handle: Handle, call: Call) -> Response:
        """Answer a read as it was answered before; if it was not, keep the answer. What is in memory is read the short way then, too."""
        found = call.ahead[0] if call.ahead else None
        if found is not None and (response := self._plain.answer(visit, found, call.bucket, call.guard)) is not None:
            return response
        answer = await handle(call)
        if found is not None and (response := self._plain.first(visit, found, call.bucket, answer)) is not None:
            return response
        return await self._answers.render(visit, call.operation, answer)

    async def _serve_large(self, visit: Visit, handle: Handle, call: Call, held: Grant | None) -> Response:
        """Answer with a document that may have megabytes."""
        async with self._documents.turn(call.operation.name):
            response = await self._answers.render(visit, call.operation, await handle(call))
            if held is not None:  # nobody holds one part of what he needs while he waits for another
                held.release()
            charged = await self._documents.charge(response, owner=owner_of(call))
        visit.code = await self._documents.send(visit.request.outlet, response, charged)
        return response

    async def _serve_long(self, visit: Visit, handle: Handle, call: Call) -> Response:
        """Answer what may take longer than a client waits."""
        answers, limits = self._answers, self._limits
        headers = answers.headers(visit)
        headers.append(("Content-Type", "application/xml"))
        outlet = visit.request.outlet
        waiting = WhiteSpace(outlet, headers, call.early, seconds=limits.white_space_seconds, idle_seconds=limits.body_idle_seconds)
        async with waiting:
            try:
                answer = await handle(call)
            except Exception as error:
                if not await waiting.end():
                    raise
                return await waiting.finish(answers.error_document(visit, answers.explain(visit, error)))
            if not await waiting.end():
                return await answers.render(visit, call.operation, answer)
            return await waiting.finish(_document(call.operation, answer))


def _document(operation: Operation, answer: Answer) -> bytes:
    assert not isinstance(answer, Download)  # no operation that sends an object is among the long ones
    return render_response(operation, answer).body


def owner_of(call: Call) -> str:
    """Return whose share of the memory a request takes."""
    return "" if call.asker is None else call.asker.id
