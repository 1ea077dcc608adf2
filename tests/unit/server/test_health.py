"""Liveness: a process that cannot write its manifest says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from proxy.errors import ManifestUnavailable
from proxy.metrics import Counts
from proxy.server.app import listening
from proxy.server.dispatch import Dispatcher
from proxy.server.telemetry import Telemetry
from proxy.services import Services
from tests.laboratory import laboratory


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with laboratory(tmp_path) as lab:
        yield lab.services


class DeadManifest:
    """A manifest whose writer is no more."""

    trouble = "the manifest cannot be written: database or disk is full"


class ClosedManifest:
    """A manifest that has found no trouble yet, and does not answer."""

    trouble = ""

    async def find_epoch(self) -> object:
        raise ManifestUnavailable("the manifest is closed")


async def health(services: Services) -> tuple[int, str]:
    dispatcher = Dispatcher(services, Telemetry(Counts(CollectorRegistry())))
    async with listening(dispatcher, host="127.0.0.1", port=0) as port, ClientSession(f"http://127.0.0.1:{port}") as client:
        response = await client.get("/-/health")
        return response.status, await response.text()


async def test_health_can_be_asked_without_a_body(services: Services) -> None:
    dispatcher = Dispatcher(services, Telemetry(Counts(CollectorRegistry())))
    async with listening(dispatcher, host="127.0.0.1", port=0) as port, ClientSession(f"http://127.0.0.1:{port}") as client:
        response = await client.head("/-/health")
        assert (response.status, await response.text()) == (200, "")


async def test_a_process_that_can_write_is_healthy(services: Services) -> None:
    assert await health(services) == (200, "ok\n")


async def test_a_process_that_cannot_write_its_manifest_is_not(services: Services) -> None:
    assert await health(replace(services, manifest=DeadManifest())) == (503, f"{DeadManifest.trouble}\n")  # type: ignore[arg-type]


async def test_a_process_that_may_not_write_its_manifest_says_why(services: Services) -> None:
    await services.manifest.fence("an older copy")
    assert await health(services) == (503, "an older copy\n")


async def test_a_manifest_that_cannot_be_read_is_no_failure_of_ours(services: Services) -> None:
    status, reason = await health(replace(services, manifest=ClosedManifest()))  # type: ignore[arg-type]
    assert (status, reason) == (503, "the manifest is closed\n")
