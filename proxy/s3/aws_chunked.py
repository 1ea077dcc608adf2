"""aws-chunked bodies: frames of `size[;chunk-signature=…]`, data, then trailers. Pushed: feed bytes, get plaintext.

A signed chunk is released only when its signature has been checked, so it is held until its end; AWS clients send 64 KiB to 1 MiB.
Source: "Signature calculations for the Authorization header: transferring payload in multiple chunks", S3 API Reference.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from proxy.s3.errors import S3Error

MAX_SIGNED_CHUNK = 16 * 1024 * 1024
MAX_LINE = 16 * 1024
_EMPTY_HASH = sha256(b"").hexdigest()


@dataclass(slots=True)
class ChunkSigner:
    """The chain of chunk signatures: each covers the one before it."""

    key: bytes
    amz_date: str
    scope: str
    previous: str

    def check_chunk(self, signature: str, digest: str) -> None:
        self._check(signature, f"AWS4-HMAC-SHA256-PAYLOAD\n{self.amz_date}\n{self.scope}\n{self.previous}\n{_EMPTY_HASH}\n{digest}")

    def check_trailer(self, signature: str, trailer: bytes) -> None:
        digest = sha256(trailer).hexdigest()
        self._check(signature, f"AWS4-HMAC-SHA256-TRAILER\n{self.amz_date}\n{self.scope}\n{self.previous}\n{digest}")

    def _check(self, signature: str, text: str) -> None:
        expected = hmac.digest(self.key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise S3Error("SignatureDoesNotMatch", StringToSign=text, SignatureProvided=signature)
        self.previous = expected


class ChunkedDecoder:
    """Decodes one body. `signer` is None for STREAMING-UNSIGNED-PAYLOAD-TRAILER; `trailers_expected` are lower-case names."""

    def __init__(self, *, decoded_length: int, signer: ChunkSigner | None, trailers_expected: tuple[str, ...] | None) -> None:
        self._signer = signer
        self._has_trailer = trailers_expected is not None
        self._expected = frozenset(trailers_expected or ())
        self._left_in_body = decoded_length
        self._buffer = bytearray()
        self._state: Callable[[list[bytes]], bool] = self._size_line
        self._chunk_left = 0
        self._signature = ""
        self._held: list[bytes] = []
        self._hash = sha256()
        self._trailers: dict[str, str] = {}
        self._trailer_text = b""
        self._done = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the plaintext they complete."""
        self._buffer += data
        released: list[bytes] = []
        while self._state(released):
            pass
        return released

    def finish(self) -> dict[str, str]:
        """Return the trailers by lower-case name, after the last byte. Raises IncompleteBody if frames are missing."""
        if not self._done or self._left_in_body:
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly")
        return self._trailers

    def _size_line(self, _: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        size_text, _semicolon, extension = line.partition(b";")
        try:
            self._chunk_left = int(size_text, 16)
        except ValueError:
            raise S3Error("InvalidRequest", "The body is not validly aws-chunked") from None
        if not 0 <= self._chunk_left <= self._left_in_body:
            raise S3Error("IncompleteBody", "The body does not match x-amz-decoded-content-length")
        self._left_in_body -= self._chunk_left
        if self._signer is not None:
            name, _equals, signature = extension.strip().partition(b"=")
            if name != b"chunk-signature" or self._chunk_left > MAX_SIGNED_CHUNK:
                raise S3Error("InvalidRequest", "A chunk has no signature, or is larger than 16 MiB")
            self._signature = signature.decode("latin-1")
        self._hash = sha256()
        self._state = self._data if self._chunk_left else self._last_chunk
        return True

    def _data(self, released: list[bytes]) -> bool:
        piece = bytes(self._buffer[: self._chunk_left])
        if not piece:
            return False
        del self._buffer[: len(piece)]
        self._chunk_left -= len(piece)
        if self._signer is None:
            released.append(piece)
        else:
            self._hash.update(piece)
            self._held.append(piece)
        if self._chunk_left == 0:
            self._state = self._data_end
        return True

    def _data_end(self, released: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            raise S3Error("InvalidRequest", "The body is not validly aws-chunked")
        if self._signer is not None:
            self._signer.check_chunk(self._signature, self._hash.hexdigest())
            released += self._held
            self._held = []
        self._state = self._size_line
        return True

    def _last_chunk(self, _: list[bytes]) -> bool:
        if self._signer is not None:
            self._signer.check_chunk(self._signature, _EMPTY_HASH)
        self._state = self._trailer_line
        return True

    def _trailer_line(self, _: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self._end()
            return False
        name, colon, value = line.partition(b":")
        key = name.strip().lower().decode("latin-1")
        if not colon or not self._has_trailer:
            raise S3Error("InvalidRequest", "The body is not validly aws-chunked")
        self._trailers[key] = value.strip().decode("latin-1")
        if key != "x-amz-trailer-signature":
            self._trailer_text += name.strip().lower() + b":" + value.strip() + b"\n"
        return True

    def _end(self) -> None:
        if self._signer is not None and self._has_trailer:
            signature = self._trailers.pop("x-amz-trailer-signature", "")
            self._signer.check_trailer(signature, self._trailer_text)
        if self._trailers.keys() != self._expected:
            raise S3Error("InvalidRequest", "The trailers are not those that x-amz-trailer announced")
        self._done = True
        self._state = self._after_end

    def _after_end(self, _: list[bytes]) -> bool:
        if self._buffer.strip(b"\r\n"):
            raise S3Error("InvalidRequest", "Bytes follow the end of the aws-chunked body")
        self._buffer.clear()
        return False

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE:
                raise S3Error("InvalidRequest", "The body is not validly aws-chunked")
            return None
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line
