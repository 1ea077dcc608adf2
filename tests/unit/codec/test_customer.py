"""Customers' keys: keystreams that seek, check values that tell keys apart, and ETags that tell nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codec.customer import CustomerKey

KEY = CustomerKey(bytes(range(32)))
OTHER = CustomerKey(bytes(range(1, 33)))
SALT = bytes(range(24))
OTHER_SALT = bytes(range(1, 25))

# Computed without this code: HKDF by HMACs of the standard library, the keystream by `openssl enc -aes-256-ctr -iv 0`.
STREAM = "45932883b35b7d7d5b2f418357b50bd75ad245eeb263b358c4d7a5c320934c6de00f0f671d7b620a"
CHECK = "a6f66804b28085a78b0f83f3aa76ba3ddf3602005d3cb7f7524dd2cd305040bc"
ETAG = "272763073f508a9dfbacf5abaf35a7b2"


def test_stored_bytes_never_change_under_one_format_version() -> None:
    assert KEY.stream(SALT).apply(bytes(40)).hex() == STREAM
    assert KEY.check_value(SALT).hex() == SALT.hex() + CHECK
    assert KEY.etag(SALT, bytes(16)) == ETAG


@given(data=st.binary(max_size=300), offset=st.integers(0, 300), cut=st.integers(0, 300))
def test_any_range_is_deciphered_by_itself(data: bytes, offset: int, cut: int) -> None:
    enciphered = KEY.stream(SALT).apply(data)
    stream = KEY.stream(SALT, offset)
    assert stream.apply(enciphered[offset : offset + cut]) + stream.apply(memoryview(enciphered)[offset + cut :]) == data[offset:]


@pytest.mark.parametrize("offset", [0, 15, 16, 17, 1 << 33, (5 << 40) - 1])
def test_the_keystream_goes_on_behind_four_gibibytes(offset: int) -> None:
    """A counter of 32 bits would begin anew every 64 GiB, and a keystream would come twice."""
    assert KEY.stream(SALT, offset).apply(bytes(64))[16:] == KEY.stream(SALT, offset + 16).apply(bytes(48))
    assert offset == 0 or KEY.stream(SALT, offset).apply(bytes(64)) != KEY.stream(SALT).apply(bytes(64))


def test_every_key_and_every_salt_has_a_keystream_of_its_own() -> None:
    streams = {key.stream(salt).apply(bytes(64)) for key in (KEY, OTHER) for salt in (SALT, OTHER_SALT)}
    assert len(streams) == 4


def test_a_check_value_knows_its_key_and_no_other() -> None:
    check = KEY.check_value(SALT)
    assert KEY.fits(check)
    assert not OTHER.fits(check)
    assert not KEY.fits(OTHER_SALT + check[24:])
    assert not KEY.fits(b"")
    assert not KEY.fits(check[:-1])
    assert KEY.check_value(OTHER_SALT)[24:] != check[24:]


def test_an_etag_tells_bodies_keys_and_attempts_apart() -> None:
    md5, other = bytes(16), bytes(15) + b"\1"
    etags = {key.etag(salt, digest) for key in (KEY, OTHER) for salt in (SALT, OTHER_SALT) for digest in (md5, other)}
    assert len(etags) == 8
    assert md5.hex() not in etags
