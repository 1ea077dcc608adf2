"""Requests to websites: a visitor is answered in words for people, and reads each page as anybody may who says nothing of himself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from proxy.engine.engine import Engine
from proxy.s3.errors import S3Error
from proxy.s3.model import Model
from proxy.s3.naming import check_key
from proxy.s3.parsing import parse_request
from proxy.s3.rendering import one_line
from proxy.s3.routing import Target, split_target
from proxy.s3.website import error_page
from proxy.server.access import Gate
from proxy.server.answers import Answers
from proxy.server.browsers.cross_origin import CrossOrigin
from proxy.server.browsers.websites import METHODS, Asked, Missed, Moved, check_page, error_headers, visit_website, website_of
from proxy.server.call import Download
from proxy.server.handlers import handle_of
from proxy.server.identity.auth import Authenticator, Sender
from proxy.server.payment import PAYMENT, agreed_to_pay
from proxy.server.serving import Serving
from proxy.server.visit import Visit
from proxy.server.wire.peers import Peers
from proxy.server.wire.response import Response


class WebsiteRequests:
    """Answers the visitors of the websites of one process."""

    def __init__(
        self,
        engine: Engine,
        model: Model,
        authenticator: Authenticator,
        gate: Gate,
        cross_origin: CrossOrigin,
        peers: Peers,
        serving: Serving,
        answers: Answers,
    ) -> None:
        self._engine = engine
        self._reads = {"GET": model.operations["GetObject"], "HEAD": model.operations["HeadObject"]}
        self._authenticator = authenticator
        self._gate = gate
        self._cross_origin = cross_origin
        self._peers = peers
        self._serving = serving
        self._answers = answers

    async def answer(self, visit: Visit, bucket: str, headers: Mapping[str, str]) -> Response:
        """Answer a visitor of a bucket's website, whatever comes of it."""
        visit.of_website = True
        try:
            return await self._answer(visit, bucket, headers)
        except Missed as miss:
            return self._error_page(visit, miss.error, miss.beside)
        except Exception as error:
            explained = self._answers.explain(visit, error)
            return self._answers.refusal(visit, explained) if explained.status == 304 else self._error_page(visit, explained, None)

    async def _answer(self, visit: Visit, bucket: str, headers: Mapping[str, str]) -> Response:
        method = visit.request.method
        target = visit.target = split_target(bucket, visit.raw_path)
        if method == "OPTIONS":
            visit.cross_origin = await self._cross_origin.preflight(target, headers)
            return Response(headers=self._answers.headers(visit))
        if "origin" in headers:
            visit.cross_origin = await self._cross_origin.allow(method, target, headers)
        if method not in METHODS:
            raise S3Error("MethodNotAllowed", headers={"Allow": ", ".join(METHODS)}, Method=method, ResourceType="OBJECT")
        sender = await self._authenticator.check(None, bucket)
        visit.proved(sender)
        website = website_of(sender.caller.bucket, bucket)
        page = await visit_website(website, self._asked(visit, target, headers), partial(self._read, visit, sender, headers))
        return self._moved(visit, page) if isinstance(page, Moved) else await self._answers.render(visit, self._reads[method], page)

    def _asked(self, visit: Visit, target: Target, headers: Mapping[str, str]) -> Asked:
        path = f"{visit.raw_path}?{visit.raw_query}" if visit.raw_query else visit.raw_path
        protocol = "https" if self._peers.peer(visit.request, headers).secure else "http"
        return Asked(visit.request.method, target.key or "", path, protocol, headers["host"], headers)

    async def _read(
        self, visit: Visit, sender: Sender, sent: Mapping[str, str], key: str, headers: Mapping[str, str], method: str
    ) -> Download:
        """Read a page as GetObject or HeadObject would. What is missing is NoSuchKey, also to those who may not list: websites say so."""
        try:
            return await self._read_object(visit, sender, sent, key, headers, method)
        except S3Error as error:
            bucket = sender.caller.bucket
            if error.code == "AccessDenied" and bucket is not None and PAYMENT not in bucket.settings:
                await check_page(self._engine, bucket, key)
            raise

    async def _read_object(
        self, visit: Visit, sender: Sender, sent: Mapping[str, str], key: str, headers: Mapping[str, str], method: str
    ) -> Download:
        operation = visit.operation = self._reads[method]
        target = visit.target = Target(visit.target.bucket if visit.target else None, key)
        access = await self._gate.admit(operation, target, (), sent, sender, visit.request)
        agreed_to_pay((access.held,), sender.principal, headers)
        check_key(key)
        call = self._serving.call(visit, operation, parse_request(operation, target, (), headers), headers, sender, access, None)
        await call.guard.check_body(call.params)
        answer = await handle_of(operation)(call)
        assert isinstance(answer, Download)
        return answer

    def _moved(self, visit: Visit, moved: Moved) -> Response:
        headers = self._answers.headers(visit)
        headers.append(("Location", one_line(moved.location)))
        return Response(moved.status, headers)

    def _error_page(self, visit: Visit, error: S3Error, beside: S3Error | None) -> Response:
        visit.code = error.code
        headers = self._answers.headers(visit)
        headers += [*error.headers.items(), *error_headers(error).items(), ("Content-Type", "text/html; charset=utf-8")]
        body = error_page(error, request_id=visit.request_id, host_id=self._answers.host_id, beside=beside)
        return Response(error.status, headers, b"" if visit.request.method == "HEAD" else body)
