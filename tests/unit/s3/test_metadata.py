"""User metadata: its limit, and text beyond US-ASCII."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3 import metadata
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
        ("a =?UTF-8?Q?=C3=BC?= b =?utf-8*de?b?w7w=?=", "a ü b ü"),
        ("=?UTF-8?Q?=C3=BC?=  =?UTF-8?Q?=C3=A4?= =?UTF-8?B?w7Y?=", "üäö"),
        ("=?UTF-8?Q?=E4=B8?= =?utf-8?Q?=AD?=", "中"),
        ("=?windows-1252?Q?=80?=", "€"),
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


@pytest.mark.parametrize("charset", ["punycode", "idna", "rot13", "unicode_escape", "utf-7", "hex"])
def test_a_codec_that_is_no_charset_is_not_used(charset: str) -> None:
    assert stored(f"=?{charset}?Q?a-bc?= =?UTF-8?Q?=C3=BC?=") == f"=?{charset}?Q?a-bc?= =?UTF-8?Q?=C3=BC?="


@pytest.mark.parametrize("unit", ["=?a?q? ", "=?a?q?", "=?", "=?a?q??= ", "=?utf-8?q?a?= ", "=?utf-8?b?YQ==?="])
def test_what_is_too_large_is_refused_before_it_is_decoded(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "_decode", None)  # calling it would fail
    with pytest.raises(S3Error) as caught:
        check_metadata({"a": unit * (8 * 1024 * 1024 // len(unit))})
    assert caught.value.code == "MetadataTooLarge"


def test_two_kibibytes_fit_in_either_encoding() -> None:
    for text in ("\u4e2d" * 682, "~" * 1000 + "\u00fc" * 500):
        octets = text.encode()
        pieces = [octets[at : at + 21] for at in range(0, len(octets), 21)]  # what words of 75 characters hold
        quoted = " ".join("=?UTF-8?Q?" + "".join(f"={octet:02X}" for octet in piece) + "?=" for piece in pieces)
        assert len(quoted) > 7000
        assert check_metadata({"a": quoted if text[0] != "~" else encode_metadata({"a": text})["a"]})
