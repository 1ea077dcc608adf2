"""Liveness and metrics are for this machine alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry

from proxy.engine.placing.fleet import Fleet
from proxy.errors import ManifestUnavailable
from proxy.manifest.protocol import Manifest
from proxy.metrics import Counts
from proxy.server.internal import answer_internal
from proxy.server.telemetry import Telemetry
from proxy.server.wire.request import Request


class _Manifest:
    """One that is well."""

    trouble = ""

    async def find_epoch(self) -> SimpleNamespace:
        return SimpleNamespace(fence="")


async def _status(remote: str, *, path: str = "/-/health", **headers: str) -> int:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    request = cast(Request, SimpleNamespace(remote=remote, headers=named, raw_path=path))
    return (await answer_internal(request, cast(Manifest, _Manifest()), Fleet({}), Telemetry(Counts(CollectorRegistry())))).status


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.3.2.1", "::1"])
async def test_this_machine_is_answered(remote: str) -> None:
    assert await _status(remote) == 200
    assert await _status(remote, path="/-/nothing") == 404


@pytest.mark.parametrize("remote", ["10.0.0.1", "192.0.2.7", "::ffff:10.0.0.1", "fe80::1", ""])
async def test_another_machine_is_not(remote: str) -> None:
    assert await _status(remote) == 403


@pytest.mark.parametrize("header", ["Via", "forwarded", "X-Forwarded-For", "x-real-ip", "CF-Connecting-IP"])
async def test_who_comes_through_a_proxy_is_not_answered(header: str) -> None:
    assert await _status("127.0.0.1", **{header.replace("-", "_"): "10.0.0.1"}) == 403


async def test_metrics_without_a_manifest_tell_what_the_process_counts() -> None:
    async def gone() -> None:
        raise ManifestUnavailable("it is on another disk")

    registry = CollectorRegistry()
    manifest = cast(Manifest, SimpleNamespace(known_stores=gone, trouble=""))
    request = cast(Request, SimpleNamespace(remote="127.0.0.1", headers=CIMultiDict(), raw_path="/-/metrics"))
    answer = await answer_internal(request, manifest, Fleet({}), Telemetry(Counts(registry)))
    assert answer.status == 200
    assert b"shardgate_requests_in_flight 0.0" in answer.body
