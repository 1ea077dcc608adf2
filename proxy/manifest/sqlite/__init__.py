"""The manifest in one SQLite file."""

from proxy.manifest.sqlite.opening import open_sqlite

__all__ = ["open_sqlite"]
