"""Requests that are a browser's form: what others say in their head, it says in fields before its file."""

from __future__ import annotations

from proxy.s3.claim import ONE_MECHANISM
from proxy.s3.errors import S3Error
from proxy.s3.forms.form import Form, check_policy, form_answer, form_headers, tagging_document
from proxy.s3.forms.policy import ANY_SIZE
from proxy.s3.model import Model, Operation
from proxy.s3.naming import check_key
from proxy.s3.parsing import parse_request
from proxy.s3.rendering import object_headers
from proxy.s3.routing import Target
from proxy.server.access import Gate
from proxy.server.answers import Answers
from proxy.server.browsers.forms import FormBody, Forms, receive_form
from proxy.server.call import Answer, Call, Download
from proxy.server.handlers import handle_of
from proxy.server.handlers.multipart import object_address
from proxy.server.identity.auth import Authenticator
from proxy.server.payment import agreed_to_pay
from proxy.server.refusals import refuse_unserved
from proxy.server.serving import Serving, owner_of
from proxy.server.visit import Visit
from proxy.server.wire.response import Response
from proxy.services import Services


class FormRequests:
    """Answers the forms that come to one process."""

    def __init__(
        self, services: Services, model: Model, authenticator: Authenticator, gate: Gate, serving: Serving, answers: Answers
    ) -> None:
        self._clock = services.clock
        self._authenticator = authenticator
        self._gate = gate
        self._serving = serving
        self._answers = answers
        self._tagging = tagging_document(model)
        self._forms = Forms(services.budget)

    async def answer(self, visit: Visit, operation: Operation, headers: dict[str, str]) -> Response:
        """Store the file of a form, and answer as its fields ask."""
        if "authorization" in headers:
            raise S3Error("InvalidArgument", ONE_MECHANISM, ArgumentName="Authorization", ArgumentValue=headers["authorization"])
        form, upload = await receive_form(visit.inlet, headers)
        bucket, key = visit.target.bucket if visit.target else None, form.key
        target = visit.target = Target(bucket, key)
        sender = await self._authenticator.authenticate_form(form.fields, bucket=bucket)
        visit.proved(sender)
        sizes = check_policy(form, bucket or "", self._clock.now_ms()) if sender.tenant is not None else ANY_SIZE
        said = form_headers(form, headers, self._tagging)
        access = await self._gate.admit(operation, target, (), said, sender, visit.request)
        visit.pays = agreed_to_pay((access.held,), sender.principal, said)
        refuse_unserved(operation, said)
        check_key(key)
        body = FormBody(upload, said, sender.claim, sizes=sizes)
        call = self._serving.call(visit, operation, parse_request(operation, target, (), said), said, sender, access, body)
        await call.guard.check_body(call.params)
        async with self._forms.held(body, owner=owner_of(call)):
            result = await handle_of(operation)(call)
        visit.file_size = body.size_bytes
        return self._render(visit, call, form, result)

    def _render(self, visit: Visit, call: Call, form: Form, result: Answer) -> Response:
        assert not isinstance(result, Download)
        answer = form_answer(form, address=object_address(call, safe=""), bucket=call.bucket.name, etag=str(result["ETag"]))
        headers = self._answers.headers(visit)
        headers.extend(object_headers(call.operation, result))
        headers.extend(answer.headers.items())
        return Response(answer.status, headers, answer.body)
