"""A response: what an answer has become, ready to be sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Response:
    """Status, headers and body. `length_bytes` is told instead of the body's own length, where the body is sent apart or not at all.

    `lines` are all headers as they are sent, if they are written already: the length is among them, and the request's id. Then nobody need
    give them as `headers`, too.
    """

    __slots__ = ("body", "closes", "headers", "is_begun", "lines", "status", "told_bytes")

    def __init__(
        self,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        length_bytes: int | None = None,
        lines: bytes = b"",
    ) -> None:
        self.status = status
        self.headers = headers if isinstance(headers, list) else list(headers)
        self.body = body
        self.told_bytes = length_bytes
        self.lines = lines
        self.closes = False  # nothing more is answered on this connection
        self.is_begun = False  # its status line has been sent

    @property
    def length_bytes(self) -> int:
        return len(self.body) if self.told_bytes is None else self.told_bytes

    def header(self, name: str) -> str:
        """Return a header by its lower-case name, "" if there is none."""
        return next((value for key, value in self.headers or _read(self.lines) if key.lower() == name), "")


def _read(lines: bytes) -> Iterator[tuple[str, str]]:
    for line in lines.decode().split("\r\n"):
        name, _, value = line.partition(": ")
        yield name, value
