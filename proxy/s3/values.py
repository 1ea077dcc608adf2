"""Values: text that stands for a number, a time or a list, in headers, queries and documents."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def read_value(kind: str, text: str) -> object:
    """Return what text without white space around it stands for, by one of the model's kinds. ValueError or OverflowError if nothing."""
    return _READERS[kind](text)


def value_at(document: Mapping[str, object], *path: str) -> object:
    """Return what stands deep in a document, by the names on the way; None where one is missing."""
    value: object = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _boolean(text: str) -> bool:
    lower = text.lower()
    if lower not in {"true", "false"}:
        raise ValueError(text)
    return lower == "true"


def _timestamp(text: str) -> datetime:
    """Read ISO 8601, as in documents, or an HTTP date in any of its three forms."""
    moment = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _blob(text: str) -> bytes:
    return b64decode(text, validate=True)


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


_READERS: Mapping[str, Callable[[str], object]] = {
    "string": str,
    "integer": _integer,
    "long": _integer,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "blob": _blob,
    "list": _list,
}
