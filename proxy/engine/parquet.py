"""Rows as a Parquet file. The library is large, and few have such inventories: it is an extra, and imported when it is needed."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from importlib.util import find_spec

from proxy.s3.inventory import BOOLEANS, INTEGERS, MOMENTS, Entry, value_of


def is_parquet_there() -> bool:
    """Tell whether Parquet can be written: `pip install 'shardgate[parquet]'`."""
    return find_spec("pyarrow") is not None


def parquet_of(columns: Sequence[str], entries: Sequence[Entry]) -> bytes:
    """Return rows as one Parquet file, with AWS's types."""
    import pyarrow as pa  # an extra: see above
    from pyarrow import parquet

    kinds = {
        **dict.fromkeys(INTEGERS, pa.int64()),
        **dict.fromkeys(MOMENTS, pa.timestamp("ms", tz="UTC")),
        **dict.fromkeys(BOOLEANS, pa.bool_()),
    }
    schema = pa.schema([(_name(column), kinds.get(column, pa.string())) for column in columns])
    table = pa.table({_name(column): [value_of(column, entry) for entry in entries] for column in columns}, schema=schema)
    target = io.BytesIO()
    parquet.write_table(table, target, compression="snappy")
    return target.getvalue()


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
