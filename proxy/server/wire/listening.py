"""The sockets that connections come to: bound before anything is begun, so that a port in use is told at once, and listened on at last."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from proxy.errors import ConfigError

_LACKING = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # of a machine that has no IPv6, where a name is of both families


@contextmanager
def bound(host: str, port: int) -> Iterator[Sequence[socket.socket]]:
    """Hold the port, at each address of the host; nothing is accepted yet. Raises `ConfigError` if another holds it."""
    with ExitStack() as opened:
        try:
            sockets = _bind_all(host, port, opened)
        except OSError as error:
            raise ConfigError(f"listen: cannot use {host}:{port}: {error.strerror}; choose another with --listen HOST:PORT") from error
        yield sockets


def listen(sockets: Sequence[socket.socket], *, backlog: int) -> None:
    """Let connections come."""
    for listening in sockets:
        listening.settimeout(0)
        # As for whoever comes after us in `_bind`: what we accept is like the socket that we listen on.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.listen(backlog)


def refuse(sockets: Sequence[socket.socket]) -> None:
    """Let no more connections come, also to other processes that have the same sockets."""
    for listening in sockets:
        with suppress(OSError):  # nobody has listened yet; or the system lets only those refuse that accept
            listening.shutdown(socket.SHUT_RDWR)


def _bind_all(host: str, port: int, opened: ExitStack) -> Sequence[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    lacking: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        taken = sockets[0].getsockname()[1] if sockets else port  # the same of both families, also where any will do
        try:
            sockets.append(opened.enter_context(_bind(family, (address[0], taken, *address[2:]))))
        except OSError as error:
            if error.errno not in _LACKING:
                raise
            lacking = error
    if lacking is not None and not sockets:
        raise lacking
    return sockets


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections that a server before closed stay in TIME_WAIT for a minute, and would hold the port.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        bound.bind(address)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # else another start could bind the same, until one of us listens
    except OSError:
        bound.close()
        raise
    return bound
