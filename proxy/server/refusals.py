"""Headers that ask for what is not served: refused in so many words, never ignored.

A client that asks for an event hold must not be told "done", nor one whose write has a condition. What a client can ask of an upload by an
option is refused by a 4xx: s3cmd tries an upload again for 45 seconds after a 501.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.s3.errors import S3Error
from proxy.s3.model import Operation

Check = Callable[[str, str], None]


def refuse_unserved(operation: Operation, headers: Mapping[str, str]) -> None:
    """Raise for the first header that asks for what is not served. Names are in lower case."""
    if not _CHECKS.keys().isdisjoint(headers):
        for name, value in headers.items():
            if (check := _CHECKS.get(name)) is not None:
                check(name, value)
    if operation.method not in _READS:
        _refuse_conditions(operation, headers)


def _refuse_conditions(operation: Operation, headers: Mapping[str, str]) -> None:
    """A read may pass over a condition it does not know (RFC 9110, section 13.1); a write would do what it was told not to."""
    for name in _CONDITIONS:
        if name in headers and name not in operation.headers:
            _refuse(name.title(), headers[name])


def _refuse(name: str, _value: str) -> None:
    raise S3Error("NotImplemented", "A header you provided implies functionality that is not implemented", Header=name)


def _only(*served: str) -> Check:
    def check(name: str, value: str) -> None:
        if value.strip().lower() not in served:
            _refuse(name, value)

    return check


def _event_hold(name: str, _value: str) -> None:
    raise S3Error("InvalidRequest", "Event holds are not served", Header=name)


_READS = frozenset({"GET", "HEAD"})
_CONDITIONS = (
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-if-match-initiated-time",
)
_CHECKS: dict[str, Check] = {
    "x-amz-bucket-namespace": _only("global"),
    "x-amz-object-lock-event-hold": _event_hold,
    "x-amz-object-lock-event-hold-duration-days": _event_hold,
    "x-amz-object-lock-event-hold-duration-years": _event_hold,
    **dict.fromkeys(
        (
            "x-amz-write-offset-bytes",
            "x-amz-mfa",
        ),
        _refuse,
    ),
}
