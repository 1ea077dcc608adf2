"""Free ports of 127.0.0.1 for the servers of tests and measurements.

A port is chosen some time before its server listens on it. Meanwhile an outgoing connection could take it, or another process that looks
for one. So ports lie below those of outgoing connections (from 32768 on, unless Linux is told otherwise), and whoever was given one holds
the UDP port of the same number, which no server here uses and everybody who looks takes first.
"""

from __future__ import annotations

import socket
from collections import deque
from random import SystemRandom

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_768)
_HELD = 64  # by a process: the servers of the ports before have come up long ago
_held: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody else is given before the caller has used it."""
    for port in SystemRandom().sample(_PORTS, len(_PORTS)):
        if (held := _bound(port, socket.SOCK_DGRAM)) is None:
            continue
        if (probe := _bound(port, socket.SOCK_STREAM)) is None:
            held.close()
            continue
        probe.close()
        _hold(held)
        return port
    raise OSError(f"no port from {_PORTS.start} on is free")


def _hold(held: socket.socket) -> None:
    _held.append(held)
    if len(_held) > _HELD:
        _held.popleft().close()


def _bound(port: int, kind: socket.SocketKind) -> socket.socket | None:
    bound = socket.socket(socket.AF_INET, kind)
    try:
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        return None
    return bound
