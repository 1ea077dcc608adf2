"""The body of a request: framing undone, every claim about it checked, at the pace the reader asks for.

A client may vouch for its bytes in several ways at once: the signed SHA-256, Content-MD5, a checksum in a header or in a trailer, and the
chunk signatures of aws-chunked. Whatever is wrong with the headers alone is found when the body is made, before the client is told to send
it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from proxy.engine.memory.grant import Grant
from proxy.engine.writing.body import Digests, HereAlready
from proxy.manifest.records import Checksum
from proxy.s3.aws_chunked import ChunkedDecoder
from proxy.s3.checksums import (
    DEFAULT_ALGORITHM,
    ChecksumAlgorithm,
    Hasher,
    announced_algorithm,
    encode,
    new_hasher,
    parse_checksum_headers,
    parse_content_md5,
    parse_trailer_header,
)
from proxy.s3.claim import STREAMING_MODES, STREAMING_SIGNED, UNSIGNED_PAYLOAD, Claim
from proxy.s3.errors import S3Error
from proxy.s3.md5 import new_md5

MAX_UPLOAD_SIZE = 5 * 1024**3  # S3's limit of one PUT or one part
MAX_DOCUMENT_SIZE = 2 * 1024**2  # 1,000 keys to delete, or 10,000 parts, fit well
EMPTY_SHA256 = hashlib.sha256().hexdigest()


class RawBody(Protocol):
    """Where a body's raw bytes come from: an `Inlet`."""

    async def read(self) -> bytes | memoryview:
        """Return the next bytes, none at the end."""
        ...

    def read_at_once(self) -> bytes | memoryview | None:
        """Return all the bytes to the end if they are here; else None, and nothing is read."""
        ...

    def gather(self) -> bool:
        """Tell whether the first bytes are here, and have them read together with what comes next. Before anything is read."""
        ...


class RequestBody(HereAlready):
    """One pass over a request's plaintext; the engine's `Body`. Raises S3Error for whatever is wrong with the headers."""

    def __init__(
        self,
        raw: RawBody,
        headers: Mapping[str, str],
        claim: Claim,
        signing_key: bytes,
        *,
        max_size: int = MAX_UPLOAD_SIZE,
        checksum_is_of_body: bool = True,
    ) -> None:
        self._raw = raw
        self._claim = claim
        self._size = _declared_size(headers, claim.payload_hash, max_size)
        trailers = parse_trailer_header(headers) if "x-amz-trailer" in headers else ()
        if trailers and claim.payload_hash not in STREAMING_MODES - {STREAMING_SIGNED}:
            raise S3Error("InvalidRequest", "x-amz-trailer needs an x-amz-content-sha256 of STREAMING-…-TRAILER")
        self._decoder = _decoder(claim, signing_key, self._size, trailers)
        self._content_md5 = parse_content_md5(headers["content-md5"]) if "content-md5" in headers else None
        self._claimed = announced_algorithm(headers) if checksum_is_of_body else None
        self._value = parse_checksum_headers(headers) if self._claimed is not None else None  # of a trailer it is known at the end
        self._recorded: ChecksumAlgorithm = self._claimed or DEFAULT_ALGORITHM
        self._md5 = new_md5(size_bytes=self._size)
        self._sha256 = None if claim.payload_hash in STREAMING_MODES or claim.payload_hash == UNSIGNED_PAYLOAD else hashlib.sha256()
        self._checksums: dict[ChecksumAlgorithm, Hasher] = {}
        self._hashers: tuple[Hasher, ...] = ()

    @property
    def size_bytes(self) -> int:
        return self._size

    @property
    def claimed_algorithm(self) -> ChecksumAlgorithm | None:
        """The algorithm of the checksum the client sends, if it sends one."""
        return self._claimed

    @property
    def claimed_checksum(self) -> Checksum | None:
        """The checksum the client sent, if it sent one. After the last byte: only then is that of a trailer known, and checked."""
        return None if self._value is None else Checksum(algorithm=self._value[0], type="FULL_OBJECT", value=self._value[1])

    def record(self, algorithm: ChecksumAlgorithm) -> None:
        """Record this algorithm's checksum, whatever the client claims. Before the first byte."""
        self._recorded = algorithm

    def memory_to_fill(self, size_bytes: int) -> int:  # noqa: ARG002 - the protocol's
        return 0

    async def chunks(self) -> AsyncIterator[bytes | memoryview]:
        received = 0
        while data := await self._raw.read():
            for piece in (data,) if self._decoder is None else self._decoder.feed(bytes(data)):
                received += len(piece)
                if received > self._size:
                    raise S3Error("IncompleteBody")
                yield piece
        self._end(received)

    def take_at_once(self) -> bytes | None:
        data = self._raw.read_at_once()
        if data is None:
            return None
        whole = bytes(data) if self._decoder is None else b"".join(self._decoder.feed(bytes(data)))
        self._end(len(whole))
        return whole

    def gather(self) -> bool:
        return self._raw.gather()

    def _end(self, received: int) -> None:
        if received != self._size:
            raise S3Error("IncompleteBody")
        if self._decoder is not None:
            trailers = self._decoder.finish()
            self._value = self._value or parse_checksum_headers(trailers)

    def digest(self, data: bytes | bytearray | memoryview) -> None:
        for hasher in self._hashers or self._begin():
            hasher.update(data)

    def finish(self) -> Digests:
        if not self._hashers:
            self._begin()
        md5 = self._md5.digest()
        if self._sha256 is not None:
            self._check_sha256(self._sha256.hexdigest())
        if self._content_md5 is not None:
            self._check_md5(self._content_md5, md5)
        value = encode(self._checksums[self._recorded].digest())
        checksum = Checksum(algorithm=self._recorded, type="FULL_OBJECT", value=value)
        if self._claimed is None:
            return Digests(md5=md5, checksum=checksum, claimed=self.claimed_checksum)
        same = self._claimed == self._recorded
        self._check_claimed(self._claimed, value if same else encode(self._checksums[self._claimed].digest()))
        return Digests(md5=md5, checksum=checksum, claimed=None if same else self.claimed_checksum)

    def _begin(self) -> tuple[Hasher, ...]:
        self._checksums[self._recorded] = new_hasher(self._recorded)
        if self._claimed is not None and self._claimed != self._recorded:
            self._checksums[self._claimed] = new_hasher(self._claimed)
        signed = () if self._sha256 is None else (self._sha256,)
        self._hashers = (self._md5, *signed, *self._checksums.values())
        return self._hashers

    def _check_claimed(self, algorithm: ChecksumAlgorithm, computed: str) -> None:
        if self._value is None or not hmac.compare_digest(self._value[1], computed):
            raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")

    def _check_sha256(self, computed: str) -> None:
        if not hmac.compare_digest(computed, self._claim.payload_hash):
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                ClientComputedContentSHA256=self._claim.payload_hash,
                S3ComputedContentSHA256=computed,
            )

    def _check_md5(self, claimed: bytes, computed: bytes) -> None:
        if not hmac.compare_digest(computed, claimed):
            raise S3Error(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                ExpectedDigest=claimed.hex(),
                CalculatedDigest=encode(computed),
            )


async def read_document(body: RequestBody, held: Grant) -> bytes:
    """Return a small body whole, after all its checks. What `held` may grow to is taken when the first byte is there."""
    document = bytearray()
    async with held.filling():
        async for piece in body.chunks():
            await held.grow(held.claim_bytes)
            body.digest(piece)
            document += piece
    body.finish()
    return bytes(document)


def has_body(headers: Mapping[str, str]) -> bool:
    """Tell whether a request brings a body of at least one byte."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def check_bodiless(claim: Claim) -> None:
    """Refuse a signed hash of some body where there is none."""
    if claim.payload_hash not in STREAMING_MODES and claim.payload_hash not in {UNSIGNED_PAYLOAD, EMPTY_SHA256}:
        raise S3Error(
            "XAmzContentSHA256Mismatch",
            ClientComputedContentSHA256=claim.payload_hash,
            S3ComputedContentSHA256=EMPTY_SHA256,
        )


def _declared_size(headers: Mapping[str, str], payload_hash: str, max_size: int) -> int:
    name = "x-amz-decoded-content-length" if payload_hash in STREAMING_MODES else "content-length"
    text = headers.get(name)
    if text is None:
        raise S3Error("MissingContentLength")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise S3Error("InvalidArgument", f"Provided {name} not valid", ArgumentName=name, ArgumentValue=text)
    size = int(text)
    if size > max_size:
        raise S3Error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=max_size)
    return size


def _decoder(claim: Claim, signing_key: bytes, size: int, trailers: tuple[str, ...]) -> ChunkedDecoder | None:
    if claim.payload_hash not in STREAMING_MODES:
        return None
    return ChunkedDecoder(
        claim.payload_hash,
        decoded_length=size,
        seed_signature=claim.signature,
        signing_key=signing_key,
        timestamp=claim.timestamp,
        scope=claim.scope,
        trailers_expected=trailers,
    )
