"""Peers: who is at the other end of a connection, and what a proxy before us says of it.

Anybody can send X-Forwarded-For. So it is believed only of a proxy that the configuration names, and read from its end: each proxy adds the
address that it was asked by, and the last one that is no proxy of ours is the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from ssl import SSLObject
from typing import Protocol

from proxy.s3.policy.conditions import Address, read_address
from proxy.s3.policy.context import Peer

MAX_HOPS = 32


class Connection(Protocol):
    """What is asked of a connection: a request has it."""

    @property
    def remote(self) -> str: ...
    @property
    def secure(self) -> bool: ...
    @property
    def transport(self) -> asyncio.Transport | None: ...


class Peers:
    """Tells who sends a request."""

    def __init__(self, trusted: Iterable[str]) -> None:
        """Believe the proxies of these networks."""
        self._trusted: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(one) for one in trusted)

    def address(self, request: Connection, headers: Mapping[str, str]) -> str:
        """Return the address of who sends this, for logs and events. Where no proxy is trusted it costs nothing."""
        return self.peer(request, headers).address if self._trusted else request.remote

    def peer(self, request: Connection, headers: Mapping[str, str]) -> Peer:
        """Return who sends this. `headers` has lower-case names, repeated ones joined by commas."""
        address = read_address(request.remote.partition("%")[0])
        if address is None or not self._is_proxy(address):
            return Peer(str(address or ""), request.secure, _tls_version(request))
        secure = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower() == "https"
        return Peer(self._client(address, headers.get("x-forwarded-for", "")), secure)

    def _client(self, proxy: Address, forwarded: str) -> str:
        """Return the last address that is none of our proxies'; the proxy's own where what it says makes no sense."""
        last = proxy
        for text in reversed(forwarded.split(",")[-MAX_HOPS:]):
            address = read_address(text.strip().removeprefix("[").partition("]")[0])
            if address is None:
                break
            last = address
            if not self._is_proxy(address):
                break
        return str(last)

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _tls_version(request: Connection) -> str | None:
    connection = None if request.transport is None else request.transport.get_extra_info("ssl_object")
    version = connection.version() if isinstance(connection, SSLObject) else None
    return None if version is None else version.removeprefix("TLSv")
