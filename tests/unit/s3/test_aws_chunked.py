"""aws-chunked: any split gives the same plaintext, and nothing unproven is passed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3 import claim, sigv4
from proxy.s3.aws_chunked import MIN_CHUNK_BYTES, ChunkedDecoder
from proxy.s3.errors import S3Error

KEY = sigv4.signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1")
TIME = datetime(2013, 5, 24, tzinfo=UTC)
SCOPE = "20130524/us-east-1/s3/aws4_request"
SEED = "5" * 64
SIGNED, SIGNED_TRAILER, UNSIGNED = claim.STREAMING_SIGNED, claim.STREAMING_SIGNED_TRAILER, claim.STREAMING_UNSIGNED_TRAILER
MODES = [SIGNED, SIGNED_TRAILER, UNSIGNED]
TRAILERS = {"x-amz-checksum-crc32c": "sOO8/Q=="}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encode(mode: str, chunks: Iterable[bytes], trailers: dict[str, str] | None = None) -> bytes:
    """Frame as a client would; written apart from the decoder, from AWS's description."""
    previous, out = SEED, b""
    trailers = TRAILERS if trailers is None and mode != SIGNED else trailers or {}

    def sign(kind: str, *lines: str) -> str:
        text = "\n".join([f"AWS4-HMAC-SHA256-{kind}", "20130524T000000Z", SCOPE, previous, *lines])
        return hmac.new(KEY, text.encode(), "sha256").hexdigest()

    for chunk in [*(c for c in chunks if c), b""]:
        out += f"{len(chunk):x}".encode()
        if mode != UNSIGNED:
            previous = sign("PAYLOAD", sha256(b""), sha256(chunk))
            out += b";chunk-signature=" + previous.encode()
        out += b"\r\n" + chunk + (b"\r\n" if chunk else b"")
    out += "".join(f"{name}:{value}\r\n" for name, value in trailers.items()).encode()
    if mode == SIGNED_TRAILER:
        signature = sign("TRAILER", sha256("".join(f"{name}:{value}\n" for name, value in trailers.items()).encode()))
        out += b"x-amz-trailer-signature:" + signature.encode() + b"\r\n"
    return out + b"\r\n"


def decoder(mode: str, length: int, **changes: Any) -> ChunkedDecoder:
    options: dict[str, Any] = {
        "seed_signature": SEED,
        "signing_key": KEY,
        "timestamp": TIME,
        "scope": SCOPE,
        "trailers_expected": () if mode == SIGNED else tuple(TRAILERS),
    }
    return ChunkedDecoder(mode, decoded_length=length, **(options | changes))


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    points = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(points)]


def refused(code: str, subject: ChunkedDecoder, data: bytes) -> bytes:
    """Return what was passed on before the refusal."""
    passed: list[bytes] = []
    with pytest.raises(S3Error) as caught:
        decode(subject, data, passed)
    assert caught.value.code == code
    return b"".join(passed)


def decode(subject: ChunkedDecoder, data: bytes, passed: list[bytes]) -> None:
    for at in range(0, len(data), 7):
        passed += subject.feed(data[at : at + 7])
    subject.finish()


@pytest.mark.parametrize("mode", MODES)
@given(
    sizes=st.lists(st.integers(MIN_CHUNK_BYTES, MIN_CHUNK_BYTES + 99), max_size=3),
    last=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 30_000), max_size=30),
)
def test_any_split_gives_the_same_plaintext(mode: str, sizes: list[int], last: bytes, cuts: list[int]) -> None:
    chunks = [*(bytes([size % 256]) * size for size in sizes), last]
    plaintext = b"".join(chunks)
    subject = decoder(mode, len(plaintext))

    pieces = [piece for data in split(encode(mode, chunks), cuts) for piece in subject.feed(data)]

    assert b"".join(pieces) == plaintext
    assert subject.finish() == ({} if mode == SIGNED else TRAILERS)


@pytest.mark.parametrize("mode", MODES)
def test_byte_by_byte(mode: str) -> None:
    chunks = [bytes(range(256)) * 40, b"\r\n0\r\n\r\n" * 2000, b"x"]
    subject = decoder(mode, sum(map(len, chunks)))

    passed = b"".join(b"".join(subject.feed(bytes([byte]))) for byte in encode(mode, chunks))

    assert passed == b"".join(chunks)
    subject.finish()


@pytest.mark.parametrize("mode", MODES)
def test_empty_body(mode: str) -> None:
    subject = decoder(mode, 0)

    assert subject.feed(encode(mode, [])) == []
    subject.finish()


def docs_body(signatures: list[str], ending: bytes) -> bytes:
    lines = [f"{size};chunk-signature={signature}\r\n".encode() for size, signature in zip(["10000", "400", "0"], signatures, strict=True)]
    return lines[0] + b"a" * 65536 + b"\r\n" + lines[1] + b"a" * 1024 + b"\r\n" + lines[2] + ending


def test_aws_example_signed_chunks() -> None:
    signatures = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]
    body = docs_body(signatures, b"\r\n")
    subject = decoder(SIGNED, 66560, seed_signature="4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")

    assert len(body) == 66824
    assert b"".join(subject.feed(body)) == b"a" * 66560
    assert subject.finish() == {}


@pytest.mark.parametrize("between", [b"\r\n", b"\n\r\n"])  # what the SDKs send, and what AWS's page shows
def test_aws_example_signed_trailer(between: bytes) -> None:
    signatures = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ]
    trailer_signature = b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    body = docs_body(signatures, b"x-amz-checksum-crc32c:sOO8/Q==" + between + trailer_signature)
    subject = decoder(SIGNED_TRAILER, 66560, seed_signature="106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")

    assert b"".join(subject.feed(body)) == b"a" * 66560
    assert subject.finish() == TRAILERS


@pytest.mark.parametrize("mode", [SIGNED, UNSIGNED])
def test_nothing_of_a_chunk_is_held_back(mode: str) -> None:
    body = encode(mode, [b"a" * 9000])
    end = body.index(b"a" * 9000) + 9000
    subject = decoder(mode, 9000)

    assert b"".join(subject.feed(body[: end - 1])) == b"a" * 8999
    assert subject.feed(body[end - 1 : end]) == [b"a"]


@pytest.mark.parametrize("part", [b"a" * 9000, b"x"])
def test_a_signed_body_is_not_finished_before_its_last_chunk_is_proven(part: bytes) -> None:
    body = encode(SIGNED, [b"a" * 9000, b"x"])
    subject = decoder(SIGNED, 9001)

    subject.feed(body[: body.index(part) + len(part) - 1])

    with pytest.raises(S3Error, match="IncompleteBody"):
        subject.finish()


def test_an_unsigned_chunk_streams_without_a_copy() -> None:
    subject = decoder(UNSIGNED, 1 << 40)
    subject.feed(b"10000000000\r\n")
    data = b"z" * 65536

    (piece,) = subject.feed(data)

    assert piece is data


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER])
@pytest.mark.parametrize("chunk", [0, 1])
def test_a_forged_chunk_is_refused_at_its_end(mode: str, chunk: int) -> None:
    body = encode(mode, [b"first" * 2000, b"second" * 50])
    forged = body.replace([b"first", b"second"][chunk], [b"FIRST", b"SECOND"][chunk], 1)

    plaintext = refused("SignatureDoesNotMatch", decoder(mode, 10_300), forged)

    assert (b"second" in plaintext) == (chunk == 1)  # nothing of what follows a forged chunk


@pytest.mark.parametrize("changes", [{"seed_signature": "6" * 64}, {"signing_key": b"x" * 32}, {"scope": "other"}])
def test_a_chain_from_elsewhere_is_refused(changes: dict[str, Any]) -> None:
    refused("SignatureDoesNotMatch", decoder(SIGNED, 3, **changes), encode(SIGNED, [b"abc"]))


def test_chunks_in_another_order_are_refused() -> None:
    body = encode(SIGNED, [b"a" * 8192, b"b" * 8192])
    size = len("2000;chunk-signature=\r\n\r\n") + 64 + 8192
    swapped = body[size : 2 * size] + body[:size] + body[2 * size :]

    assert b"a" not in refused("SignatureDoesNotMatch", decoder(SIGNED, 16384), swapped)


def test_a_forged_last_chunk_is_refused() -> None:
    body = encode(SIGNED, [b"abc"])
    at = body.rindex(b"chunk-signature=") + 16

    refused("SignatureDoesNotMatch", decoder(SIGNED, 3), body[:at] + b"0" * 64 + body[at + 64 :])


def test_a_forged_trailer_is_refused() -> None:
    body = encode(SIGNED_TRAILER, [b"abc"])

    refused("SignatureDoesNotMatch", decoder(SIGNED_TRAILER, 3), body.replace(b"sOO8", b"sOO9"))


def test_a_trailer_after_the_signature_is_refused() -> None:
    """Even one that was announced: it is the signature that vouches for it."""
    body = encode(SIGNED_TRAILER, [b"abc"])[:-2] + b"x-amz-checksum-sha1:abc\r\n\r\n"

    refused("MalformedTrailerError", decoder(SIGNED_TRAILER, 3, trailers_expected=(*TRAILERS, "x-amz-checksum-sha1")), body)


def test_empty_lines_before_the_trailers_signature_come_to_an_end() -> None:
    body = encode(SIGNED_TRAILER, [b"abc"]).replace(b"x-amz-trailer-signature", b"\r\n\r\nx-amz-trailer-signature")

    refused("MalformedTrailerError", decoder(SIGNED_TRAILER, 3), body)


@pytest.mark.parametrize("mode", MODES)
def test_any_truncation_is_noticed(mode: str) -> None:
    body = encode(mode, [b"abc" * 10])

    for length in range(len(body)):
        refused("IncompleteBody", decoder(mode, 30), body[:length])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [29, 31])
def test_another_length_than_announced_is_refused(mode: str, length: int) -> None:
    refused("IncompleteBody", decoder(mode, length), encode(mode, [b"abc" * 10]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("more", [b"more\r\n", b"m", b"\r", b"\r\n\r\n", b"\r\nm"])
def test_bytes_after_the_end_are_refused(mode: str, more: bytes) -> None:
    refused("IncompleteBody", decoder(mode, 3), encode(mode, [b"abc"]) + more)


def test_one_line_break_after_an_unsigned_body_is_passed_over() -> None:
    subject = decoder(UNSIGNED, 3)

    assert b"".join(subject.feed(encode(UNSIGNED, [b"abc"]) + b"\r\n")) == b"abc"
    assert subject.finish()
    for mode in (SIGNED, SIGNED_TRAILER):
        refused("IncompleteBody", decoder(mode, 3), encode(mode, [b"abc"]) + b"\r\n")


@pytest.mark.parametrize("mode", MODES)
def test_only_the_last_chunk_may_be_small(mode: str) -> None:
    subject = decoder(mode, 3 * MIN_CHUNK_BYTES)

    with pytest.raises(S3Error) as caught:
        subject.feed(encode(mode, [b"a" * MIN_CHUNK_BYTES, b"b" * (MIN_CHUNK_BYTES - 1), b"c"]))

    assert (caught.value.code, caught.value.details) == ("InvalidChunkSizeError", {"Chunk": 3, "BadChunkSize": 8191})


def test_bytes_after_a_chunk_are_refused() -> None:
    refused("IncompleteBody", decoder(UNSIGNED, 6), b"3\r\nabcX\r\n")


@pytest.mark.parametrize("expected", [(), ("x-amz-checksum-crc32",), (*TRAILERS, "x-amz-checksum-crc32")])
@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED])
def test_trailers_must_be_those_announced(mode: str, expected: tuple[str, ...]) -> None:
    refused("MalformedTrailerError", decoder(mode, 3, trailers_expected=expected), encode(mode, [b"abc"]))


def test_trailers_where_none_belong_are_refused() -> None:
    body = encode(SIGNED, [b"abc"])[:-2] + b"x-amz-checksum-crc32c:sOO8/Q==\r\n\r\n"

    refused("MalformedTrailerError", decoder(SIGNED, 3), body)


@pytest.mark.parametrize(
    "line", [b"no colon", b":no name", b"x-amz-checksum-crc32c:\xff", b"x-amz-checksum-crc32c:a\r\nX-Amz-Checksum-Crc32c:b"]
)
def test_malformed_trailers_are_refused(line: bytes) -> None:
    refused("MalformedTrailerError", decoder(UNSIGNED, 0), b"0\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize("line", [b"", b"g", b"-1", b"0x3", b"1_0", b" 3", b"1" * 17, b"3" * 2000, b";ext"])
def test_malformed_chunk_lines_are_refused(line: bytes) -> None:
    refused("IncompleteBody", decoder(UNSIGNED, 3), line + b"\r\nabc")


@pytest.mark.parametrize(
    "line", [b"3", b"3;chunk-signature=" + b"0" * 63, b"3;chunk-signature=" + b"0" * 64 + b"x", b"3;signature=" + b"0" * 64]
)
def test_unsigned_chunks_in_a_signed_body_are_refused(line: bytes) -> None:
    refused("IncompleteBody", decoder(SIGNED, 3), line + b"\r\nabc")


def test_an_endless_line_is_refused_before_it_ends() -> None:
    refused("IncompleteBody", decoder(UNSIGNED, 3), b"0" * 2000)


@pytest.mark.parametrize("mode", MODES)
def test_a_chunk_that_would_be_too_long_is_refused_before_its_first_byte(mode: str) -> None:
    """Memory was granted for what was announced."""
    line = encode(mode, [bytes(MIN_CHUNK_BYTES)]).partition(b"\r\n")[0] + b"\r\n"
    assert decoder(mode, MIN_CHUNK_BYTES).feed(line) == []
    with pytest.raises(S3Error, match="IncompleteBody"):
        decoder(mode, MIN_CHUNK_BYTES - 1).feed(line)


def test_a_mode_that_does_not_stream_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="UNSIGNED-PAYLOAD is no streaming mode"):
        ChunkedDecoder("UNSIGNED-PAYLOAD", decoded_length=1)
    with pytest.raises(ValueError, match="needs a timestamp"):
        ChunkedDecoder(SIGNED, decoded_length=1)
