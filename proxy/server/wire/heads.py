"""Heads of requests, bounded while they come: HTTP's parser, told to keep little.

The problem: aiohttp's parser bounds each header and their number. All together they may have megabytes. They come from a client that
nobody knows yet, and are kept until the head is complete, which may be never. So are the trailers of a chunked body, and requests that are
sent before the last one is answered.

The idea: count what goes into the parser while nothing comes out. A head is handed over in slices, so that no more of it lies in the
parser than a head may have. A body of known length does not go in at all (see `inflow`): behind it, a new parser begins. Each slice of a
chunked one must bring bytes of the body. The headers of a complete head are measured once more, exactly.

What begins where a request may begin, and is one whole request of a shape that is known (see `shapes`), does not go in either. So it must
be sure that nothing lies in the parser then. What has gone in is kept until a request comes out that ends with its last byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpRequestParser, HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from proxy.s3.shape import MAX_SHAPED_SIZE
from proxy.server.wire.inflow import Inflow

MAX_HEAD_SIZE = 16 * 1024  # the request line too: a key of 1,024 bytes is 3 KiB escaped, and a presigned URL has a token
MAX_HEADERS_SIZE = 8 * 1024  # https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonRequestHeaders.html: so it is on S3
_SEPARATORS = len(": \r\n")
_VERSIONS = (HttpVersion11, HttpVersion10)  # the parser knows 0.9 and 2.0 as well, and the answer would claim to be of the same
HEAD_END = b"\r\n\r\n"
_FRAMING_SHARE = 4  # a chunked body's framing may have a quarter of its bytes: each chunk costs a call, as much as thousands of its bytes

Message = tuple[RawRequestMessage, StreamReader]


class Door(Protocol):
    """Takes requests that come alone, or leaves them to aiohttp."""

    def recognise(self, data: bytes) -> bool:
        """Take bytes that are one request of a known shape."""
        ...

    def offer(self, message: RawRequestMessage, content: StreamReader, head: bytes) -> bool:
        """Take a request as the parser found it. `head`: as it came, if nothing else came with it but its body."""
        ...


class HeadTooLarge(BadHttpMessage):
    """A head, or the trailers of a body, of more bytes than are kept."""

    def __init__(self) -> None:
        super().__init__("the head of the request is too large")


class BoundedParser:
    """Takes the place of aiohttp's parser in a connection."""

    __slots__ = ("_door", "_inflow", "_lying", "_new_parser", "_parser", "_payload", "_received", "_unanswered", "_wire", "is_refusing")

    def __init__(self, new_parser: Callable[[], HttpRequestParser], door: Door | None = None) -> None:
        self._new_parser = new_parser
        self._door = door
        self._parser = new_parser()
        self._lying: bytes | None = b""  # in the parser, if that is known
        self._inflow: Inflow | None = None
        self._payload: StreamReader | None = None
        self._received = 0  # bytes of a chunked body
        self._wire = 0  # bytes that went in for it
        self._unanswered = 0  # bytes that went in since something came out
        self.is_refusing = False

    @property
    def inflow(self) -> Inflow | None:
        """The body of known length that still owes bytes."""
        return None if self._inflow is None or self._inflow.is_eof() else self._inflow

    @property
    def has_all(self) -> bool:
        """Whether a request has come, and the last one whole, or what nobody can read."""
        begun = self._inflow if self._payload is None else self._payload
        return self.is_refusing or (begun is not None and begun.is_eof())

    def is_recognised(self, data: bytes) -> bool:
        """Have the door take bytes that are one request of a known shape, and tell whether it did: nothing is to be parsed of them."""
        if self._door is None or self._lying != b"" or self.is_refusing or self.inflow is not None or not self._door.recognise(data):
            return False
        self._payload = EMPTY_PAYLOAD
        self._received = self._unanswered = self._wire = 0
        return True

    def feed_data(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        """As aiohttp's, of what is not recognised. Raises `HttpProcessingError` once, and ignores whatever follows."""
        if self.is_refusing:
            return (), False, b""
        try:
            messages, is_upgraded, tail = self._feed_slices(data)
        except HttpProcessingError as error:
            self.is_refusing = True
            if self._payload is not None and not self._payload.is_eof():
                self._payload.set_exception(web.RequestPayloadError(error.message))
            raise
        if len(messages) == 1 and not is_upgraded and self._door is not None:
            message, content = messages[0]
            if self._door.offer(message, content, self._whole_head(message, content)):
                self._parser.message_consumed()
                return (), False, b""
        elif messages:
            self._lying = None
        return messages, is_upgraded, tail

    def message_consumed(self) -> None:
        self._parser.message_consumed()

    def pause_reading(self) -> None:
        if self.inflow is None:
            self._parser.pause_reading()

    def set_upgraded(self, upgraded: bool) -> None:  # noqa: FBT001 - aiohttp's
        self._parser.set_upgraded(upgraded)

    def _feed_slices(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        size = self._room()
        if len(data) <= size:
            return self._feed(data)
        found: list[Message] = []
        while data:
            size = self._room()
            messages, is_upgraded, tail = self._feed(data[:size])
            found += messages
            data = data[size:]
            if is_upgraded:
                return found, True, tail + data
        return found, False, b""

    def _room(self) -> int:
        return MAX_HEAD_SIZE + 1 - self._unanswered if (inflow := self.inflow) is None else inflow.owed_bytes

    def _feed(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        if (inflow := self.inflow) is not None:
            inflow.feed_data(data)
            return (), False, b""
        messages, is_upgraded, tail = self._parser.feed_data(data)
        if self._lying is not None:
            self._lying = self._lying + data if messages or len(self._lying) + len(data) <= MAX_SHAPED_SIZE else None
        if messages:
            self._begin(messages, self._unanswered + len(data))
        else:
            self._count(len(data))
        return messages if is_upgraded else self._passed_by(messages), is_upgraded, tail

    def _begin(self, messages: Sequence[Message], size: int) -> None:
        """Take the messages that come out after so many bytes; their headers cannot have more."""
        if any(message.version not in _VERSIONS for message, _ in messages):
            raise BadHttpMessage("a version that is not spoken here")
        for message, _ in messages if size > MAX_HEADERS_SIZE else ():
            if sum(len(name) + len(value) + _SEPARATORS for name, value in message.raw_headers) > MAX_HEADERS_SIZE:
                raise HeadTooLarge
        self._payload = messages[-1][1]
        self._received, self._unanswered, self._wire = self._payload.total_bytes, 0, self._payload.total_bytes

    def _passed_by(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages; if the last one owes bytes of a body of known length, these need the parser no more."""
        if not messages or messages[-1][0].chunked or messages[-1][1].is_eof():
            return messages
        message, begun = messages[-1]
        size = int(message.headers["Content-Length"])
        if begun.total_bytes >= size:  # told to pause by its last bytes, the parser keeps what is behind them, and the end with it
            return messages
        self._inflow = Inflow(begun, size_bytes=size)
        self._parser, self._payload, self._lying = self._new_parser(), None, b""
        return [*messages[:-1], (message, self._inflow)]

    def _whole_head(self, message: RawRequestMessage, content: StreamReader) -> bytes:
        """Return the head of the only request that lies in the parser, if that ends with its body; and note what lies there now."""
        if content is self._inflow:  # behind it a new parser begins, in which nothing lies
            return b""
        lying = self._lying or b""
        size = lying.find(HEAD_END) + len(HEAD_END)
        if size < len(HEAD_END) or message.chunked or not content.is_eof() or size + content.total_bytes != len(lying):
            self._lying = None
            return b""
        self._lying = b""
        return lying[:size]

    def _count(self, size: int) -> None:
        if self._payload is not None and self._payload.total_bytes != self._received:
            self._received, self._unanswered = self._payload.total_bytes, 0
        else:
            self._unanswered += size
        self._wire += size
        if self._unanswered > MAX_HEAD_SIZE:
            raise HeadTooLarge
        framing = self._wire - self._received  # what follows on the body counts with it, until the next head is complete
        if framing > 2 * MAX_HEAD_SIZE + self._received // _FRAMING_SHARE:
            raise HeadTooLarge
