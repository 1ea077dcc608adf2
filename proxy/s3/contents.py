"""The entries of a listing of objects, written as they are.

The problem: a listing has a thousand entries. By the model each takes several times what its text does, and all together most of the
listing's time.

The idea: they are always the same few elements. So these are written here, many at a time, and the rest of the document by the model. What
XML must escape is looked for in all keys of a run together: mostly there is nothing. A test holds the two ways against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from proxy.s3.escaping import is_plain_text, xml_text
from proxy.s3.naming import url_encode_keys
from proxy.s3.rendering import Written, iso_milliseconds

RUN = 64  # entries that are written at a time: with the longest keys, all to be escaped, a few hundred microseconds


class ListedChecksum(Protocol):
    """What is told of an object's checksum."""

    @property
    def algorithm(self) -> str: ...

    @property
    def type(self) -> str: ...


class ListedAttributes(Protocol):
    """What is told of an object's attributes."""

    @property
    def storage_class(self) -> str: ...


class Listed(Protocol):
    """What is told of an object. `etag` is without quotes."""

    @property
    def key(self) -> str: ...

    @property
    def etag(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def modified_ms(self) -> int: ...

    @property
    def checksum(self) -> ListedChecksum | None: ...

    @property
    def attributes(self) -> ListedAttributes: ...


def contents(
    entries: Sequence[Listed], *, url_encoded: bool = False, owners: Sequence[Mapping[str, object]] | None = None
) -> Iterator[Written]:
    """Yield Contents elements, a run of them at a time. `owners` are told if they are given: one an entry, as the model calls them."""
    for start in range(0, len(entries), RUN):
        run = entries[start : start + RUN]
        told = [""] * len(run) if owners is None else [_owner(one["ID"], one["DisplayName"]) for one in owners[start : start + RUN]]
        yield Written("".join(_elements(run, _keys(run, url_encoded=url_encoded), told)))


def _elements(run: Sequence[Listed], keys: Sequence[str], owners: Sequence[str]) -> Iterator[str]:
    seconds, moment = -1, ""  # most have been written in the second of the one before
    for entry, key, etag, owner in zip(run, keys, _escaped([entry.etag for entry in run]), owners, strict=True):
        if seconds != (now := entry.modified_ms // 1000):
            seconds, moment = now, iso_milliseconds(entry.modified_ms)
        checksum = entry.checksum
        told_checksum = "" if checksum is None else _checksum(checksum.algorithm, checksum.type)
        yield (
            f"<Contents><Key>{key}</Key><LastModified>{moment}</LastModified><ETag>&quot;{etag}&quot;</ETag>{told_checksum}"
            f"<Size>{entry.size}</Size><StorageClass>{_storage_class(entry.attributes.storage_class)}</StorageClass>{owner}</Contents>"
        )


def _keys(run: Sequence[Listed], *, url_encoded: bool) -> Sequence[str]:
    keys = [entry.key for entry in run]
    return url_encode_keys(keys) if url_encoded else _escaped(keys)


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    return texts if is_plain_text("".join(texts)) else [xml_text(text) for text in texts]


@lru_cache(maxsize=16)
def _checksum(algorithm: str, kind: str) -> str:
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"


@lru_cache(maxsize=64)
def _storage_class(name: str) -> str:
    return xml_text(name)


@lru_cache(maxsize=1024)
def _owner(identity: object, name: object) -> str:
    display_name = "" if name is None else f"<DisplayName>{xml_text(str(name))}</DisplayName>"
    return f"<Owner>{display_name}<ID>{xml_text(str(identity))}</ID></Owner>"
