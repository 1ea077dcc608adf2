"""Whether something is at a path: a failing disk does not make it absent."""

from __future__ import annotations

from pathlib import Path


def is_there(path: Path) -> bool:
    """Return whether something is there. `OSError` if nobody can tell: since Python 3.14 `Path.exists` takes that for no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
