"""The line that a request leaves in the access log of its bucket."""

from __future__ import annotations

from time import perf_counter

from proxy.clock import Clock
from proxy.engine.outgoing.access_log import AccessLog
from proxy.s3.access_log import SETTING, Entry, line_of, operation_name, target_of
from proxy.server.visit import Visit
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response


class AccessLines:
    """Writes a line for each request about a bucket whose requests are logged. Of others it costs one look."""

    def __init__(self, log: AccessLog, clock: Clock, *, host_id: str) -> None:
        self._log = log
        self._clock = clock
        self._host_id = host_id

    def note(self, visit: Visit, response: Response | None) -> None:
        """Write down a visit that is over, whatever came of it. `response` is None if there was none."""
        sender = visit.sender
        if sender is None or sender.caller.bucket is None or (setting := sender.caller.bucket.settings.get(SETTING)) is None:
            return
        target = target_of(setting)
        if target is not None and sender.caller.owner is not None:
            now = self._clock.now_ms()
            line = line_of(self._entry(visit, response, now))
            self._log.note(sender.caller.bucket, sender.caller.owner, target, line, now)

    def _entry(self, visit: Visit, response: Response | None, now_ms: int) -> Entry:
        request, sender = visit.request, visit.sender
        assert sender is not None
        assert sender.caller.bucket is not None
        assert sender.caller.owner is not None
        key = None if visit.target is None else visit.target.key
        milliseconds = int((perf_counter() - visit.started) * 1000)
        cipher, tls = _tls(request)
        return Entry(
            owner=sender.caller.owner.canonical_id,
            bucket=sender.caller.bucket.name,
            at_ms=now_ms - milliseconds,
            remote=visit.remote,
            requester="" if sender.tenant is None else sender.tenant.canonical_id,
            request_id=visit.request_id,
            operation=operation_name(visit.operation_name, request.method, has_key=key is not None, of_website=visit.of_website),
            key=key,
            request_uri=f"{request.method} {request.raw_path} HTTP/{request.version.major}.{request.version.minor}",
            status=visit.status,
            error_code=visit.code,
            sent_bytes=visit.sent_bytes,
            object_size=_object_size(visit, response),
            milliseconds=milliseconds,
            referer=request.headers.get("referer", ""),
            user_agent=request.headers.get("user-agent", ""),
            version_id="" if response is None else response.header("x-amz-version-id"),
            host_id=self._host_id,
            signature_version="" if sender.principal.anonymous else "SigV2" if "AWSAccessKeyId=" in visit.raw_query else "SigV4",
            cipher_suite=cipher,
            authentication="" if sender.principal.anonymous else "QueryString" if sender.claim.presigned else "AuthHeader",
            host=request.headers.get("host", ""),
            tls_version=tls,
        )


def _object_size(visit: Visit, response: Response | None) -> int | None:
    """Return the size of the object that was read or written, where the request tells it."""
    if response is None or response.status >= 400:
        return None
    if visit.file_size is not None:
        return visit.file_size
    if visit.operation_name == "PutObject":
        headers = visit.request.headers
        length = headers.get("x-amz-decoded-content-length", headers.get("content-length", ""))
        return int(length) if length.isdecimal() else None
    if visit.operation_name in {"GetObject", "HeadObject"}:
        total = response.header("content-range").rpartition("/")[2]
        return int(total) if total.isdecimal() else response.length_bytes
    return None


def _tls(request: Request) -> tuple[str, str]:
    """Return (cipher suite, version) of the connection; empty without TLS."""
    secured = None if request.transport is None else request.transport.get_extra_info("ssl_object")
    if secured is None:
        return "", ""
    cipher = secured.cipher()
    return ("" if cipher is None else cipher[0], secured.version() or "")
