"""Rebuilding lost columns of a segment, a run of stripes at a time, from any k others.

The bytes come out as they were at first: the code, the shard keys and the nonces are those of the first write, and so is the plaintext,
because every cell it is decoded from has been authenticated. Nothing is ever sealed twice under one nonce that is not the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from proxy.codec.column import Column
from proxy.codec.erasure import encode_stripe
from proxy.codec.segment import ColumnReader, SegmentKeys


def rebuild_cells(keys: SegmentKeys, reader: ColumnReader, first: int, last: int, wanted: Collection[int]) -> dict[int, list[bytes]]:
    """Return the sealed cells of stripes first..last, by shard index. `reader` has k columns of that run."""
    columns: dict[int, list[bytes]] = {index: [] for index in wanted}
    for stripe, cells in _coded_anew(keys, reader, first, last):
        for index, column in columns.items():
            column.append(keys.cipher(index).seal(stripe, cells[index]))
    return columns


def rebuild_columns(keys: SegmentKeys, reader: ColumnReader, first: int, last: int, wanted: Mapping[int, Column]) -> None:
    """As `rebuild_cells`, but add them to columns that are to be stored."""
    for stripe, cells in _coded_anew(keys, reader, first, last):
        for index, column in wanted.items():
            column.seal(keys.cipher(index), stripe, cells[index])


def _coded_anew(keys: SegmentKeys, reader: ColumnReader, first: int, last: int) -> Iterator[tuple[int, list[memoryview]]]:
    scheme = keys.geometry.scheme
    for stripe in range(first, last + 1):
        plaintext = b"".join(reader.plaintext(stripe * scheme.stripe_size, keys.geometry.stripe_size(stripe)))
        yield stripe, encode_stripe(scheme, plaintext)
