"""Answers of the Security Token Service, as XML."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.s3.escaping import xml_text
from proxy.s3.sts.errors import StsError

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"

Element = str | int | Mapping[str, "Element | None"]


def render_answer(action: str, result: Mapping[str, Element | None], request_id: str) -> bytes:
    """Return the answer to an action. Members that are None are left out."""
    inner = _xml(f"{action}Result", result) + _xml("ResponseMetadata", {"RequestId": request_id})
    return f'<{action}Response xmlns="{_NAMESPACE}">{inner}</{action}Response>'.encode()


def render_sts_error(error: StsError, request_id: str) -> bytes:
    kind = "Sender" if error.status < 500 else "Receiver"
    inner = _xml("Error", {"Type": kind, "Code": error.code, "Message": error.message}) + _xml("RequestId", request_id)
    return f'<ErrorResponse xmlns="{_NAMESPACE}">{inner}</ErrorResponse>'.encode()


def _xml(name: str, value: Element) -> str:
    if isinstance(value, Mapping):
        inner = "".join(_xml(member, element) for member, element in value.items() if element is not None)
        return f"<{name}>{inner}</{name}>"
    return f"<{name}>{xml_text(str(value))}</{name}>"
