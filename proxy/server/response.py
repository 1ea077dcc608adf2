"""A response: what an answer has become, ready to be sent."""

from __future__ import annotations

from collections.abc import Iterable


class Response:
    """Status, headers and body. `length_bytes` is told instead of the body's own length, where the body is sent apart or not at all."""

    __slots__ = ("_length_bytes", "body", "closes", "headers", "is_begun", "status")

    def __init__(
        self, status: int = 200, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, length_bytes: int | None = None
    ) -> None:
        self.status = status
        self.headers = headers if isinstance(headers, list) else list(headers)
        self.body = body
        self._length_bytes = length_bytes
        self.closes = False  # nothing more is answered on this connection
        self.is_begun = False  # its status line has been sent

    @property
    def length_bytes(self) -> int:
        return len(self.body) if self._length_bytes is None else self._length_bytes

    @property
    def tells_length(self) -> bool:
        """Whether a length is told although there is no body."""
        return self._length_bytes is not None

    def header(self, name: str) -> str:
        """Return a header by its lower-case name, "" if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")
