"""The aws-chunked framing of a body: `size;chunk-signature=…` lines around the payload, then perhaps trailers.

The problem: a client that streams cannot hash the body before it sends the headers. It signs chunk by chunk instead,
each signature over the one before and the chunk's hash, or signs nothing and sends a checksum after the last byte.

The idea: a push parser without I/O. Control lines are collected in a small bounded buffer; payload is never held, and a
piece of input that is all payload is passed on as the very object that came in. A signed chunk is hashed on its way and its
signature checked at its end. So bytes are passed on before they are proven, and whoever takes them must make nothing of them
visible until `finish` has returned: as with a body whose SHA-256 is signed, and known only after the last byte.

Source: docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html. What AWS answers
to faults is as the authors of versitygw recorded it from AWS.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from datetime import datetime
from enum import Enum, auto

from proxy.s3.claim import STREAMING_MODES, STREAMING_SIGNED, STREAMING_UNSIGNED_TRAILER, format_timestamp
from proxy.s3.errors import S3Error

MIN_CHUNK_BYTES = 8192  # of all chunks but the last, which AWS enforces in signed and unsigned bodies alike
_MAX_LINE_BYTES = 1024  # a chunk line has at most 16 + 17 + 64 characters, a trailer about 100
_MAX_TRAILERS = 16

_EMPTY_SHA256 = hashlib.sha256().hexdigest()
_SIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")
_UNSIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(?:;[^\r\n]*)?")
_TRAILER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e]*)")
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


class _State(Enum):
    CHUNK_LINE = auto()
    PAYLOAD = auto()
    PAYLOAD_END = auto()
    TRAILER = auto()
    DONE = auto()


class ChunkedDecoder:
    """Turns an aws-chunked body, pushed in arbitrary pieces, into its plaintext.

    `mode` is one of `claim.STREAMING_MODES`; the signed ones need the claim's signature, its signing key, timestamp and scope.
    `trailers_expected` are the names the x-amz-trailer header announced. An error leaves the decoder unusable.
    """

    def __init__(
        self,
        mode: str,
        *,
        decoded_length: int,
        seed_signature: str = "",
        signing_key: bytes = b"",
        timestamp: datetime | None = None,
        scope: str = "",
        trailers_expected: Collection[str] = (),
    ) -> None:
        if mode not in STREAMING_MODES:
            raise ValueError(f"{mode} is no streaming mode")
        self._chain: _SignatureChain | None = None
        if mode != STREAMING_UNSIGNED_TRAILER:
            if timestamp is None:
                raise ValueError(f"{mode} needs a timestamp")
            self._chain = _SignatureChain(seed_signature, signing_key, timestamp, scope)
        self._has_trailers = mode != STREAMING_SIGNED
        self._trailers_expected = {name.lower() for name in trailers_expected}
        self._decoded_length = decoded_length
        self._announced = 0  # plaintext bytes of all chunk lines so far
        self._chunk_number = 0
        self._chunk_size = MIN_CHUNK_BYTES
        self._state = _State.CHUNK_LINE
        self._line = bytearray()
        self._chunk_left = 0
        self._chunk_signature = ""
        self._chunk_hash = hashlib.sha256()
        self._trailers: dict[str, str] = {}
        self._line_before_signature = False
        self._line_after_end = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the body; return the plaintext in them, in order. It is proven only when `finish` has returned."""
        plaintext: list[bytes] = []
        position = 0
        while position < len(data):
            position = self._step(data, position, plaintext)
        return plaintext

    def finish(self) -> dict[str, str]:
        """Declare the body over; return its trailers by lower-case name, or raise if anything is missing."""
        if self._state is not _State.DONE or self._line or self._announced != self._decoded_length:
            raise S3Error("IncompleteBody")
        if self._trailers.keys() != self._trailers_expected:
            raise S3Error("MalformedTrailerError")
        return self._trailers

    def _step(self, data: bytes, position: int, plaintext: list[bytes]) -> int:
        if self._state is _State.PAYLOAD:
            return self._take_payload(data, position, plaintext)
        if self._state is _State.DONE and (self._chain is not None or self._line_after_end):
            raise S3Error("IncompleteBody", "The aws-chunked body has bytes after its end")
        return self._take_line(data, position)

    def _take_payload(self, data: bytes, position: int, plaintext: list[bytes]) -> int:
        end = min(len(data), position + self._chunk_left)
        piece = data if end - position == len(data) else data[position:end]
        self._chunk_left -= len(piece)
        plaintext.append(piece)
        if self._chain is not None:
            self._chunk_hash.update(piece)
        if not self._chunk_left:
            self._end_payload()
        return end

    def _end_payload(self) -> None:
        if self._chain is not None:
            self._chain.check_chunk(self._chunk_signature, self._chunk_hash.hexdigest())
        self._state = _State.PAYLOAD_END

    def _take_line(self, data: bytes, position: int) -> int:
        newline = data.find(b"\n", position)
        end = len(data) if newline < 0 else newline
        if len(self._line) + end - position > _MAX_LINE_BYTES:
            raise S3Error("MalformedTrailerError" if self._state is _State.TRAILER else "IncompleteBody")
        self._line += data[position:end]
        if newline < 0:
            return end
        line = bytes(self._line.removesuffix(b"\r"))
        self._line.clear()
        self._read_line(line)
        return newline + 1

    def _read_line(self, line: bytes) -> None:
        if self._state is _State.CHUNK_LINE:
            self._begin_chunk(line)
        elif self._state is _State.TRAILER:
            self._read_trailer(line)
        elif self._state is _State.PAYLOAD_END and not line:
            self._state = _State.CHUNK_LINE
        elif self._state is _State.DONE and not line:
            self._line_after_end = True  # minio-go ends an unsigned body with one line break more than there is to end; AWS takes it
        else:
            raise S3Error("IncompleteBody", "The aws-chunked body has bytes where a chunk should end")

    def _begin_chunk(self, line: bytes) -> None:
        match = (_UNSIGNED_LINE if self._chain is None else _SIGNED_LINE).fullmatch(line)
        if match is None:
            raise S3Error("IncompleteBody", "A chunk of the aws-chunked body does not begin with its size and signature")
        size = int(match[1], 16)
        self._check_size(size)
        if self._chain is not None:
            self._chunk_signature = match[2].decode()
            self._chunk_hash = hashlib.sha256()
        self._chunk_left = size
        self._state = _State.PAYLOAD if size else self._end_chunks()

    def _check_size(self, size: int) -> None:
        self._chunk_number += 1
        if size and self._chunk_size < MIN_CHUNK_BYTES:
            raise S3Error("InvalidChunkSizeError", Chunk=self._chunk_number, BadChunkSize=self._chunk_size)
        self._chunk_size = size
        self._announced += size
        if self._announced > self._decoded_length:
            message = "You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header"
            raise S3Error("IncompleteBody", message)

    def _end_chunks(self) -> _State:
        if self._chain is not None:
            self._chain.check_chunk(self._chunk_signature, _EMPTY_SHA256)
        return _State.TRAILER

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self._end_trailers()
            return
        match = _TRAILER_LINE.fullmatch(line)
        if match is None or not self._has_trailers:
            raise S3Error("MalformedTrailerError")
        name, value = match[1].decode().lower(), match[2].decode().strip()
        if name == _TRAILER_SIGNATURE and self._chain is not None:
            self._chain.check_trailers(value, self._trailers)
        elif self._trailers_closed or name in self._trailers or len(self._trailers) == _MAX_TRAILERS:
            raise S3Error("MalformedTrailerError")
        else:
            self._trailers[name] = value

    @property
    def _trailers_closed(self) -> bool:
        return self._chain is not None and self._chain.complete

    def _end_trailers(self) -> None:
        if not self._has_trailers or self._chain is None or self._chain.complete:
            self._state = _State.DONE
        elif self._line_before_signature:
            raise S3Error("MalformedTrailerError")
        else:  # AWS's own example has an empty line before the trailer signature as well as after it
            self._line_before_signature = True


class _SignatureChain:
    """Checks signatures of which each covers the one before, beginning at the request's own."""

    def __init__(self, seed: str, key: bytes, timestamp: datetime, scope: str) -> None:
        self._previous = seed
        self._key = key
        self._context = f"{format_timestamp(timestamp)}\n{scope}"
        self.complete = False  # the trailers' signature was seen: nothing may follow

    def check_chunk(self, signature: str, payload_sha256: str) -> None:
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{self._context}\n{self._previous}\n{_EMPTY_SHA256}\n{payload_sha256}"
        self._check(signature, text)

    def check_trailers(self, signature: str, trailers: dict[str, str]) -> None:
        if self.complete:
            raise S3Error("MalformedTrailerError")
        canonical = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        self._check(signature, f"AWS4-HMAC-SHA256-TRAILER\n{self._context}\n{self._previous}\n{digest}")
        self.complete = True

    def _check(self, signature: str, text: str) -> None:
        expected = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(expected, signature):
            raise S3Error("SignatureDoesNotMatch", StringToSign=text, SignatureProvided=signature)
        self._previous = signature
