"""Liveness: a process that cannot write its manifest says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

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

    healthy = False


async def health(services: Services) -> tuple[int, str]:
    dispatcher = Dispatcher(services, Telemetry(CollectorRegistry()))
    async with listening(dispatcher, host="127.0.0.1", port=0) as port, ClientSession(f"http://127.0.0.1:{port}") as client:
        response = await client.get("/-/health")
        return response.status, await response.text()


async def test_a_process_that_can_write_is_healthy(services: Services) -> None:
    assert await health(services) == (200, "ok\n")


async def test_a_process_that_cannot_write_its_manifest_is_not(services: Services) -> None:
    assert await health(replace(services, manifest=DeadManifest())) == (503, "manifest unavailable\n")  # type: ignore[arg-type]
