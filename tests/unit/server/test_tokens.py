"""Continuation tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.server.handlers.tokens import open_token, seal_token


@given(st.text())
def test_a_token_stands_for_its_place(place: str) -> None:
    assert open_token(seal_token(place)) == (place,)


@pytest.mark.parametrize("token", ["", "zzz", "é", "AAAA", "AZA="])
def test_a_token_we_never_made_is_refused(token: str) -> None:
    with pytest.raises(S3Error, match="InvalidArgument"):
        open_token(token)
