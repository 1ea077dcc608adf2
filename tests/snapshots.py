"""Copies of a manifest, made behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_of(manifest: Path, to: Path) -> None:
    """Copy a manifest without telling it, as a snapshot of a disk does: with what is still in its log."""
    with closing(sqlite3.connect(manifest)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
