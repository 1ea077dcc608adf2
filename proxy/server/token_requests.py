"""Requests to the Security Token Service, which come to the same address as all others, and are answered in its own form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.engine.memory.budget import Budget
from proxy.errors import ProxyError
from proxy.s3.sts.answers import render_answer, render_sts_error
from proxy.server.answers import Answers
from proxy.server.documents import document_memory
from proxy.server.identity.sts import Sent, TokenService, body_size, read_small, told
from proxy.server.visit import Visit
from proxy.server.wire.response import Response


class TokenRequests:
    """Answers the requests of one process to the Security Token Service."""

    def __init__(self, budget: Budget, tokens: TokenService, answers: Answers) -> None:
        self._budget = budget
        self._tokens = tokens
        self._answers = answers

    async def answer(self, visit: Visit, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Response:
        """Answer one request, errors too in the service's form."""
        answers = [*self._answers.headers(visit), ("Content-Type", "text/xml")]
        try:
            method = visit.request.method
            size = body_size(headers) if method == "POST" else 0
            async with document_memory(self._budget, size, owner="") as held:
                body = await read_small(visit.inlet, size, held)
                sent = Sent(method, visit.raw_query, query, headers, body)
                action, result = await self._tokens.answer(sent, visit.request)
            return Response(200, answers, render_answer(action, result, visit.request_id))
        except ProxyError as error:
            refusal = told(error)
            visit.code = refusal.code
            return Response(refusal.status, answers, render_sts_error(refusal, visit.request_id))
