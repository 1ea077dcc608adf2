"""HTTP by hand: requests no S3 library would send, and answers before any library has read them."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from xml.etree import ElementTree

from tests.blackbox.signer import UNSIGNED, Signed, Signer, encode_query
from tests.patience import PATIENCE_SECONDS


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, str]:
        """The elements of an S3 error document."""
        root = ElementTree.fromstring(self.body)
        assert root.tag == "Error", self.body
        return {element.tag: element.text or "" for element in root}

    @property
    def verdict(self) -> tuple[int, str]:
        """Status and error code; the code is empty for a success or an answer without a body."""
        return self.status, self.error["Code"] if self.status >= 300 and self.body else ""


@dataclass(frozen=True)
class RawClient:
    """Sends what it is told to."""

    host: str
    port: int
    signer: Signer

    def request(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        payload_hash: str = UNSIGNED,
    ) -> RawAnswer:
        """Sign and send."""
        signed = self.signer.sign(method, path, query, headers, payload_hash=payload_hash)
        return self.send(method, path, query, signed.headers, body)

    def sign(self, method: str, path: str, headers: Mapping[str, str] | None = None, *, payload_hash: str = UNSIGNED) -> Signed:
        return self.signer.sign(method, path, (), headers, payload_hash=payload_hash)

    def send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> RawAnswer:
        """Send as it is: nothing is signed, and no header added but Host and Content-Length."""
        connection = HTTPConnection(self.host, self.port, timeout=PATIENCE_SECONDS)
        try:
            sent = dict(headers or {})
            if "content-length" not in {name.lower() for name in sent} and (body or method in ("PUT", "POST")):
                sent["content-length"] = str(len(body))
            connection.putrequest(method, path + ("?" + encode_query(query) if query else ""), skip_host=True, skip_accept_encoding=True)
            for name, value in ({"host": f"{self.host}:{self.port}"} | {name.lower(): value for name, value in sent.items()}).items():
                connection.putheader(name, value.encode() if not value.isascii() else value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return RawAnswer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def exchange(self, sent: bytes) -> bytes:
        """Send bytes over a fresh connection and return the answer, or what came before the server closed it."""
        with self.connect() as connection:
            connection.sendall(sent)
            answer = b""
            while not _complete(answer) and (piece := connection.recv(65536)):
                answer += piece
            return answer

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=PATIENCE_SECONDS)


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return bool(end) and found is not None and len(body) >= int(found[1])


def read_to_end(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection, or resets it."""
    received = bytearray()
    try:
        while data := connection.recv(1024 * 1024):
            received += data
    except ConnectionResetError:
        pass
    return bytes(received)
