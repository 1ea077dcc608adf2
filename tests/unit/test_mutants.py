"""The kept mistakes still apply: that the tests notice them is for `make mutants`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.servers import ROOT
from tools.mutants.mistakes import Mistake, load_mistakes

MISTAKES = load_mistakes()


def test_mistakes_have_names_of_their_own() -> None:
    assert [name for name, count in Counter((mistake.area, mistake.name) for mistake in MISTAKES).items() if count > 1] == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.area}: {mistake.name}")
def test_a_mistake_applies_and_its_tests_are_there(mistake: Mistake) -> None:
    text = (ROOT / mistake.file).read_text("utf-8")
    spoilt = mistake.spoil(text)
    assert spoilt != text
    compile(spoilt, mistake.file, "exec")
    assert mistake.tests
    for test in mistake.tests:
        file, _, name = test.partition("::")
        source = (ROOT / file).read_text("utf-8")
        assert not name or re.search(rf"def {re.escape(name.partition('[')[0])}\(", source), test


def test_a_mistake_that_does_not_apply_is_an_error() -> None:
    mistake = Mistake(name="n", why="w", file="f", find="x = 1", replace="x = 2", tests=())
    assert mistake.spoil("x = 1\n") == "x = 2\n"
    for text in ("", "x = 1; x = 1"):
        with pytest.raises(ValueError, match="must be there once"):
            mistake.spoil(text)


def test_mistakes_are_kept_by_area(tmp_path: Path) -> None:
    entry = '[[mistake]]\nname = "n"\nwhy = "w"\nfile = "f"\nfind = "a"\nreplace = "b"\ntests = ["t"]\n'
    (tmp_path / "keys.toml").write_text(entry)
    (mistake,) = load_mistakes(tmp_path)
    assert (mistake.area, mistake.name) == ("keys", "n")
