"""What the steps share: how records lie in rows. A step is one change or one question on an open connection: no threads, no asyncio."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from proxy.manifest.records import ListedVersion, Version
from proxy.s3.lines import line_of

Connection = sqlite3.Connection
Decoded = TypeVar("Decoded")

encode = msgspec.msgpack.Encoder().encode


def one(connection: Connection, sql: str, parameters: Sequence[object], decoder: msgspec.msgpack.Decoder[Decoded]) -> Decoded | None:
    """Return the record that is the first row's first column, or None."""
    row = connection.execute(sql, parameters).fetchone()
    return None if row is None else decoder.decode(row[0])


def listed_line(version: Version | ListedVersion) -> bytes | None:
    """Return what goes into a version's row beside its record, for listings."""
    return None if version.is_delete_marker else line_of(version)
