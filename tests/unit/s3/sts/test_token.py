"""Session tokens: what they hold, and what is none."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.sts.token import MAX_TOKEN_SIZE, Temporary, pack, read_token, token_header, token_text, unpack

TENANT = "01234567-89ab-4cde-8f01-23456789abcd"
TEMPORARY = Temporary(access_key="ASIAX", secret_key="secret", issued=1, expires=2, role="reader", session="ab", policies=("{}",))


def test_a_token_names_its_account_and_key_and_holds_the_rest() -> None:
    header = token_header(TENANT, "AKEY")
    envelope = read_token(token_text(header, b"sealed"))
    assert (envelope.tenant_id, envelope.made_with, envelope.sealed, envelope.header) == (TENANT, "AKEY", b"sealed", header)
    assert unpack(pack(TEMPORARY)) == TEMPORARY


def test_policies_of_full_size_fit_into_a_header() -> None:
    policy = "".join(random.Random(1).choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(2048))
    full = Temporary(access_key="A" * 20, secret_key="s" * 40, issued=1, expires=2, role="r" * 64, session="s" * 64, policies=(policy,))
    assert len(token_text(token_header(TENANT, "K" * 128), pack(full) + bytes(40))) < MAX_TOKEN_SIZE


@given(st.one_of(st.text(max_size=80), st.binary(max_size=60).map(lambda data: token_text(data, b""))))
def test_whatever_else_comes_is_no_token(text: str) -> None:
    try:
        envelope = read_token(text)
    except S3Error as error:
        assert error.code == "InvalidToken"
    else:
        assert token_text(envelope.header, envelope.sealed) == text


@pytest.mark.parametrize("plaintext", [b"", b"x", zlib.compress(b"x"), zlib.compress(bytes(10**7)), pack(TEMPORARY)[:9]])
def test_what_was_sealed_must_be_a_session(plaintext: bytes) -> None:
    with pytest.raises(S3Error, match="InvalidToken"):
        unpack(plaintext)


def test_a_token_that_is_too_long_is_none() -> None:
    with pytest.raises(S3Error, match="InvalidToken"):
        read_token("A" * (MAX_TOKEN_SIZE + 4))
