"""Who sends a request: the connection says it, and a proxy that is trusted."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from proxy.s3.policy.context import Peer
from proxy.server.wire.peers import MAX_HOPS, Peers


class Line(NamedTuple):
    """A connection."""

    remote: str
    secure: bool = False
    transport: asyncio.Transport | None = None


def address(remote: str, forwarded: str | None = None) -> str:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return Peers(["10.0.0.0/8", "2001:db8::/32"]).peer(Line(remote), headers).address


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("192.0.2.7", None, "192.0.2.7"),
        ("192.0.2.7", "203.0.113.1", "192.0.2.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "198.51.100.9, 203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "198.51.100.9, 203.0.113.1, 10.0.0.2", "203.0.113.1"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2"),
        ("2001:db8::1", "2001:db9::5", "2001:db9::5"),
        ("2001:db8::1", "[2001:db9::5]:443", "2001:db9::5"),
        ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("", "203.0.113.1", ""),
    ],
)
def test_a_forwarded_address_is_believed_of_trusted_proxies_alone(remote: str, forwarded: str | None, expected: str) -> None:
    assert address(remote, forwarded) == expected


def test_a_long_chain_is_read_to_its_bound() -> None:
    chain = ", ".join(["203.0.113.1", *["10.0.0.9"] * 1000])
    assert address("10.0.0.1", chain) == "10.0.0.9"
    assert MAX_HOPS < 1000


@pytest.mark.parametrize(
    ("remote", "secure", "proto", "expected"),
    [
        ("192.0.2.7", True, None, True),
        ("192.0.2.7", False, "https", False),
        ("10.0.0.1", False, "https", True),
        ("10.0.0.1", False, "http, https", True),
        ("10.0.0.1", True, "http", False),
        ("10.0.0.1", True, None, False),
    ],
)
def test_so_is_what_it_says_of_tls(remote: str, secure: bool, proto: str | None, expected: bool) -> None:
    headers = {} if proto is None else {"x-forwarded-proto": proto}
    assert Peers(["10.0.0.1"]).peer(Line(remote, secure), headers).secure is expected


def test_without_a_connection_there_is_nobody() -> None:
    assert Peers(()).peer(Line(""), {}) == Peer()
