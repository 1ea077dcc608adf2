"""One request, from its first line to its answer."""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from socket import gethostname
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from proxy.engine.budget import Grant
from proxy.errors import ProxyError
from proxy.manifest.records import Look, ObjectKey
from proxy.s3.claim import ONE_MECHANISM
from proxy.s3.errors import S3Error, render_error
from proxy.s3.form import Form, check_policy, form_answer, form_headers, tagging_document
from proxy.s3.form_policy import ANY_SIZE
from proxy.s3.hosts import Hosts
from proxy.s3.model import Operation, load_model
from proxy.s3.naming import MAX_KEY_BYTES, check_key
from proxy.s3.parsing import Params, parse_request
from proxy.s3.rendering import object_headers, one_line, render_response
from proxy.s3.request import read_headers, read_query
from proxy.s3.routing import Router, Target, split_target
from proxy.s3.sts.answers import render_answer, render_sts_error
from proxy.s3.website import error_page, site_of_host
from proxy.server.access import Access, Gate
from proxy.server.access_lines import AccessLines
from proxy.server.auth import Authenticator, Sender, hoisted_headers
from proxy.server.body import MAX_DOCUMENT_SIZE, RequestBody, check_bodiless, has_body, read_document
from proxy.server.call import Answer, Call, Download, Handle
from proxy.server.cross_origin import CrossOrigin
from proxy.server.documents import LARGE, Documents, document_memory
from proxy.server.errors import translate
from proxy.server.forms import FormBody, Forms, receive_form
from proxy.server.handlers import HANDLERS
from proxy.server.handlers.multipart import object_address
from proxy.server.inlet import Inlet
from proxy.server.internal import INTERNAL, answer_internal, is_internal
from proxy.server.oidc import Providers
from proxy.server.payment import PAYMENT, agreed_to_pay
from proxy.server.peers import Peers
from proxy.server.refusals import refuse_unserved
from proxy.server.streaming import send_download
from proxy.server.sts import TokenService, body_size, is_for_tokens, read_small, told
from proxy.server.telemetry import Telemetry
from proxy.server.turns import Turns
from proxy.server.visit import Visit
from proxy.server.websites import METHODS, Asked, Missed, check_page, error_headers, visit_website, website_of
from proxy.server.whitespace import WhiteSpace
from proxy.services import Services

logger = logging.getLogger(__name__)

LONG = frozenset({"CopyObject", "UploadPartCopy", "CompleteMultipartUpload"})
_TELL_REGION = frozenset({301, 400, 403})
FORM = "PostObject"
_LOOKED_UP = {"GetObject": True, "HeadObject": False}  # and whether its bytes are asked for
STREAMED = frozenset({"PutObject", "UploadPart"})  # their bodies are never held whole


class Dispatcher:
    """Answers every request of a process."""

    def __init__(self, services: Services, telemetry: Telemetry, *, host: str = "") -> None:
        """Answer to `host`, where the process listens, to localhost, the machine's own name, and the names of the configuration."""
        config = services.config
        self._services = services
        self._hosts = Hosts(("localhost", gethostname(), host, urlsplit(config.public_url).hostname or ""), config.domains)
        self._website_domains = config.website_domains
        self._all_domains = (*config.domains, *config.website_domains)
        self._limits = config.limits
        model = load_model()
        self._router = Router(model)
        self._authenticator = Authenticator(
            manifest=services.manifest,
            keyring=services.keyring,
            clock=services.clock,
            region=config.region,
            other_regions=services.policies.keys() | config.locations.keys(),
        )
        self._peers = Peers(config.trusted_proxies)
        self._gate = Gate(services.manifest, services.clock, self._peers)
        self._reads = {"GET": model.operations["GetObject"], "HEAD": model.operations["HeadObject"]}
        self._tokens = TokenService(
            services.manifest, self._authenticator, self._authenticator.sessions, Providers(config.oidc, services.clock), self._peers
        )
        self._cross_origin = CrossOrigin(services.manifest)
        self._tagging = tagging_document(model)
        self._forms = Forms(services.budget)
        self._telemetry = telemetry
        self._turns = Turns()
        self._host_id = b64encode(os.urandom(32)).decode()
        self._lines = AccessLines(services.access_log, services.clock, host_id=self._host_id)
        self._documents = Documents(
            services.budget, wait_seconds=config.limits.memory_wait_seconds, idle_seconds=config.limits.reader_idle_seconds
        )
        self._finishing = False
        self._idle = asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith(INTERNAL) and is_internal(request, self._all_domains):
            return await answer_internal(request, self._services.manifest, self._services.fleet, self._telemetry, self._services.journal)
        self._telemetry.begin()
        visit = Visit(request, self._inlet(request))
        response = None
        try:
            response = await self._respond(visit)
            visit.answered(response)
            if self._finishing or not await visit.inlet.spent():
                response.force_close()
            return response
        finally:
            self._telemetry.end(visit.outcome())
            self._lines.note(visit, response)
            if self._finishing and not self._telemetry.in_flight:
                self._idle.set()

    def refuse_unreadable(self, request: web.BaseRequest, error: S3Error) -> web.Response:
        """Answer for what HTTP's parser refused. Nothing that follows on the connection can be trusted to be a request."""
        self._telemetry.begin()
        visit = Visit(request, self._inlet(request))
        response = self._refusal(visit, error)
        response.force_close()
        visit.answered(response)
        self._telemetry.end(visit.outcome())
        return response

    @property
    def idle_seconds(self) -> float:
        """How long a client may take nothing of an answer that is sent whole, as it may send nothing of a body."""
        return self._limits.body_idle_seconds

    async def finish(self, timeout_seconds: float) -> bool:
        """Close each connection after its answer from now on; tell whether all answers were given in time."""
        self._finishing = True
        if self._telemetry.in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._idle.wait()
        return not self._telemetry.in_flight

    def _inlet(self, request: web.BaseRequest) -> Inlet:
        limits = self._limits
        return Inlet(request, idle_seconds=limits.body_idle_seconds, min_bytes_per_second=limits.body_min_bytes_per_second)

    async def _respond(self, visit: Visit) -> web.StreamResponse:
        try:
            return await self._answer(visit)
        except Exception as error:
            # Kept in this frame, an answer that is the error would hold its traceback, the traceback the frames, they the body read so far.
            return self._refusal(visit, self._explained(visit, error))

    def _explained(self, visit: Visit, error: Exception) -> S3Error:
        if not isinstance(error, ProxyError):
            logger.error("%s %s", visit.request_id, visit.operation_name, exc_info=error)
            return S3Error("InternalError")
        answer = translate(error, writing=visit.request.method not in {"GET", "HEAD"})
        if answer.status >= 500 and answer is not error:
            logger.warning("%s %s: %s", visit.request_id, visit.operation_name, error)
        return answer

    async def _answer(self, visit: Visit) -> web.StreamResponse:
        request = visit.request
        headers = read_headers(request.headers.items())
        if self._website_domains:
            site = site_of_host(headers.get("host", ""), self._services.config.domains, self._website_domains)
            if site is not None:
                return await self._answer_site(visit, site, headers)
        hosted = self._hosts.bucket(headers.get("host", ""))
        target = visit.target = split_target(hosted, visit.raw_path)
        query = read_query(visit.raw_query)
        if request.method == "OPTIONS":
            visit.cross_origin = await self._cross_origin.preflight(target, headers)
            return web.Response(headers=self._common_headers(visit))
        if "origin" in headers:
            visit.cross_origin = await self._cross_origin.allow(request.method, target, headers)
        if is_for_tokens(request.method, headers, at_root=target == (None, None)):
            return await self._answer_tokens(visit, headers)
        operation = visit.operation = self._router.route(request.method, target, query, headers)
        if operation.name == FORM:
            return await self._answer_form(visit, operation, headers)
        resource = visit.raw_path if hosted is None else f"/{hosted}{visit.raw_path}"
        sender = await self._authenticator.authenticate(
            request.method, visit.raw_path, query, headers, resource=resource, bucket=target.bucket, look=_look(operation, target, query)
        )
        visit.sender, visit.tenant = sender, "" if sender.tenant is None else sender.tenant.name
        if sender.claim.presigned:
            headers = hoisted_headers(query, headers)
        access = await self._gate.admit(operation, target, query, headers, sender, request)
        visit.pays = agreed_to_pay((access.held, access.origin.held if access.origin is not None else None), sender.principal, headers)
        handle = _handle_of(operation)
        refuse_unserved(operation, headers)
        if target.key is not None:
            check_key(target.key)
        streamed = operation.name in STREAMED
        body = RequestBody(visit.inlet, headers, sender.claim, sender.signing_key) if streamed else None
        call = self._call(visit, operation, parse_request(operation, target, query, headers), headers, sender, access, body)
        if not streamed and has_body(headers):
            return await self._serve_document(visit, handle, call, sender)
        if not streamed:
            check_bodiless(sender.claim)
        await call.guard.check_body(call.params)
        return await self._serve(visit, handle, call, None)

    async def _answer_tokens(self, visit: Visit, headers: Mapping[str, str]) -> web.Response:
        """Answer a request to the Security Token Service, errors too in its own form."""
        answers = self._common_headers(visit)
        answers["Content-Type"] = "text/xml"
        try:
            size = body_size(headers)
            async with document_memory(self._services.budget, size, owner="") as held:
                body = await read_small(visit.inlet, size, held)
                action, result = await self._tokens.answer(headers, body, visit.request)
            return web.Response(headers=answers, body=render_answer(action, result, visit.request_id))
        except ProxyError as error:
            refusal = told(error)
            visit.code = refusal.code
            return web.Response(status=refusal.status, headers=answers, body=render_sts_error(refusal, visit.request_id))

    async def _answer_form(self, visit: Visit, operation: Operation, headers: dict[str, str]) -> web.StreamResponse:
        """Answer a browser's form: what other requests say in their head, it says in fields before its file."""
        if "authorization" in headers:
            raise S3Error("InvalidArgument", ONE_MECHANISM, ArgumentName="Authorization", ArgumentValue=headers["authorization"])
        form, upload = await receive_form(visit.inlet, headers)
        bucket, key = visit.target.bucket if visit.target else None, form.key
        target = visit.target = Target(bucket, key)
        sender = await self._authenticator.authenticate_form(form.fields, bucket=bucket)
        visit.sender, visit.tenant = sender, "" if sender.tenant is None else sender.tenant.name
        sizes = check_policy(form, bucket or "", self._services.clock.now_ms()) if sender.tenant is not None else ANY_SIZE
        said = form_headers(form, headers, self._tagging)
        access = await self._gate.admit(operation, target, (), said, sender, visit.request)
        visit.pays = agreed_to_pay((access.held,), sender.principal, said)
        refuse_unserved(operation, said)
        check_key(key)
        body = FormBody(upload, said, sender.claim, sizes=sizes)
        call = self._call(visit, operation, parse_request(operation, target, (), said), said, sender, access, body)
        await call.guard.check_body(call.params)
        async with self._forms.held(body, owner=_owner(call)):
            result = await _handle_of(operation)(call)
        return self._render_form(visit, call, form, result)

    def _render_form(self, visit: Visit, call: Call, form: Form, result: Answer) -> web.StreamResponse:
        assert not isinstance(result, Download)
        answer = form_answer(form, address=object_address(call, safe=""), bucket=call.bucket.name, etag=str(result["ETag"]))
        headers = self._common_headers(visit)
        headers.extend(object_headers(call.operation, result))
        headers.extend(answer.headers)
        return web.Response(status=answer.status, headers=headers, body=answer.body)

    async def _answer_site(self, visit: Visit, bucket: str, headers: dict[str, str]) -> web.StreamResponse:
        """Answer a visitor of a bucket's website, in words for people."""
        request = visit.request
        try:
            target = visit.target = split_target(bucket, visit.raw_path)
            if "origin" in headers and request.method != "OPTIONS":
                visit.cross_origin = await self._cross_origin.allow(request.method, target, headers)
            if request.method == "OPTIONS":
                visit.cross_origin = await self._cross_origin.preflight(target, headers)
                return web.Response(headers=self._common_headers(visit))
            if request.method not in METHODS:
                raise S3Error("MethodNotAllowed", headers={"Allow": ", ".join(METHODS)}, Method=request.method, ResourceType="OBJECT")
            sender = visit.sender = await self._authenticator.check(None, bucket)
            website = website_of(sender.caller.bucket, bucket)
            path = f"{visit.raw_path}?{visit.raw_query}" if visit.raw_query else visit.raw_path
            asked = Asked(
                request.method,
                target.key or "",
                path,
                "https" if self._peers.peer(request, headers).secure else "http",
                headers["host"],
                headers,
            )
            page = await visit_website(website, asked, partial(self._read_page, visit, sender, headers))
            if isinstance(page, Download):
                return await self._render(visit, self._reads[request.method], page)
            moved = self._common_headers(visit)
            moved["Location"] = one_line(page.location)
            return web.Response(status=page.status, headers=moved)
        except Missed as miss:
            return self._error_page(visit, miss.error, miss.beside)
        except Exception as error:
            explained = self._explained(visit, error)
            return self._refusal(visit, explained) if explained.status == 304 else self._error_page(visit, explained, None)

    async def _read_page(
        self, visit: Visit, sender: Sender, sent: Mapping[str, str], key: str, headers: Mapping[str, str], method: str
    ) -> Download:
        """Read a page of a website as GetObject or HeadObject would. NoSuchKey also where the visitor may not read: websites say so."""
        operation = visit.operation = self._reads[method]
        target = visit.target = Target(visit.target.bucket if visit.target else None, key)
        try:
            access = await self._gate.admit(operation, target, (), sent, sender, visit.request)
            agreed_to_pay((access.held,), sender.principal, headers)
        except S3Error as error:
            bucket = sender.caller.bucket
            if error.code == "AccessDenied" and bucket is not None and PAYMENT not in bucket.settings:
                await check_page(self._services.engine, bucket, key)
            raise
        check_key(key)
        call = self._call(visit, operation, parse_request(operation, target, (), headers), headers, sender, access, None)
        await call.guard.check_body(call.params)
        answer = await _handle_of(operation)(call)
        assert isinstance(answer, Download)
        return answer

    def _error_page(self, visit: Visit, error: S3Error, beside: S3Error | None) -> web.Response:
        visit.code = error.code
        headers = self._common_headers(visit)
        headers.extend(error.headers)
        headers.extend(error_headers(error))
        headers["Content-Type"] = "text/html; charset=utf-8"
        body = error_page(error, request_id=visit.request_id, host_id=self._host_id, beside=beside)
        return web.Response(status=error.status, headers=headers, body=b"" if visit.request.method == "HEAD" else body)

    def _call(
        self,
        visit: Visit,
        operation: Operation,
        params: Params,
        headers: Mapping[str, str],
        sender: Sender,
        access: Access,
        body: RequestBody | None,
    ) -> Call:
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
            host_id=self._host_id,
            remote=visit.request.remote or "",
        )

    async def _serve_document(self, visit: Visit, handle: Handle, call: Call, sender: Sender) -> web.StreamResponse:
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
        async with document_memory(self._services.budget, body.size_bytes, owner=_owner(call)) as held:
            document = await read_document(body, held)
            if document and operation.document is not None:
                params = call.params | await self._turns.read(operation.document, document)
                call = msgspec.structs.replace(call, params=params)
            del document
            await call.guard.check_body(call.params)
            return await self._serve(visit, handle, call, held)

    async def _serve(self, visit: Visit, handle: Handle, call: Call, held: Grant | None) -> web.StreamResponse:
        """Call the handler, and send its answer. `held` is the memory of the request's document."""
        if call.operation.name in LONG:
            return await self._answer_long(visit, handle, call)
        if call.operation.name in LARGE:
            return await self._answer_large(visit, handle, call, held)
        return await self._render(visit, call.operation, await handle(call))

    async def _answer_large(self, visit: Visit, handle: Handle, call: Call, held: Grant | None) -> web.StreamResponse:
        """Answer with a document that may have megabytes."""
        async with self._documents.turn(call.operation.name):
            response = await self._render(visit, call.operation, await handle(call))
            if held is not None:  # nobody holds one part of what he needs while he waits for another
                held.release()
            charged = await self._documents.charge(response, owner=_owner(call))
        visit.code = await self._documents.send(visit.request, response, charged)
        return response

    async def _answer_long(self, visit: Visit, handle: Handle, call: Call) -> web.StreamResponse:
        """Answer what may take longer than a client waits."""
        headers, limits = self._common_headers(visit), self._limits
        headers["Content-Type"] = "application/xml"
        waiting = WhiteSpace(visit.request, headers, call.early, seconds=limits.white_space_seconds, idle_seconds=limits.body_idle_seconds)
        async with waiting:
            try:
                answer = await handle(call)
            except Exception as error:
                if not await waiting.end():
                    raise
                return await waiting.finish(self._error_document(visit, self._explained(visit, error)))
            if not await waiting.end():
                return await self._render(visit, call.operation, answer)
            return await waiting.finish(_document(call.operation, answer))

    async def _render(self, visit: Visit, operation: Operation, answer: Answer) -> web.StreamResponse:
        if isinstance(answer, Download):
            headers = self._common_headers(visit)
            headers.extend(answer.headers)
            response = await send_download(visit.request, answer, headers, idle_seconds=self._limits.reader_idle_seconds)
            visit.code = answer.failure
            return response
        rendered = render_response(operation, answer)
        headers = self._common_headers(visit)
        headers.extend(rendered.headers)
        return web.Response(status=rendered.status, headers=headers, body=await self._turns.join(rendered.pieces))

    def _refusal(self, visit: Visit, error: S3Error) -> web.Response:
        visit.code = error.code
        headers = self._common_headers(visit)
        headers.extend(error.headers)
        if error.status in _TELL_REGION and visit.target is not None and visit.target.bucket is not None:
            # From it boto3 learns which region to sign for. It is the same for every bucket, and tells of none whether it exists.
            headers["x-amz-bucket-region"] = self._services.config.region
        if visit.request.method == "HEAD" or error.status == 304:
            return web.Response(status=error.status, headers=headers)
        headers["Content-Type"] = "application/xml"
        return web.Response(status=error.status, headers=headers, body=self._error_document(visit, error))

    def _error_document(self, visit: Visit, error: S3Error) -> bytes:
        visit.code = error.code
        return render_error(error, resource=visit.resource, request_id=visit.request_id, host_id=self._host_id)

    def _common_headers(self, visit: Visit) -> CIMultiDict[str]:
        headers = CIMultiDict({"x-amz-request-id": visit.request_id, "x-amz-id-2": self._host_id, "Server": "Shardgate"})
        if visit.cross_origin:
            headers.extend(visit.cross_origin)
        if visit.pays:
            headers["x-amz-request-charged"] = "requester"
        return headers


def _document(operation: Operation, answer: Answer) -> bytes:
    assert not isinstance(answer, Download)  # no operation that sends an object is among the long ones
    return render_response(operation, answer).body


def _owner(call: Call) -> str:
    """Return whose share of the memory a request takes."""
    return "" if call.asker is None else call.asker.id


def _look(operation: Operation, target: Target, query: Sequence[tuple[str, str]]) -> Look | None:
    """Return what to look up together with who asks for it: of what is read most, the newest version."""
    to_read = _LOOKED_UP.get(operation.name)
    if to_read is None or target.key is None or any(name == "versionId" for name, _ in query):
        return None
    # Nobody has checked the key yet. One that might not be stored in this form is left to whoever does.
    return Look(ObjectKey(target.key), to_read) if target.key.isprintable() and len(target.key) <= MAX_KEY_BYTES else None


def _handle_of(operation: Operation) -> Handle:
    handle = HANDLERS.get(operation.name)
    if handle is None:
        raise S3Error("NotImplemented", f"{operation.name} is not served")
    return handle
