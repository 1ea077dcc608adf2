"""Whether something is at a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.paths import is_there


def test_what_is_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_there(tmp_path)
    assert is_there(tmp_path / "file")
    assert not is_there(tmp_path / "other")
    assert not is_there(tmp_path / "file" / "below")


def test_what_cannot_be_asked_for_is_not_taken_for_absent(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="name too long"):
        is_there(tmp_path / ("x" * 300))
