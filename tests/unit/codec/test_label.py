"""Labels: stored bytes, which must never change under one format version, and open for their own segment alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codec.format import TAG_SIZE, sealed_label_size
from proxy.codec.geometry import Scheme
from proxy.codec.keys import ONLY_NONCE, DerivedKeys
from proxy.codec.label import Label, LabelCipher, decode_label, encode_label
from proxy.errors import ShardMismatch
from tests.unit.codec.samples import DATA_KEY, LABEL, SEGMENT_ID, keys_for

GOLDEN_WHOLE = "85a66275636b6574a162a36b6579a46b2fc3a9aa76657273696f6e5f6964a46e756c6ca77365676d656e7400a66f666673657400"
LAST_OF_PART = Label(bucket="b", key="k", upload_id="u", part_number=10_000, segment=2, offset=1 << 25, record=b"\x80")


def test_golden_vector_of_a_label() -> None:
    assert encode_label(LABEL).hex() == GOLDEN_WHOLE


@pytest.mark.parametrize("label", [LABEL, LAST_OF_PART])
def test_a_label_comes_back(label: Label) -> None:
    assert decode_label(encode_label(label)) == label


@given(label=st.binary(max_size=2000))
def test_a_sealed_label_comes_back_and_its_length_says_little(label: bytes) -> None:
    cipher = keys_for(Scheme(4, 2), 5000).label_cipher()
    sealed = cipher.seal(label)
    assert cipher.open(sealed) == label
    assert len(sealed) == sealed_label_size(len(label))
    assert (len(sealed) - TAG_SIZE) % 256 == 0
    assert len(label) + 4 <= len(sealed) - TAG_SIZE < len(label) + 4 + 256


@pytest.mark.parametrize(
    "other",
    [
        keys_for(Scheme(4, 2), 5000, segment_id=bytes(16)),
        keys_for(Scheme(4, 2), 5000, data_key=bytes(32)),
        keys_for(Scheme(4, 2), 5001),
        keys_for(Scheme(4, 3), 5000),
    ],
    ids=["segment", "data key", "size", "scheme"],
)
def test_a_label_opens_for_no_other_segment(other: object) -> None:
    sealed = keys_for(Scheme(4, 2), 5000).label_cipher().seal(b"label")
    with pytest.raises(ShardMismatch, match="the label does not open"):
        other.label_cipher().open(sealed)  # type: ignore[attr-defined]


@pytest.mark.parametrize("sealed", [b"", bytes(15), bytes(16), bytes(272)])
def test_what_is_no_sealed_label_does_not_open(sealed: bytes) -> None:
    with pytest.raises(ShardMismatch):
        keys_for(Scheme(4, 2), 5000).label_cipher().open(sealed)


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        bytes(3),
        b"\0\0\0\x05label",
        (b"\0\0\0\x05label").ljust(255, b"\0"),
        (b"\0\0\0\x05label").ljust(512, b"\0"),
        (b"\0\0\0\x05label").ljust(255, b"\0") + b"\x01",
        (b"\0\0\x01\x05label").ljust(256, b"\0"),
    ],
    ids=["empty", "cut", "none", "short", "a step too many", "not zero", "longer than it is"],
)
def test_padding_that_is_not_ours_is_refused(padded: bytes) -> None:
    keys = keys_for(Scheme(4, 2), 5000)
    cipher = LabelCipher(DerivedKeys(DATA_KEY, SEGMENT_ID).label_key(), first_fixed_part=keys.fixed_part(0))
    sealed = cipher._aead.encrypt(ONLY_NONCE, padded, keys.fixed_part(0))
    with pytest.raises(ShardMismatch, match="padded"):
        cipher.open(sealed)
