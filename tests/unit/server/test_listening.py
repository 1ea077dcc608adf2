"""The port: who holds it, and when connections come."""

from __future__ import annotations

import socket

import pytest

from proxy.errors import ConfigError
from proxy.server.wire.listening import bound, listen, refuse
from tests.patience import PATIENCE_SECONDS


def _connects(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_port_that_is_held_or_listened_on_cannot_be_had_by_another() -> None:
    with bound("127.0.0.1", 0) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(ConfigError, match="Address already in use"), bound("127.0.0.1", port):
            pass
        listen(sockets, backlog=1)
        with pytest.raises(ConfigError, match=f"cannot use 127.0.0.1:{port}: Address already in use"), bound("127.0.0.1", port):
            pass


def test_a_port_whose_last_connections_are_in_time_wait_can_be_used_at_once() -> None:
    with bound("127.0.0.1", 0) as sockets:
        listen(sockets, backlog=1)
        address = sockets[0].getsockname()
        with socket.create_connection(address, timeout=PATIENCE_SECONDS) as client:
            sockets[0].accept()[0].close()  # the server closes first, and waits
            assert client.recv(1) == b""
    with bound(*address) as sockets:
        listen(sockets, backlog=1)
        assert _connects(address)


def test_connections_are_refused_until_somebody_listens_and_when_nobody_is_to_any_more() -> None:
    with bound("127.0.0.1", 0) as sockets:
        refuse(sockets)
        address = sockets[0].getsockname()
        assert not _connects(address)
        listen(sockets, backlog=5)
        assert _connects(address)
        refuse(sockets)
        assert not _connects(address)


def test_a_name_of_both_families_has_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)), (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with bound("localhost", 0) as sockets:
        assert {listening.family for listening in sockets} == ({socket.AF_INET, socket.AF_INET6} if _has_ipv6() else {socket.AF_INET})
        assert len({listening.getsockname()[1] for listening in sockets}) == 1


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(ConfigError, match="Cannot assign requested address; choose another"), bound("192.0.2.1", 9000):
        pass


def test_a_name_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(ConfigError, match="cannot use nowhere:9000: Name or service not known"), bound("nowhere", 9000):
        pass


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
