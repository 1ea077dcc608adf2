"""Rows as a Parquet file. The library is large, and few have such inventories: it is an extra, and imported when it is needed."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from importlib.util import find_spec

from proxy.s3.inventory import BOOLEANS, INTEGERS, MOMENTS, Entry, value_of

GROUP_ROWS = 10_000  # some 10 MB, until they are written


def is_parquet_there() -> bool:
    """Tell whether Parquet can be written: `pip install 'shardgate[parquet]'`."""
    return find_spec("pyarrow") is not None


class ParquetFile:
    """Rows as one Parquet file, with AWS's types."""

    suffix = "parquet"
    content_type = "application/octet-stream"

    def __init__(self, columns: Sequence[str]) -> None:
        import pyarrow as pa  # an extra: see above
        from pyarrow import parquet

        kinds = {
            **dict.fromkeys(INTEGERS, pa.int64()),
            **dict.fromkeys(MOMENTS, pa.timestamp("ms", tz="UTC")),
            **dict.fromkeys(BOOLEANS, pa.bool_()),
        }
        self._columns = columns
        self._make_table = pa.table
        self._schema = pa.schema([(_name(column), kinds.get(column, pa.string())) for column in columns])
        self._file = io.BytesIO()
        self._writer = parquet.ParquetWriter(self._file, self._schema, compression="snappy")
        self._waiting: list[Entry] = []

    def add(self, entries: Sequence[Entry]) -> int:
        self._waiting += entries
        if len(self._waiting) >= GROUP_ROWS:
            self._write()
        return self._file.tell()

    def finish(self) -> bytes:
        self._write()
        self._writer.close()
        return self._file.getvalue()

    def _write(self) -> None:
        """Write the rows that wait, as a group of their own."""
        rows = {_name(column): [value_of(column, entry) for entry in self._waiting] for column in self._columns}
        self._writer.write_table(self._make_table(rows, schema=self._schema))
        self._waiting = []


def parquet_schema(columns: Sequence[str]) -> str:
    """Return the schema as the manifest of an inventory tells it."""
    return f"message s3.inventory {{ {' '.join(f'{_type(column)} {_name(column)}{_note(column)};' for column in columns)} }}"


def _name(column: str) -> str:
    """Return the name of a column in a Parquet file: lower case, with underscores. ETag is e_tag."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", column).lower()


def _type(column: str) -> str:
    need = "required" if column in {"Bucket", "Key"} else "optional"
    kind = "int64" if column in INTEGERS | MOMENTS else "boolean" if column in BOOLEANS else "binary"
    return f"{need} {kind}"


def _note(column: str) -> str:
    return " (TIMESTAMP_MILLIS)" if column in MOMENTS else "" if column in INTEGERS | BOOLEANS else " (UTF8)"
