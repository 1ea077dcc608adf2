"""ISA-L called directly codes as PyECLib does, which codes where ISA-L is not found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.codec import erasure
from proxy.codec.erasure import decode_stripe, encode_stripe
from proxy.codec.geometry import Scheme
from proxy.codec.isal import Encoder, isal
from tests.unit.codec.samples import pattern

SCHEMES = [Scheme(4, 2), Scheme(1, 1), Scheme(1, 3), Scheme(2, 1), Scheme(3, 2), Scheme(5, 1), Scheme(8, 3), Scheme(16, 8)]
SIZES = [1, 2, 15, 63, 64, 65, 1000, 4099, 65536, 262_143, 262_144]


@pytest.fixture
def encoders() -> Iterator[None]:
    """Forget which encoders there are, before and after."""
    erasure._encoder.cache_clear()
    yield
    erasure._encoder.cache_clear()


@pytest.mark.usefixtures("encoders")
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_both_code_alike(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    assert erasure._encoder(scheme) is not None, "ISA-L lies in the wheels"
    coded = [[bytes(cell) for cell in encode_stripe(scheme, pattern(size))] for size in SIZES]
    erasure._encoder.cache_clear()
    monkeypatch.setattr(erasure, "isal", lambda: None)
    assert erasure._encoder(scheme) is None
    assert [[bytes(cell) for cell in encode_stripe(scheme, pattern(size))] for size in SIZES] == coded


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_what_is_coded_is_decoded_from_the_last_cells(scheme: Scheme, size: int) -> None:
    cells = encode_stripe(scheme, pattern(size))
    last = range(scheme.n - scheme.k, scheme.n)
    assert decode_stripe(scheme, {index: cells[index] for index in last}, size) == pattern(size)


@pytest.mark.usefixtures("encoders")
def test_an_encoder_that_codes_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme, right = Scheme(4, 2), Encoder.parity
    expected = [bytes(cell) for cell in encode_stripe(scheme, pattern(5000))]
    erasure._encoder.cache_clear()
    monkeypatch.setattr(Encoder, "parity", lambda self, stripe: right(self, stripe)[::-1])
    assert [bytes(cell) for cell in encode_stripe(scheme, pattern(5000))] == expected
    assert erasure._encoder(scheme) is None


def test_cells_of_different_sizes_are_refused() -> None:
    library = isal()
    assert library is not None
    with pytest.raises(ValueError, match="even cells"):
        Encoder(library, 4, 2).parity(bytes(7))
