"""Text is escaped as XML needs it, and at once: a listing has up to a megabyte of keys, whatever they consist of."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.escaping import xml_text

SPECIAL = '&<>"\r\n\t\x00\x01\x1f\x7f\ud800\udfff\ufffe\uffff#x;1'


def escaped(character: str) -> str:
    named = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}.get(character)
    if named is not None:
        return named
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    is_unfit = (character < " " and character not in "\t\n") or character in "\ufffe\uffff"
    return f"&#x{ord(character):x};" if is_unfit else character


@given(st.text(st.one_of(st.characters(), st.sampled_from(SPECIAL))))
def test_text_is_escaped_as_each_of_its_characters_is(text: str) -> None:
    assert xml_text(text) == "".join(map(escaped, text))


@pytest.mark.parametrize("character", ["&", "\x01", "\ufffe", "\udcff"])
def test_the_same_character_again_and_again_is_escaped_without_a_call_for_each(character: str) -> None:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        text = xml_text(character * 1000)
    finally:
        sys.setprofile(before)
    assert text == escaped(character) * 1000
    assert calls < 50
