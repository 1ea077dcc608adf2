"""Hosts: by which names this server is asked, and which of them name a bucket.

SDKs put the bucket before the host unless told otherwise. If a server takes `bucket.localhost` for its own name, GetObject of a key becomes
a request for a bucket of that name: a PUT of `k` makes a bucket `k`. So a host that is not known is refused, and the answer says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from proxy.s3.errors import S3Error

_PORT = re.compile(r":[0-9]*\Z")
_MAX_NAME = 255  # RFC 1035, section 2.3.4
_REMEMBERED = 256  # an address takes two microseconds to recognise


class Hosts:
    """The names of one server. An IP address is always one of them, and so is no name at all."""

    def __init__(self, names: Iterable[str], domains: Sequence[str], accelerated: Sequence[str] = ()) -> None:
        """Take the names that stand for the server alone, and the domains whose subdomains are buckets, in any case.

        Of the `accelerated` domains the subdomains are buckets, too, and nothing else is served by these names.
        """
        self._domains = (*domains, *accelerated)
        self._accelerated = frozenset(map(plain_host, accelerated))
        self._names = frozenset(map(plain_host, (*names, *domains)))
        self._find = lru_cache(_REMEMBERED)(self._look_up)

    def bucket(self, host: str) -> str | None:
        """Return the bucket that a Host header names, None where the path does. InvalidRequest for a host that is not ours."""
        if len(host) > _MAX_NAME:
            raise S3Error("InvalidRequest", "The Host header is longer than any name")
        return self._find(host)

    def accelerates(self, host: str) -> bool:
        """Tell whether a Host header, which names a bucket, is its accelerated name."""
        return bool(self._accelerated) and _domain_of(plain_host(host), self._domains) in self._accelerated

    def _look_up(self, host: str) -> str | None:
        name = plain_host(host)
        if name in self._accelerated:
            raise S3Error("InvalidRequest", "The S3 Transfer Acceleration endpoint only supports virtual style requests")
        bucket = bucket_of_host(host, self._domains)
        if bucket is None and name and name not in self._names and not _is_address(name):
            message = (
                f'This server is not called "{name}". If that begins with a bucket, use path-style addressing; '
                "if it is a name of this server, add it to `domains` in its configuration."
            )
            raise S3Error("InvalidRequest", message, Host=host)
        return bucket


def bucket_of_host(host: str, domains: Sequence[str]) -> str | None:
    """Return what stands before a domain, the longest that fits: `b.s3.example` is no bucket `b.s3` of `example`."""
    name = plain_host(host)
    domain = _domain_of(name, domains)
    return None if domain is None else name[: -len(domain) - 1] or None


def _domain_of(name: str, domains: Sequence[str]) -> str | None:
    ours = [domain.lower() for domain in domains]
    if name in ours:
        return None
    return max((domain for domain in ours if name.endswith(f".{domain}")), key=len, default=None)


def plain_host(host: str) -> str:
    """Return a host in lower case, without its port and the dot of the root."""
    return _PORT.sub("", host.strip()).lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
