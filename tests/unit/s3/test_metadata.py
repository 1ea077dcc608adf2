"""User metadata: its limit, and text beyond US-ASCII."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.errors import S3Error
from proxy.s3.metadata import check_metadata, encode_metadata


def stored(value: str) -> str:
    return check_metadata({"name": value})["name"]


def told(value: str) -> str:
    return encode_metadata({"name": value})["name"]


def test_the_limit_counts_names_and_values() -> None:
    assert check_metadata({"n" * 48: "v" * 2000})
    with pytest.raises(S3Error) as caught:
        check_metadata({"n" * 49: "v" * 2000})
    assert (caught.value.code, caught.value.details) == ("MetadataTooLarge", {"Size": 2049, "MaxSizeAllowed": 2048})


def test_the_limit_counts_bytes() -> None:
    assert check_metadata({"n": "ü" * 1023})
    with pytest.raises(S3Error, match="MetadataTooLarge"):
        check_metadata({"nn": "ü" * 1024})


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("plain", "plain"),
        ("", ""),
        (" two  spaces ", " two  spaces "),
        ("=?UTF-8?B?w4TDpMO2?=", "Ääö"),
        ("=?utf-8?q?caf=C3=A9_au_lait?=", "café au lait"),
        ("=?ISO-8859-1?Q?caf=E9?=", "café"),
        ("ü", "ü"),
        ("caf\udce9", "café"),
    ],
)
def test_text_is_decoded(sent: str, kept: str) -> None:
    assert stored(sent) == kept


@pytest.mark.parametrize(
    "sent",
    [
        "=?",
        "=?UTF-8?Q?abc?=",
        "=?klingon?Q?abc?=",
        "=?UTF-8?B?!?=",
        "=?UTF-8?Q?=FF?=",
        "a=?b=c",
        "https://x/?a=?b",
    ],
)
def test_what_is_no_encoded_word_stays_as_it_is(sent: str) -> None:
    assert stored(sent) == sent
    assert told(sent) == sent


@pytest.mark.parametrize(
    ("kept", "sent"),
    [
        ("plain ~text!", "plain ~text!"),
        ("café au lait", "=?UTF-8?Q?caf=C3=A9_au_lait?="),
        ("漢字", "=?UTF-8?B?5ryi5a2X?="),
        ("tab\t", "=?UTF-8?Q?tab=09?="),
    ],
)
def test_text_is_encoded(kept: str, sent: str) -> None:
    assert told(kept) == sent


def test_an_encoded_line_break_never_reaches_a_header() -> None:
    kept = stored("=?UTF-8?Q?a=0D=0ASet-Cookie:_b?=")

    assert "\n" not in told(kept)
    assert stored(told(kept)) == kept


@pytest.mark.parametrize("name", ["a b", "a\r\nSet-Cookie", "é", "a:"])
def test_what_no_header_can_be_called_is_not_told(name: str) -> None:
    assert encode_metadata({name: "v", "": "w", "a": "x"}) == {"": "w", "a": "x"}


@given(st.text(max_size=200))
def test_any_text_comes_back(value: str) -> None:
    assert told(value).isascii()
    assert told(value).isprintable()
    assert stored(told(value)) == stored(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(octets: bytes) -> None:
    check_metadata({"name": octets.decode("utf-8", "surrogateescape")})
