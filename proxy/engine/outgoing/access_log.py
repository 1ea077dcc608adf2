"""Access logs: lines of requests, kept for a while, and stored as objects of another bucket.

As on AWS this is done as well as it can be, and promised to nobody: lines lie in memory until they are stored, so a process that is killed
loses those of the last minutes, and where more come than can be stored, some are dropped and counted. No request waits for its line.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.clock import Clock
from proxy.engine.engine import Engine
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.workers import Progress
from proxy.engine.writing.whole_body import WholeBody
from proxy.errors import ProxyError
from proxy.manifest.records import Bucket, BucketName, ObjectAttributes, ObjectKey, Tenant
from proxy.s3.access_log import LogTarget, object_key

logger = logging.getLogger(__name__)

STORED_BYTES = 1024 * 1024  # of one object; with as many lines as make one it is stored at once
OWN_BYTES = 1024 * 1024  # of lines that wait: more is taken from the memory budget, as far as nobody else wants it
HELD_BYTES = 16 * 1024 * 1024  # of all lines that wait: beyond, they are dropped
POLL_SECONDS = 1.0
_ATTRIBUTES = ObjectAttributes(headers={"ContentType": "text/plain"})


class _Stream(NamedTuple):
    """Lines that make objects together."""

    bucket: str
    owner_id: str
    account: str
    target: LogTarget


@dataclass(slots=True)
class _Lines:
    """The lines of a stream that wait."""

    since: float
    at_ms: int
    size: int = 0
    lines: list[bytes] = field(default_factory=list)


class AccessLog:
    """The worker that stores lines. Each process has its own."""

    name = "access-logs"
    everywhere = True
    idle_seconds = POLL_SECONDS

    def __init__(self, engine: Engine, clock: Clock, budget: Budget, *, region: str, interval_seconds: float) -> None:
        self._engine = engine
        self._clock = clock
        self._budget = budget
        self._grants: list[Grant] = []  # of OWN_BYTES each
        self._region = region
        self._interval_seconds = interval_seconds
        self._waiting: dict[_Stream, _Lines] = {}
        self._held_bytes = 0
        self._dropped = 0

    def note(self, bucket: Bucket, owner: Tenant, target: LogTarget, line: str, at_ms: int) -> None:
        """Keep the line of a request about a bucket. Takes no time."""
        data = line.encode()
        if not self._has_room(len(data)):
            self._dropped += 1
            return
        stream = _Stream(bucket.name, owner.id, owner.account_id, target)
        waiting = self._waiting.get(stream)
        if waiting is None:
            waiting = self._waiting[stream] = _Lines(since=self._clock.monotonic(), at_ms=at_ms)
        waiting.lines.append(data)
        waiting.size += len(data)
        self._held_bytes += len(data)

    def _has_room(self, more_bytes: int) -> bool:
        """Tell whether as many bytes may be held, too."""
        wanted = self._held_bytes + more_bytes
        room = OWN_BYTES * (1 + len(self._grants))
        if wanted > room and room < HELD_BYTES and (grant := self._budget.take_at_once(OWN_BYTES, owner="")) is not None:
            self._grants.append(grant)
            room += OWN_BYTES
        return wanted <= room

    def _let_go(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        while self._grants and self._held_bytes <= OWN_BYTES * len(self._grants):
            self._grants.pop().release()

    async def step(self) -> Progress:
        now = self._clock.monotonic()
        due = {
            stream: lines
            for stream, lines in self._waiting.items()
            if lines.size >= STORED_BYTES or now - lines.since >= self._interval_seconds
        }
        return await self._store(due)

    async def flush(self) -> None:
        """Store all lines that wait."""
        await self._store(dict(self._waiting))

    async def _store(self, due: Mapping[_Stream, _Lines]) -> Progress:
        troubles, done = [], 0
        for stream, lines in due.items():
            del self._waiting[stream]
            try:
                await self._put(stream, b"".join(lines.lines), lines.at_ms)
                done += len(lines.lines)
            except ProxyError as error:
                self._dropped += len(lines.lines)
                troubles.append(f"{len(lines.lines)} lines of bucket {stream.bucket} could not be stored: {error}")
            finally:
                self._let_go(lines.size)
        if self._dropped:
            logger.warning("%d lines of access logs were dropped", self._dropped)
            self._dropped = 0
        return Progress(idle=True, done=done, trouble="; ".join(troubles))

    async def _put(self, stream: _Stream, data: bytes, at_ms: int) -> None:
        bucket = await self._engine.find_bucket(BucketName(stream.target.bucket))
        owner = None if bucket is None else await self._engine.find_tenant(bucket.tenant_id)
        if bucket is None or owner is None or owner.id != stream.owner_id:
            raise ProxyError(f"bucket {stream.target.bucket}, where they should go, is gone or not of the same owner")
        key = object_key(
            stream.target,
            account=stream.account,
            region=self._region,
            bucket=stream.bucket,
            at_ms=at_ms if stream.target.partition == "EventTime" else self._clock.now_ms(),
            unique=secrets.token_hex(8).upper(),
        )
        await self._engine.put_object(bucket, owner, ObjectKey(key), WholeBody(data), _ATTRIBUTES)
