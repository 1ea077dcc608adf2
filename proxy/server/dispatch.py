"""One request, from its first line to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from socket import gethostname
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from proxy.s3.errors import S3Error
from proxy.s3.evidence import Evidence, evidence_of_request, evidence_of_shape
from proxy.s3.hosts import Hosts
from proxy.s3.model import Operation, load_model
from proxy.s3.naming import check_key
from proxy.s3.parsing import parse_request
from proxy.s3.request import read_query
from proxy.s3.routing import Router, Target, split_target
from proxy.s3.shape import shape_of
from proxy.s3.website import site_of_host
from proxy.server.access import Access, Gate
from proxy.server.access_lines import AccessLines
from proxy.server.answers import Answers
from proxy.server.at_once import AtOnce
from proxy.server.body import RequestBody, check_bodiless, has_body
from proxy.server.browsers.cross_origin import CrossOrigin
from proxy.server.browsers.form_requests import FormRequests
from proxy.server.browsers.website_requests import WebsiteRequests
from proxy.server.handlers import handle_of
from proxy.server.identity.auth import Authenticator, Sender, hoisted_headers
from proxy.server.identity.oidc import Providers
from proxy.server.identity.sts import TokenService, is_for_tokens
from proxy.server.internal import INTERNAL, answer_internal, is_internal
from proxy.server.looks import look_of
from proxy.server.payment import agreed_to_pay
from proxy.server.refusals import refuse_unserved
from proxy.server.serving import Serving
from proxy.server.shapes import Entry, Shapes, is_unrestricted, known_of
from proxy.server.telemetry import Telemetry
from proxy.server.token_requests import TokenRequests
from proxy.server.turns import Turns
from proxy.server.visit import Visit
from proxy.server.wire.inlet import Inlet
from proxy.server.wire.peers import Peers
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response
from proxy.server.wire.soon import Soon
from proxy.services import Services

FORM = "PostObject"
STREAMED = frozenset({"PutObject", "UploadPart"})  # their bodies are never held whole
SHAPED = frozenset({"GetObject", "HeadObject", "PutObject", "DeleteObject"})  # what clients do by the thousand, and mostly in one shape


class Errand(NamedTuple):
    """What a request asks for, and what proves who asks."""

    operation: Operation
    target: Target
    query: Sequence[tuple[str, str]]
    evidence: Evidence | None


class Dispatcher:
    """Answers every request of a process."""

    def __init__(self, services: Services, telemetry: Telemetry, *, host: str = "") -> None:
        """Answer to `host`, where the process listens, to localhost, the machine's own name, and the names of the configuration."""
        config, model, turns = services.config, load_model(), Turns()
        self._services = services
        names = ("localhost", gethostname(), host, urlsplit(config.public_url).hostname or "")
        self._hosts = Hosts(names, config.domains, config.accelerate_domains)
        self._website_domains = config.website_domains
        self._bucket_domains = config.bucket_domains
        self._all_domains = (*config.bucket_domains, *config.website_domains)
        self._limits = config.limits
        self._router = Router(model)
        self.shapes = Shapes()
        self._authenticator = Authenticator(
            manifest=services.manifest,
            keyring=services.keyring,
            clock=services.clock,
            region=config.region,
            other_regions=services.policies.keys() | config.locations.keys(),
        )
        peers = self._peers = Peers(config.trusted_proxies)
        self._gate = Gate(services.manifest, services.clock, peers, accelerates=self._hosts.accelerates)
        self._cross_origin = CrossOrigin(services.manifest)
        self._answers = Answers(region=config.region, turns=turns, idle_seconds=config.limits.reader_idle_seconds)
        self._serving = Serving(services, self._answers, turns)
        self._forms = FormRequests(services, model, self._authenticator, self._gate, self._serving, self._answers)
        self._websites = WebsiteRequests(
            services.engine, model, self._authenticator, self._gate, self._cross_origin, peers, self._serving, self._answers
        )
        providers = Providers(config.oidc, services.clock)
        tokens = TokenService(services.manifest, self._authenticator, self._authenticator.sessions, providers, peers)
        self._tokens = TokenRequests(services.budget, tokens, self._answers)
        self._telemetry = telemetry
        self._lines = AccessLines(services.access_log, services.clock, host_id=self._answers.host_id)
        self._at_once = AtOnce(self._authenticator, peers, self._serving, self._answers)
        self._finishing = False
        self._idle = asyncio.Event()

    async def answer(self, request: Request) -> Response:
        """Return the answer to a request, by whichever door it came. One that is large, or takes long, has been sent by then."""
        if request.raw_path.startswith(INTERNAL) and is_internal(request, self._all_domains):
            return await answer_internal(request, self._services.manifest, self._services.fleet, self._telemetry, self._services.journal)
        self._telemetry.begin()
        visit = Visit(request, self._inlet(request))
        response = None
        try:
            response = await self._respond(visit)
            visit.answered(response)
            if self._finishing or not (visit.inlet.has_all or await visit.inlet.spent()):
                response.closes = True
            return response
        finally:
            self._end(visit, response)

    def answer_at_once(self, request: Request) -> Response | Soon | None:
        """As `answer`, of a request that takes no waiting for anybody, or for one thing alone; None of any other."""
        if self._finishing:
            return None
        visit = Visit(request, self._inlet(request))
        found = self._at_once.answer(visit)
        if found is None:
            return None
        self._telemetry.begin()
        if isinstance(found, Soon):
            return Soon(found.outcome, lambda: self._answer_soon(visit, found))
        visit.answered(found)
        self._end(visit, found)
        return found

    def refuse_unreadable(self, request: Request, error: S3Error) -> Response:
        """Answer for what HTTP's parser refused. Nothing that follows on the connection can be trusted to be a request."""
        self._telemetry.begin()
        visit = Visit(request, self._inlet(request))
        response = self._answers.refusal(visit, error)
        response.closes = True
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

    def _answer_soon(self, visit: Visit, soon: Soon) -> Response:
        response = None
        try:
            response = self._answered(visit, soon)
            visit.answered(response)
            response.closes = self._finishing
            return response
        finally:
            self._end(visit, response)

    def _answered(self, visit: Visit, soon: Soon) -> Response:
        try:
            return soon.answer()
        except Exception as error:
            return self._answers.refusal(visit, self._answers.explain(visit, error))

    def _end(self, visit: Visit, response: Response | None) -> None:
        """Count and log a request that is over. `response` is None if there was no answer."""
        self._telemetry.end(visit.outcome())
        self._lines.note(visit, response)
        if self._finishing and not self._telemetry.in_flight:
            self._idle.set()

    def _inlet(self, request: Request) -> Inlet:
        limits = self._limits
        return Inlet(request, idle_seconds=limits.body_idle_seconds, min_bytes_per_second=limits.body_min_bytes_per_second)

    async def _respond(self, visit: Visit) -> Response:
        try:
            read = self._read_known(visit) or await self._read(visit)
            if isinstance(read, Response):
                return read
            response = await self._serve(visit, read)
        except Exception as error:
            # Kept in this frame, an answer that is the error would hold its traceback, the traceback the frames, they the body read so far.
            return self._answers.refusal(visit, self._answers.explain(visit, error))
        if visit.request.head and read.operation.name in SHAPED:
            self._learn(visit, read.operation)
        return response

    async def _read(self, visit: Visit) -> Errand | Response:
        """Return what a request asks for; or the answer, if it is none of those that go through the gate one by one."""
        request = visit.request
        headers = request.headers
        visit.remote = self._peers.address(request, headers)
        if self._website_domains:
            site = site_of_host(headers.get("host", ""), self._bucket_domains, self._website_domains)
            if site is not None:
                return await self._websites.answer(visit, site, headers)
        hosted = self._hosts.bucket(headers.get("host", ""))
        target = visit.target = split_target(hosted, visit.raw_path)
        query = read_query(visit.raw_query)
        if request.method == "OPTIONS":
            visit.cross_origin = await self._cross_origin.preflight(target, headers)
            return Response(headers=self._answers.headers(visit))
        if "origin" in headers:
            visit.cross_origin = await self._cross_origin.allow(request.method, target, headers)
        if is_for_tokens(request.method, query, headers, at_root=target == (None, None)):
            return await self._tokens.answer(visit, query, headers)
        operation = visit.operation = self._router.route(request.method, target, query, headers)
        if operation.name == FORM:
            return await self._forms.answer(visit, operation, headers)
        resource = visit.raw_path if hosted is None else f"/{hosted}{visit.raw_path}"
        place = self._authenticator.place
        evidence = evidence_of_request(request.method, visit.raw_path, query, headers, resource=resource, place=place)
        return Errand(operation, target, query, evidence)

    def _read_known(self, visit: Visit) -> Errand | None:
        """As `_read`, of a request whose shape says all but the path and some values. None without a shape, or where there is no key."""
        request = visit.request
        known = request.known
        if known is None:
            return None
        visit.remote = self._peers.address(request, request.headers)
        target = split_target(known.hosted, visit.raw_path)
        if target.bucket is None or target.key is None:
            request.known = None
            return None
        visit.target, visit.operation = target, known.operation
        evidence = evidence_of_shape(known.shape, visit.raw_path, request.headers, self._authenticator.place)
        return Errand(known.operation, target, known.shape.query, evidence)

    def _learn(self, visit: Visit, operation: Operation) -> None:
        """Keep what was read of a request that was served, for those that come in the same shape."""
        request, sender = visit.request, visit.sender
        head = request.head.decode("latin-1")
        if sender is None or "origin" in request.headers or not self.shapes.wants(head):
            return
        shape = shape_of(head, sender.claim)
        if shape is not None:
            hosted = self._hosts.bucket(request.headers.get("host", ""))
            self.shapes.keep(head, known_of(shape, operation, hosted, request.headers))

    async def _serve(self, visit: Visit, errand: Errand) -> Response:
        """Let a request in, and serve it."""
        request = visit.request
        operation, target, query, evidence = errand
        headers: Mapping[str, str] = request.headers
        sender = request.proved or await self._authenticator.check(evidence, target.bucket, look_of(operation, target, query))
        visit.proved(sender)
        if sender.claim.presigned:
            headers = hoisted_headers(query, headers)
        known = request.known
        if known is not None and known.entry is not None and known.entry.is_for(sender):
            access, visit.pays = known.entry.access, known.entry.pays
        else:
            access = await self._let_in(visit, errand, headers, sender)
        handle = handle_of(operation)
        if target.key is not None:
            check_key(target.key)
        if known is not None and known.is_plain_read:
            check_bodiless(sender.claim)
            if (response := self._serving.plainly(visit, operation, sender.caller.found, access)) is not None:
                return response
        streamed = operation.name in STREAMED
        body = RequestBody(visit.inlet, headers, sender.claim, sender.signing_key) if streamed else None
        params = parse_request(operation, target, query, headers) if known is None else known.read(target, headers)
        call = self._serving.call(visit, operation, params, headers, sender, access, body)
        if not streamed and has_body(headers):
            return await self._serving.serve_document(visit, handle, call, sender)
        if not streamed:
            check_bodiless(sender.claim)
        if call.guard.waits_for_body:
            await call.guard.check_body(call.params)
        return await self._serving.serve(visit, handle, call)

    async def _let_in(self, visit: Visit, errand: Errand, headers: Mapping[str, str], sender: Sender) -> Access:
        """Let a sender in to the buckets that a request is about. What was decided is kept with its shape, where it was simple."""
        access = await self._gate.admit(errand.operation, errand.target, errand.query, headers, sender, visit.request)
        visit.pays = agreed_to_pay((access.held, access.origin.held if access.origin is not None else None), sender.principal, headers)
        refuse_unserved(errand.operation, headers)
        if visit.request.known is not None and access.guard.allows_all and is_unrestricted(sender):
            visit.request.known.entry = Entry(replace(sender.caller, found=None), access, visit.pays)
        return access
