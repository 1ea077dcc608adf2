"""NATS JetStream: each event is published to a subject, and is told once a stream has acknowledged it.

A message id goes with it: a stream passes over one that it has had in its window of duplicates.
"""

from __future__ import annotations

import asyncio

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

from proxy.errors import TargetFailed


class JetStream:
    """Publishes to a subject that a stream listens to. The connection is made when it is first needed, and again after it broke."""

    def __init__(self, url: str, subject: str, *, token: str, credentials: str, timeout_seconds: float) -> None:
        self._url = url
        self._subject = subject
        self._options: dict[str, str] = {}
        if token:
            self._options["token"] = token
        if credentials:
            self._options["user_credentials"] = credentials
        self._timeout_seconds = timeout_seconds
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def tell(self, message: bytes, *, message_id: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                client = await self._connected()
                await client.jetstream().publish(self._subject, message, timeout=self._timeout_seconds, headers={"Nats-Msg-Id": message_id})
        except (NatsError, TimeoutError, OSError, ValueError) as error:
            raise TargetFailed(f"{self._url}, subject {self._subject}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                # No reconnecting of its own: an event that cannot be told now stays in the manifest, and is told by the next turn.
                self._client = await nats.connect(
                    self._url, allow_reconnect=False, connect_timeout=self._timeout_seconds, error_cb=_heard, **self._options
                )
            return self._client


async def _heard(_error: Exception) -> None:
    """The client logs every error of its own, with a traceback; whoever publishes hears of it, too."""
