"""Layouts of extents, read and written whole."""

from __future__ import annotations

import msgspec

from proxy.manifest.records import ExtentId, Layout
from proxy.manifest.sqlite.rows import Connection, encode, one

_layouts = msgspec.msgpack.Decoder(Layout)
decode_layout = _layouts.decode


def find_layout(connection: Connection, extent_id: ExtentId) -> Layout | None:
    return one(connection, "SELECT layout FROM extent WHERE id = ?", (extent_id,), _layouts)


def save_layout(connection: Connection, extent_id: ExtentId, layout: Layout) -> None:
    connection.execute("UPDATE extent SET layout = ? WHERE id = ?", (encode(layout), extent_id))
