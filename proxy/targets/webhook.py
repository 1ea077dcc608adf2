"""A webhook: each event is posted to a URL, and is told once that answers 2xx."""

from __future__ import annotations

import aiohttp

from proxy.errors import TargetFailed

HEARD_BYTES = 16 * 1024  # of an answer, so that its connection can be used again; the rest is not worth it


class Webhook:
    """Posts JSON. Redirects are not followed: what is told, and the secret with it, goes where the configuration says."""

    def __init__(self, url: str, *, authorization: str, timeout_seconds: float) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json", "User-Agent": "Shardgate"}
        if authorization:
            self._headers["Authorization"] = authorization
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def tell(self, message: bytes, *, message_id: str) -> None:
        session = self._session = self._session or aiohttp.ClientSession(timeout=self._timeout)
        headers = {**self._headers, "X-Shardgate-Event-Id": message_id}
        try:
            async with session.post(self._url, data=message, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(HEARD_BYTES)
                if not 200 <= answer.status < 300:
                    raise TargetFailed(f"{self._url} answered {answer.status} {answer.reason}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TargetFailed(f"{self._url}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
