"""OpenID Connect providers: the public keys of those that the configuration names, found through their discovery documents.

Keys are kept for an hour. A token with a key id that is not known makes us look again, but not more than every half a minute: whoever sends
such tokens must not make us a burden to the provider. While a provider does not answer, what it said last counts for a day.

Source: OpenID Connect Discovery 1.0, section 4
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
import msgspec

from proxy.clock import Clock
from proxy.config.sections import OidcConfig
from proxy.s3.sts.errors import StsError
from proxy.s3.sts.jwt import Claims, PublicKey, check_claims, read_jwt, read_keys, verify

FETCH_SECONDS = 5.0
KEEP_MS = 3600 * 1000
KEEP_UNANSWERED_MS = 24 * 3600 * 1000
AGAIN_MS = 30 * 1000
MAX_DOCUMENT_SIZE = 256 * 1024


class Providers:
    """The providers of the configuration."""

    def __init__(self, configs: Mapping[str, OidcConfig], clock: Clock) -> None:
        self._clock = clock
        self._providers = {config.issuer: _Provider(config, clock) for config in configs.values()}

    async def verify(self, text: str) -> Claims:
        """Return what a web identity token says, proven. Raises `StsError`."""
        jwt = read_jwt(text)
        provider = self._providers.get(jwt.claims.iss)
        if provider is None:
            raise StsError("InvalidIdentityToken", "No OpenIDConnect provider found in your account for the token's issuer")
        verify(jwt, await provider.key(jwt.head.kid))
        check_claims(jwt.claims, audiences=provider.audiences, now_ms=self._clock.now_ms())
        return jwt.claims


def provider_name(issuer: str) -> str:
    """Return how ARNs and condition keys name a provider: its address without the scheme."""
    return issuer.partition("://")[2].rstrip("/")


class _Provider:
    """One provider, and the keys that it published last."""

    def __init__(self, config: OidcConfig, clock: Clock) -> None:
        self.audiences = config.audiences
        self._issuer = config.issuer
        self._clock = clock
        self._keys: Mapping[str, PublicKey] = {}
        self._fetched_ms: int | None = None
        self._tried_ms: int | None = None
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> PublicKey:
        """Return the key of this id; without one, the only key there is. InvalidIdentityToken, IDPCommunicationError."""
        if self._is_due(kid):
            async with self._lock:
                if self._is_due(kid):
                    await self._refresh()
        found = self._find(kid)
        if found is None:
            raise StsError("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider")
        return found

    def _find(self, kid: str) -> PublicKey | None:
        if kid or len(self._keys) != 1:
            return self._keys.get(kid)
        return next(iter(self._keys.values()))

    def _is_due(self, kid: str) -> bool:
        now = self._clock.now_ms()
        if self._tried_ms is not None and 0 <= now - self._tried_ms < AGAIN_MS:
            return False
        return self._fetched_ms is None or now - self._fetched_ms >= KEEP_MS or self._find(kid) is None

    async def _refresh(self) -> None:
        self._tried_ms = self._clock.now_ms()
        try:
            async with asyncio.timeout(FETCH_SECONDS), aiohttp.ClientSession(trust_env=False) as client:
                self._keys = await self._fetch(client)
            self._fetched_ms = self._clock.now_ms()
        except (TimeoutError, aiohttp.ClientError, OSError, StsError) as error:
            if self._fetched_ms is None or self._clock.now_ms() - self._fetched_ms > KEEP_UNANSWERED_MS:
                self._keys = {}
                raise StsError("IDPCommunicationError", "The identity provider could not be reached, or gave no answer of use") from error

    async def _fetch(self, client: aiohttp.ClientSession) -> Mapping[str, PublicKey]:
        discovery = await _get(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            document = msgspec.json.decode(discovery, type=_Discovery)
        except msgspec.DecodeError as error:
            raise StsError("IDPCommunicationError", "The identity provider's discovery document cannot be read") from error
        if document.issuer != self._issuer:
            raise StsError("IDPCommunicationError", "The identity provider calls itself by another name")
        if document.jwks_uri.partition("://")[0] not in {"https", self._issuer.partition("://")[0]}:
            raise StsError("IDPCommunicationError", "The identity provider's keys are not behind TLS")
        return read_keys(await _get(client, document.jwks_uri))


class _Discovery(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str


async def _get(client: aiohttp.ClientSession, url: str) -> bytes:
    async with client.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise StsError("IDPCommunicationError", f"The identity provider answered {response.status}")
        document = bytearray()
        async for piece in response.content.iter_chunked(16 * 1024):
            document += piece
            if len(document) > MAX_DOCUMENT_SIZE:
                raise StsError("IDPCommunicationError", "The identity provider's document is too large")
        return bytes(document)
