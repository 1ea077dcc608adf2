"""Connections that are being made when the server stops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from types import SimpleNamespace
from typing import cast

import uvloop

from proxy.server.connection import Endpoint
from proxy.server.tls import Greetings
from proxy.server.wire.balance import Share
from proxy.server.wire.certificate import Certificate
from tests.patience import PATIENCE_SECONDS


class Counted:
    """Stands for an endpoint: it counts connections."""

    def __init__(self) -> None:
        self.share = Share.alone()

    def __call__(self) -> asyncio.BaseProtocol:
        connection = asyncio.Protocol()
        self.share.enter(connection)
        return connection


def test_a_client_that_came_right_before_a_stop_is_cut_off_and_not_counted_any_more() -> None:
    """It has not even begun its handshake, nor has the server."""

    async def stop_at_once() -> bytes:
        certificate = cast(Certificate, SimpleNamespace(context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))
        counted = Counted()
        greetings = Greetings(cast(Endpoint, counted), certificate, handshakes=4)
        client, accepted = _connected()
        greetings.begin(accepted, "127.0.0.1")
        assert counted.share.connections == 1
        await greetings.stop()
        assert counted.share.connections == 0
        with client:
            return await asyncio.to_thread(client.recv, 1)

    assert uvloop.run(stop_at_once()) == b""


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=PATIENCE_SECONDS)
        accepted, _ = listening.accept()
    accepted.settimeout(0)
    return client, accepted
