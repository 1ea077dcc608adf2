"""Wildcards and variables of policies."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.policy.patterns import Glob, Template, VariableMissing, read_tokens

VALUES = {"aws:username": "anna", "aws:userid": "a*b"}


def matches(pattern: str, text: str) -> bool:
    return Template(read_tokens(pattern)).matches(text, VALUES.get)


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("", [""], ["a"]),
        ("*", ["", "a", "a/b\nc"], []),
        ("abc", ["abc"], ["ab", "abcd", "ABC"]),
        ("a*", ["a", "ab"], ["ba"]),
        ("*a", ["a", "ba"], ["ab"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("a?c", ["abc", "a\nc", "aéc"], ["ac", "abbc"]),
        ("*b?d*", ["abcd", "bbcd", "xbbxd"], ["bd", "bcx"]),
        ("?", ["a"], ["", "ab"]),
        ("*?*", ["a", "ab"], [""]),
        ("a**b", ["ab", "axb"], ["a"]),
        ("*ab*ab", ["abab", "xabyab"], ["ab"]),
        ("[a-z]+", ["[a-z]+"], ["a"]),
    ],
)
def test_a_pattern_fits_all_of_a_text(pattern: str, fits: list[str], others: list[str]) -> None:
    assert [text for text in fits if not matches(pattern, text)] == []
    assert [text for text in others if matches(pattern, text)] == []


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=16))
def test_patterns_mean_what_they_mean_as_regular_expressions(pattern: str, text: str) -> None:
    meant = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    assert Glob(read_tokens(pattern)).matches(text) is (re.fullmatch(meant, text) is not None)


def test_the_value_of_a_variable_stands_for_itself() -> None:
    assert matches("home/${aws:username}/*", "home/anna/x")
    assert matches("${AWS:UserName}", "anna")
    assert matches("${aws:userid}", "a*b")
    assert not matches("${aws:userid}", "axb")


def test_a_variable_may_have_a_default_and_must_have_a_value() -> None:
    assert matches("${aws:PrincipalTag/team, 'none'}/*", "none/x")
    with pytest.raises(VariableMissing):
        matches("${aws:PrincipalTag/team}", "x")


def test_wildcards_can_be_written_as_characters() -> None:
    assert matches("${*}${?}${$}", "*?$")
    assert not matches("${*}", "a")


@pytest.mark.parametrize("pattern", ["${", "${}", "${aws:username", "${nothing}", "${aws:a, b}", "${a:${b:c}}"])
def test_a_variable_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"variable"):
        read_tokens(pattern)


def test_without_variables_they_are_text() -> None:
    assert Glob(read_tokens("${aws:username}", variables=False)).matches("${aws:username}")


class Counted(str):
    """A text that counts how often one of its characters is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        for character in super().__iter__():
            Counted.looks += 1
            yield character


def test_a_text_is_looked_at_once_for_all_patterns_however_they_are_made() -> None:
    text = Counted("ab" * 1000)
    for index in range(100):
        assert not Glob(read_tokens(f"*{'a?' * index}c*")).matches(text)
        assert Glob(read_tokens(f"*?{'a?' * index}b*")).matches(text) is (index == 0)
    assert Counted.looks == len(text)


def test_a_value_that_cannot_fit_is_no_pattern_to_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    template = Template(read_tokens("*${aws:userid}?"))
    monkeypatch.setattr("proxy.s3.policy.patterns.Glob", None)
    assert not template.matches("x" * 8, lambda _key: "x" * 8)
