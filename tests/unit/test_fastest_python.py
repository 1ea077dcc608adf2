"""Which Python `make` takes, of several on the PATH."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "fastest_python.sh"


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        ({"a/python3.11": 40, "a/python3.12": 38, "b/python3.14": 37}, "a/python3.11"),  # none is clearly faster
        ({"a/python3.11": 60, "b/python3.11": 40}, "b/python3.11"),
        ({"b/python3.11": 60, "a/python3.13": 40, "a/python3.14": 44}, "a/python3.13"),
        ({"a/python3.12": 70}, "a/python3.12"),
        ({"a/python3.11": None, "a/python3.14": 90}, "a/python3.14"),  # one does not work
        ({"a/python3.10": 10, "a/python3": 10}, None),
    ],
)
def test_the_fastest_is_taken_whichever_it_is(tmp_path: Path, taken: dict[str, int | None], chosen: str | None) -> None:
    for name, duration in taken.items():
        python = tmp_path / name
        python.parent.mkdir(exist_ok=True)
        python.write_text(f"#!/bin/sh\n{'exit 127' if duration is None else f'echo {duration} $0'}\n")
        python.chmod(0o755)
    path = f"{tmp_path}/a:{tmp_path}/b"
    found = subprocess.run(["/bin/sh", SCRIPT], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert found.stdout == f"{tmp_path / chosen if chosen else 'python3'}\n"
    assert not found.stderr
