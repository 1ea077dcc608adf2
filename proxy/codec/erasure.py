"""The erasure code: k data cells to k + m, and back from any k. ISA-L codes, by itself or through PyECLib (see `isal`); PyECLib decodes.

PyECLib frames every fragment with an 80-byte header that depends only on geometry, not on data. It is stripped before sealing
(nothing of it is stored) and taken from an encoded run of zeros when fragments are handed back for decoding.
`isa_l_rs_vand` is never used: its Vandermonde matrices are singular for some erasures.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pyeclib.ec_iface import ECDriver

from proxy.codec.geometry import Scheme
from proxy.codec.isal import Encoder, isal

FRAGMENT_HEADER_SIZE = 80
SAMPLE_SIZES = (1, 63, 1000, 4096)  # of stripes that both must code alike


def encode_stripe(scheme: Scheme, stripe: bytes | memoryview) -> list[memoryview]:
    """Return the k + m cells of a stripe (1 .. k x 64 KiB bytes), evenly sized, the last data cells padded with zeros."""
    if scheme.m == 0:
        return _split(scheme.k, _padded(scheme.k, stripe))
    encoder = _encoder(scheme)
    return _framed(scheme, bytes(stripe)) if encoder is None else _coded(encoder, scheme, stripe)


def decode_stripe(scheme: Scheme, cells: Mapping[int, bytes | memoryview], size: int) -> bytes:
    """Return the `size` plaintext bytes of a stripe from any k of its cells, by index."""
    chosen = sorted(cells)[: scheme.k]
    if len(chosen) < scheme.k:
        raise ValueError(f"{len(chosen)} cells cannot decode a {scheme} stripe")
    if chosen[-1] < scheme.k:
        return b"".join(cells[index] for index in chosen)[:size]
    headers = _fragment_headers(scheme, size)
    return bytes(_driver(scheme).decode([headers[index] + cells[index] for index in chosen]))


def _coded(encoder: Encoder, scheme: Scheme, stripe: bytes | memoryview) -> list[memoryview]:
    padded = _padded(scheme.k, stripe)
    return _split(scheme.k, padded) + encoder.parity(padded)


def _framed(scheme: Scheme, stripe: bytes) -> list[memoryview]:
    return [memoryview(fragment)[FRAGMENT_HEADER_SIZE:] for fragment in _driver(scheme).encode(stripe)]


def _split(k: int, padded: bytes | memoryview) -> list[memoryview]:
    view = memoryview(padded)
    cell = len(view) // k
    return [view[i * cell : (i + 1) * cell] for i in range(k)]


def _padded(k: int, stripe: bytes | memoryview) -> bytes | memoryview:
    """Return the stripe with zeros at its end, if it needs any; where it lies, if it does not and can be coded there."""
    if isinstance(stripe, memoryview) and not stripe.readonly and len(stripe) % k == 0:
        return stripe
    return bytes(stripe).ljust(-(-len(stripe) // k) * k, b"\0")


@lru_cache(maxsize=64)
def _encoder(scheme: Scheme) -> Encoder | None:
    """Return ISA-L's own encoder, if there is one and it agrees with PyECLib."""
    library = isal()
    if library is None:
        return None
    encoder = Encoder(library, scheme.k, scheme.m)
    agrees = all(_coded(encoder, scheme, stripe) == _framed(scheme, stripe) for stripe in map(_sample, SAMPLE_SIZES))
    return encoder if agrees else None


def _sample(size: int) -> bytes:
    return bytes(number * number % 251 for number in range(size))


@lru_cache(maxsize=64)
def _driver(scheme: Scheme) -> ECDriver:
    return ECDriver(k=scheme.k, m=scheme.m, ec_type="isa_l_rs_cauchy")


@lru_cache(maxsize=256)
def _fragment_headers(scheme: Scheme, size: int) -> tuple[bytes, ...]:
    return tuple(fragment[:FRAGMENT_HEADER_SIZE] for fragment in _driver(scheme).encode(bytes(size)))
