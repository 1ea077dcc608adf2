"""The kept mistakes: where they are read from, and how one is put into a source file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent


class Mistake(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change for the worse. `find` stands exactly once in `file`; each of `tests` is a file, or a test of it, as pytest names them."""

    name: str
    why: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    area: str = ""  # the file it is kept in

    def spoil(self, text: str) -> str:
        """Return the source with the mistake in it. Raises `ValueError` if it does not apply."""
        found = text.count(self.find)
        if found != 1:
            raise ValueError(f"{self.file}: the text to replace is there {found} times; it must be there once")
        return text.replace(self.find, self.replace)


class Area(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of mistakes."""

    mistake: tuple[Mistake, ...]


def load_mistakes(folder: Path = FOLDER) -> tuple[Mistake, ...]:
    """Return all mistakes, by area. Raises `msgspec.ValidationError` if a file is not of the form."""
    areas = {path.stem: msgspec.convert(tomllib.loads(path.read_text("utf-8")), Area) for path in sorted(folder.glob("*.toml"))}
    return tuple(msgspec.structs.replace(mistake, area=name) for name, area in areas.items() for mistake in area.mistake)
