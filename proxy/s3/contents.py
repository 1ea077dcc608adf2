"""The entries of a listing of objects, written as they are.

The problem: a listing has a thousand entries. By the model each takes several times what its text does, and all together most of the
listing's time.

The idea: they are always the same few elements. So these are written here, and the rest of the document by the model. A test holds the
two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from proxy.s3.escaping import xml_text
from proxy.s3.rendering import Written, iso_milliseconds


def contents(
    key: str,
    *,
    etag: str,
    size: int,
    modified_ms: int,
    storage_class: str,
    checksum: tuple[str, str] | None = None,
    owner: Mapping[str, object] | None = None,
) -> Written:
    """Return a Contents element. `etag` is without quotes, `checksum` an algorithm and a type, `owner` what the model calls so."""
    told_checksum = "" if checksum is None else _checksum(*checksum)
    told_owner = "" if owner is None else _owner(owner["ID"], owner["DisplayName"])
    return Written(
        f"<Contents><Key>{xml_text(key)}</Key><LastModified>{iso_milliseconds(modified_ms)}</LastModified>"
        f"<ETag>&quot;{xml_text(etag)}&quot;</ETag>{told_checksum}<Size>{size}</Size>"
        f"<StorageClass>{xml_text(storage_class)}</StorageClass>{told_owner}</Contents>"
    )


@lru_cache(maxsize=16)
def _checksum(algorithm: str, kind: str) -> str:
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"


@lru_cache(maxsize=1024)
def _owner(identity: object, name: object) -> str:
    display_name = "" if name is None else f"<DisplayName>{xml_text(str(name))}</DisplayName>"
    return f"<Owner>{display_name}<ID>{xml_text(str(identity))}</ID></Owner>"
