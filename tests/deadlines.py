"""Deadlines of the manifest's threads that pass when a test says so, and never by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from proxy import lanes
from proxy.manifest.sqlite import group_commit
from proxy.manifest.sqlite.adapter import SqliteManifest
from proxy.manifest.sqlite.group_commit import GroupCommitter
from proxy.manifest.sqlite.readers import Readers

Result = TypeVar("Result")
FAR_SECONDS = 10.0**6


class Deadlines:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._in_time = lanes.in_time
        self._awaited: list[asyncio.Future[object]] = []
        self._passed: list[GroupCommitter | Readers] = []
        monkeypatch.setattr(lanes, "in_time", self._await)
        monkeypatch.setattr(group_commit, "in_time", self._await)

    async def _await(self, future: asyncio.Future[Result], seconds: float, goes_on: Callable[[], bool] | None = None) -> Result:
        self._awaited.append(future)  # type: ignore[arg-type]  # nobody here looks at its result
        return await self._in_time(future, FAR_SECONDS, goes_on)

    def pass_for(self, *threads: GroupCommitter | Readers) -> None:
        """Whatever is waited for is late; and so is what these threads have begun, until `begin_anew`."""
        self._passed += threads
        for each in threads:
            each._timeout_seconds = 0.0
        for future in self._awaited:
            future.cancel()

    def begin_anew(self) -> None:
        for each in self._passed:
            each._timeout_seconds = FAR_SECONDS


def threads_of(manifest: SqliteManifest) -> tuple[GroupCommitter | Readers, ...]:
    return manifest._committer, manifest._points, manifest._listings
