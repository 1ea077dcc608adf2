"""The files of a list, while they are made: rows come a page at a time, and only what they are packed into is held."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

from proxy.engine.outgoing.parquet import ParquetFile
from proxy.s3.inventory import Entry, Inventory, csv_of

_GZIP = 16 + zlib.MAX_WBITS  # zlib.compressobj: with gzip's header, which then tells no time


class ListFile(Protocol):
    """One file under way. Its methods are called one after the other, in threads."""

    suffix: str
    content_type: str

    def add(self, entries: Sequence[Entry]) -> int:
        """Add rows; return about how many bytes are held."""
        ...

    def finish(self) -> bytes:
        """Return the whole file. Nothing is added afterwards."""
        ...


class CsvFile:
    """Rows as text, packed by gzip."""

    suffix = "csv.gz"
    content_type = "application/gzip"

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        self._packed = bytearray()

    def add(self, entries: Sequence[Entry]) -> int:
        self._packed += self._packer.compress(csv_of(self._columns, entries))
        return len(self._packed)

    def finish(self) -> bytes:
        return bytes(self._packed + self._packer.flush())


def new_file(inventory: Inventory) -> ListFile:
    return CsvFile(inventory.columns) if inventory.format == "CSV" else ParquetFile(inventory.columns)
