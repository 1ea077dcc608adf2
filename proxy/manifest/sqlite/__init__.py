"""The manifest in one SQLite file."""

from proxy.manifest.sqlite.adapter import open_sqlite

__all__ = ["open_sqlite"]
