"""Labels: stored bytes, which must never change under one format version."""

from __future__ import annotations

import pytest

from proxy.codec.label import Label, decode_label, encode_label

WHOLE = Label(bucket="b", key="k/é", version_id="null", segment=0, offset=0)
GOLDEN_WHOLE = "85a66275636b6574a162a36b6579a46b2fc3a9aa76657273696f6e5f6964a46e756c6ca77365676d656e7400a66f666673657400"
LAST_OF_PART = Label(bucket="b", key="k", upload_id="u", part_number=10_000, segment=2, offset=1 << 25, record=b"\x80")


def test_golden_vector_of_a_label() -> None:
    assert encode_label(WHOLE).hex() == GOLDEN_WHOLE


@pytest.mark.parametrize("label", [WHOLE, LAST_OF_PART])
def test_a_label_comes_back(label: Label) -> None:
    assert decode_label(encode_label(label)) == label
