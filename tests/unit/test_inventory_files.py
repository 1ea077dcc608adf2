"""Files of inventories: made a page at a time, in memory that does not grow with their rows."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from collections.abc import Iterator

import pytest
from pyarrow import parquet

from proxy.engine.outgoing.inventory_files import CsvFile, ListFile
from proxy.engine.outgoing.parquet import ParquetFile
from proxy.s3.inventory import Entry

COLUMNS = ("Bucket", "Key", "Size", "ETag")
PAGE = 1000
MIB = 1024 * 1024


def pages(rows: int) -> Iterator[list[Entry]]:
    for first in range(0, rows, PAGE):
        yield [Entry("bucket", f"some/folder/key-{n:08}", {"Size": n, "ETag": f"{n:032x}"}) for n in range(first, first + PAGE)]


@pytest.mark.parametrize("kind", [CsvFile, ParquetFile])
def test_a_list_of_many_rows_is_made_in_little_memory(kind: type[CsvFile] | type[ParquetFile]) -> None:
    file: ListFile = kind(COLUMNS)
    tracemalloc.start()
    try:
        held = [file.add(page) for page in pages(200_000)]
        data = file.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * MIB, "two hundred thousand rows are 150 MB as objects"
    assert held[-1] <= len(data)
    assert held == sorted(held)
    assert keys(data, kind is CsvFile) == [f"some/folder/key-{n:08}" for n in range(200_000)]


def keys(data: bytes, is_csv: bool) -> list[str]:
    if is_csv:
        return [row[1] for row in csv.reader(io.StringIO(gzip.decompress(data).decode()))]
    return parquet.read_table(io.BytesIO(data))["key"].to_pylist()


@pytest.mark.parametrize("kind", [CsvFile, ParquetFile])
def test_the_same_rows_make_the_same_file(kind: type[CsvFile] | type[ParquetFile]) -> None:
    files = []
    for _ in range(2):
        file: ListFile = kind(COLUMNS)
        for page in pages(2000):
            file.add(page)
        files.append(file.finish())
    assert files[0] == files[1]
