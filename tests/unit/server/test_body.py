"""The request body: framing, claims, and what is wrong with them."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engine.memory.budget import Budget
from proxy.engine.writing.body import Digests
from proxy.s3.claim import STREAMING_SIGNED, STREAMING_UNSIGNED_TRAILER, UNSIGNED_PAYLOAD, Claim
from proxy.s3.errors import S3Error
from proxy.s3.sigv4 import signing_key
from proxy.server.body import EMPTY_SHA256, MAX_UPLOAD_SIZE, RequestBody, check_bodiless, has_body, read_document
from proxy.server.documents import document_memory

DATA = b"The quick brown fox jumps over the lazy dog" * 3
KEY = signing_key("secret", "20261124", "us-east-1")


class Pieces:
    """A source that gives out a body piece by piece."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    async def read(self) -> bytes:
        return next(self._pieces, b"")

    def read_at_once(self) -> bytes | None:
        return b"".join(self._pieces) if self.are_here else None

    def gather(self) -> bool:
        return False

    are_here = False


@pytest.fixture(autouse=True, params=[False, True], ids=["as it comes", "here already"])
def are_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pieces, "are_here", request.param)


def claim(payload_hash: str) -> Claim:
    return Claim(
        access_key="AK",
        date="20261124",
        region="us-east-1",
        signed_headers=("host",),
        signature="0" * 64,
        timestamp=datetime(2026, 11, 24, tzinfo=UTC),
        payload_hash=payload_hash,
    )


def body_of(
    data: bytes | Iterable[bytes] = DATA,
    headers: Mapping[str, str] | None = None,
    *,
    payload_hash: str = UNSIGNED_PAYLOAD,
    length: int | None = len(DATA),
    max_size: int = MAX_UPLOAD_SIZE,
) -> RequestBody:
    pieces = [data] if isinstance(data, bytes) else data
    lengths = {} if length is None else {"content-length": str(length)}
    return RequestBody(Pieces(pieces), {**lengths, **(headers or {})}, claim(payload_hash), KEY, max_size=max_size)


async def consume(body: RequestBody) -> tuple[bytes, Digests]:
    if (whole := body.take_at_once()) is not None:
        body.digest(whole)
        return whole, body.finish()
    received = b""
    async for piece in body.chunks():
        body.digest(piece)
        received += piece
    return received, body.finish()


async def refusal(body: RequestBody) -> str:
    with pytest.raises(S3Error) as caught:
        await consume(body)
    return caught.value.code


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def trailer_frames(data: bytes, checksum: str) -> bytes:
    return b"%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % (len(data), data, checksum.encode())


async def test_plain_body_gives_md5_and_the_default_checksum() -> None:
    received, digests = await consume(body_of())
    assert received == DATA
    assert digests.md5 == hashlib.md5(DATA).digest()
    assert digests.checksum is not None
    assert digests.checksum.algorithm == "CRC64NVME"
    assert digests.checksum.type == "FULL_OBJECT"


async def test_empty_body_has_digests_too() -> None:
    received, digests = await consume(body_of(b"", payload_hash=EMPTY_SHA256, length=0))
    assert received == b""
    assert digests.md5 == hashlib.md5(b"").digest()


async def test_signed_hash_is_checked() -> None:
    await consume(body_of(payload_hash=hashlib.sha256(DATA).hexdigest()))
    assert await refusal(body_of(payload_hash=hashlib.sha256(b"other").hexdigest())) == "XAmzContentSHA256Mismatch"


async def test_content_md5_is_checked() -> None:
    good = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    await consume(body_of(headers={"content-md5": good}))
    other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert await refusal(body_of(headers={"content-md5": other})) == "BadDigest"


async def test_checksum_header_is_checked_and_recorded() -> None:
    _, digests = await consume(body_of(headers={"x-amz-checksum-crc32": crc32(DATA)}))
    assert digests.checksum is not None
    assert (digests.checksum.algorithm, digests.checksum.value) == ("CRC32", crc32(DATA))
    assert await refusal(body_of(headers={"x-amz-checksum-crc32": crc32(b"other")})) == "BadDigest"


async def test_claim_is_checked_when_another_algorithm_is_recorded() -> None:
    body = body_of(headers={"x-amz-checksum-crc32": crc32(b"other")})
    body.record("SHA256")
    assert await refusal(body) == "BadDigest"
    body = body_of(headers={"x-amz-checksum-crc32": crc32(DATA)})
    body.record("SHA256")
    _, digests = await consume(body)
    assert digests.checksum is not None
    assert digests.checksum.value == base64.b64encode(hashlib.sha256(DATA).digest()).decode()


@given(cuts=st.lists(st.integers(0, 300), max_size=8))
async def test_trailer_checksum_holds_for_any_split(cuts: list[int]) -> None:
    framed = trailer_frames(DATA, crc32(DATA))
    edges = [0, *sorted(cut % len(framed) for cut in cuts), len(framed)]
    pieces = [framed[start:end] for start, end in pairwise(edges)]
    headers = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": str(len(DATA))}
    received, digests = await consume(body_of(pieces, headers, payload_hash=STREAMING_UNSIGNED_TRAILER, length=len(framed)))
    assert received == DATA
    assert digests.checksum is not None
    assert digests.checksum.value == crc32(DATA)


async def test_wrong_trailer_checksum_is_refused() -> None:
    headers = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": str(len(DATA))}
    framed = trailer_frames(DATA, crc32(b"other"))
    assert await refusal(body_of(framed, headers, payload_hash=STREAMING_UNSIGNED_TRAILER)) == "BadDigest"


async def test_missing_trailer_is_refused() -> None:
    headers = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": str(len(DATA))}
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA)
    with pytest.raises(S3Error):
        await consume(body_of(framed, headers, payload_hash=STREAMING_UNSIGNED_TRAILER))


async def test_forged_chunk_is_never_released() -> None:
    headers = {"x-amz-decoded-content-length": str(len(DATA))}
    framed = b"%x;chunk-signature=%s\r\n%s\r\n" % (len(DATA), b"0" * 64, DATA)
    chunks = body_of(framed, headers, payload_hash=STREAMING_SIGNED).chunks()
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        await anext(chunks)


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA) + 1])
async def test_a_body_of_another_length_is_incomplete(length: int) -> None:
    assert await refusal(body_of(length=length)) == "IncompleteBody"


async def test_of_a_body_that_is_too_long_no_byte_is_given_out_beyond_its_length() -> None:
    """Memory was granted for as many."""
    chunks = body_of([b"12345", b"67890"], length=5).chunks()
    assert await anext(aiter(chunks)) == b"12345"
    with pytest.raises(S3Error, match="IncompleteBody"):
        await anext(aiter(chunks))


async def test_truncated_frames_are_incomplete() -> None:
    headers = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": str(len(DATA))}
    framed = trailer_frames(DATA, crc32(DATA))[:60]
    assert await refusal(body_of(framed, headers, payload_hash=STREAMING_UNSIGNED_TRAILER)) == "IncompleteBody"


@pytest.mark.parametrize(
    ("code", "headers", "payload_hash", "length"),
    [
        ("MissingContentLength", {}, UNSIGNED_PAYLOAD, None),
        ("MissingContentLength", {}, STREAMING_UNSIGNED_TRAILER, 100),
        ("EntityTooLarge", {}, UNSIGNED_PAYLOAD, MAX_UPLOAD_SIZE + 1),
        ("EntityTooLarge", {"x-amz-decoded-content-length": str(MAX_UPLOAD_SIZE + 1)}, STREAMING_SIGNED, 100),
        ("InvalidArgument", {"x-amz-decoded-content-length": "-1"}, STREAMING_SIGNED, 100),
        ("InvalidDigest", {"content-md5": "nonsense"}, UNSIGNED_PAYLOAD, 1),
        ("InvalidRequest", {"x-amz-checksum-crc32": "nonsense"}, UNSIGNED_PAYLOAD, 1),
        ("InvalidRequest", {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="}, UNSIGNED_PAYLOAD, 1),
        ("InvalidRequest", {"x-amz-sdk-checksum-algorithm": "CRC32"}, UNSIGNED_PAYLOAD, 1),
        ("InvalidRequest", {"x-amz-trailer": "x-amz-checksum-crc32"}, UNSIGNED_PAYLOAD, 1),
        ("InvalidRequest", {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": "1"}, STREAMING_SIGNED, 1),
    ],
)  # fmt: skip
def test_what_headers_get_wrong_is_found_before_a_byte_is_read(
    code: str, headers: dict[str, str], payload_hash: str, length: int | None
) -> None:
    with pytest.raises(S3Error) as caught:
        body_of(headers=headers, payload_hash=payload_hash, length=length)
    assert caught.value.code == code


async def test_document_is_read_whole_and_checked() -> None:
    budget = Budget(10_000, wait_seconds=1)
    async with document_memory(budget, len(DATA), owner="t") as held:
        assert await read_document(body_of([DATA[:10], DATA[10:]], max_size=1000), held) == DATA
        assert budget.held_bytes > len(DATA)  # what is read of it needs memory, too
    assert budget.held_bytes == 0
    with pytest.raises(S3Error, match="EntityTooLarge"):
        body_of(max_size=10)


async def test_a_document_that_breaks_off_keeps_no_memory() -> None:
    budget = Budget(10_000, wait_seconds=1)
    with pytest.raises(S3Error, match="BadDigest"):
        async with document_memory(budget, len(DATA), owner="t") as held:
            await read_document(body_of(headers={"x-amz-checksum-crc32": crc32(b"other")}), held)
    assert budget.held_bytes == 0


@pytest.mark.parametrize("ends", [True, False])
async def test_a_document_holds_memory_for_what_has_come_of_it(ends: bool) -> None:
    budget, held = Budget(64_000_000, wait_seconds=1), list[int]()

    class Watched(Pieces):
        async def read(self) -> bytes:
            held.append(budget.held_bytes)
            return await super().read()

    pieces = [bytes(250_000)] * (8 if ends else 7)
    body = RequestBody(Watched(pieces), {"content-length": "2000000"}, claim(UNSIGNED_PAYLOAD), KEY)
    with nullcontext() if ends else pytest.raises(S3Error, match="IncompleteBody"):
        async with document_memory(budget, body.size_bytes, owner="t") as granted:
            await read_document(body, granted)
    assert len(held) == len(pieces) + 1
    assert all(size >= number * 250_000 for number, size in enumerate(held))


def test_completion_headers_do_not_speak_of_the_body() -> None:
    headers = {"content-length": "5", "x-amz-checksum-crc32": "AAAAAA==-2"}
    RequestBody(Pieces([b"<xml>"]), headers, claim(UNSIGNED_PAYLOAD), KEY, checksum_is_of_body=False)


def test_signed_hash_of_a_body_that_is_not_there_is_refused() -> None:
    check_bodiless(claim(EMPTY_SHA256))
    check_bodiless(claim(UNSIGNED_PAYLOAD))
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch"):
        check_bodiless(claim(hashlib.sha256(DATA).hexdigest()))


def test_a_body_is_announced_by_its_length_or_its_framing() -> None:
    assert has_body({"content-length": "1"})
    assert has_body({"transfer-encoding": "chunked"})
    assert not has_body({"content-length": "0"})
    assert not has_body({})
