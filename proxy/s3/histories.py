"""The entries of a listing of all versions, written as they are.

By the model each takes several times what its text does. They are always the same few elements, so these are written here, a run of entries
at a time. A test holds the two ways against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol

from proxy.s3.contents import OwnerOf, owner_element
from proxy.s3.escaping import is_plain_text, xml_text
from proxy.s3.lines import CHECKSUM, Listed
from proxy.s3.naming import url_encode_key
from proxy.s3.rendering import Written, iso_milliseconds

RUN = 32  # entries that are written at a time: with the longest keys, all to be escaped, up to 3 ms


class ListedVersion(Listed, Protocol):
    """What is told of a version, or of a delete marker."""

    @property
    def id(self) -> str: ...

    @property
    def is_latest(self) -> bool: ...

    @property
    def is_delete_marker(self) -> bool: ...


def histories(versions: Sequence[ListedVersion], *, url_encoded: bool, owner_of: OwnerOf) -> Iterator[Written]:
    """Yield Version and DeleteMarker elements in the order of the versions, a run of them at a time."""
    for start in range(0, len(versions), RUN):
        run = versions[start : start + RUN]
        keys = _escaped([version.key for version in run], url_encoded=url_encoded)
        yield Written("".join([_element(version, key, owner_of) for version, key in zip(run, keys, strict=True)]).encode())


def _escaped(keys: Sequence[str], *, url_encoded: bool) -> Sequence[str]:
    if url_encoded:
        return [url_encode_key(key) for key in keys]
    return keys if is_plain_text("".join(keys)) else [xml_text(key) for key in keys]


def _element(version: ListedVersion, key: str, owner_of: OwnerOf) -> str:
    attributes, checksum = version.attributes, version.checksum
    owner = owner_element(owner_of(None if attributes.acl is None else attributes.acl.owner)).decode()
    place = (
        f"<Key>{key}</Key><VersionId>{xml_text(version.id)}</VersionId><IsLatest>{'true' if version.is_latest else 'false'}</IsLatest>"
        f"<LastModified>{iso_milliseconds(version.modified_ms)}</LastModified>"
    )
    if version.is_delete_marker:
        return f"<DeleteMarker>{owner}{place}</DeleteMarker>"
    return (
        f"<Version><ETag>&quot;{xml_text(version.etag)}&quot;</ETag>"
        f"{'' if checksum is None else CHECKSUM.format(checksum.algorithm, checksum.type)}<Size>{version.size}</Size>"
        f"<StorageClass>{_storage_class(attributes.storage_class)}</StorageClass>{place}{owner}</Version>"
    )


@lru_cache(maxsize=64)
def _storage_class(name: str) -> str:
    return xml_text(name)
