"""Liveness, metrics and status, for this machine alone, where no bucket can be: below "/-/"."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence

import msgspec

from proxy.engine.placing.fleet import Fleet
from proxy.errors import ManifestUnavailable
from proxy.journaling import Journal
from proxy.manifest.protocol import Manifest
from proxy.s3.hosts import bucket_of_host
from proxy.server.journal_counts import journal_trouble, read_journal_counts
from proxy.server.manifest_counts import read_counts
from proxy.server.telemetry import Telemetry
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response
from proxy.status.live import Live

INTERNAL = "/-/"  # no bucket is called "-"
# What proxies and load balancers add, by the standard (RFC 9110, section 7.6.3; RFC 7239) and by custom.
_FORWARDED = (
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
)


def is_internal(request: Request, domains: Sequence[str]) -> bool:
    """Tell whether "-" stands where a bucket would: behind a host that names one, "-/" begins a key. The path begins with INTERNAL."""
    return request.method in {"GET", "HEAD"} and bucket_of_host(request.headers.get("host", ""), domains) is None


async def answer_internal(
    request: Request, manifest: Manifest, fleet: Fleet, telemetry: Telemetry, journal: Journal | None = None
) -> Response:
    """Answer this machine only: not whoever comes through a proxy that runs on it."""
    if not _is_loopback(request) or any(name in request.headers for name in _FORWARDED):
        return Response(403)
    if request.raw_path == f"{INTERNAL}health":
        return await _health(manifest, journal)
    if request.raw_path == f"{INTERNAL}metrics":
        body = telemetry.exposition() + await _counted(manifest, journal)
        return Response(200, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], body)
    if request.raw_path == f"{INTERNAL}status":
        identity = await _identity(manifest)
        live = Live(process=os.getpid(), manifest=identity, in_flight=telemetry.in_flight, stores=fleet.conditions())
        return Response(200, [("Content-Type", "application/json")], msgspec.json.encode(live))
    return Response(404)


async def _counted(manifest: Manifest, journal: Journal | None) -> bytes:
    """Return what the manifest counts, or nothing if it does not answer: what this process counts is told all the same."""
    try:
        body = (await read_counts(manifest)).exposition()
        return body if journal is None else body + (await read_journal_counts(manifest, journal)).exposition()
    except ManifestUnavailable:  # health says so, and why
        return b""


def _is_loopback(request: Request) -> bool:
    try:
        return ipaddress.ip_address(request.remote).is_loopback
    except ValueError:
        return False


async def _health(manifest: Manifest, journal: Journal | None) -> Response:
    if trouble := manifest.trouble or await _fence(manifest):
        return _text(f"{trouble}\n", status=503)
    if trouble := journal_trouble(journal):  # all processes have it; without any, nothing could be read, either
        return _text(f"ok, but {trouble}\n")
    return _text("ok\n")


def _text(text: str, *, status: int = 200) -> Response:
    return Response(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())


async def _identity(manifest: Manifest) -> str:
    try:
        return (await manifest.find_epoch()).identity
    except ManifestUnavailable:
        return ""


async def _fence(manifest: Manifest) -> str:
    """Return why nothing may be written, if so."""
    try:
        return (await manifest.find_epoch()).fence
    except ManifestUnavailable as error:
        return str(error)
