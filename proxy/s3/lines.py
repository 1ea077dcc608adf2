"""Lines: what listings tell of an object, made ready when it is stored, so that a page is written without a look at any of its entries.

The problem: a listing has a thousand entries. A program that takes up each, if only for a microsecond, spends most of the listing's time
with that, although all but a few words of an entry is the same for all.

The idea: where an object is stored, its **line** is stored with it: what is told of it, and between any two facts a mark, a byte that UTF-8
never has. A page is keys and lines, each line behind its key, joined by the database to one text. To write that as XML is to put for each
mark what it stands for: as many passes over the text as there are marks, each at the speed of memory. What is rare has no mark, and stands
in the line as it is written. All but the key is escaped already, for it depends on the request what a key needs: the mark behind it says
whether it may need anything.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

from proxy.s3.escaping import is_plain_text, xml_text
from proxy.s3.naming import is_plain_key
from proxy.s3.rendering import iso_milliseconds

PLAIN_KEY, PRINTABLE_KEY, OTHER_KEY = b"\xf8", b"\xf9", b"\xfa"  # behind a key that stays as it is; does but in URLs; may not even in XML
_ETAG, _SIZE, _CRC64NVME_AND_SIZE, _CRC32_AND_SIZE, _STANDARD = b"\xfb", b"\xfc", b"\xfd", b"\xfe", b"\xf6"
OWNER = b"\xf7"  # before the canonical id of whoever an ACL says that the object is of
END = b"\xff"  # of a line

_TO_SIZE = "&quot;</ETag>{}<Size>"
CHECKSUM = "<ChecksumAlgorithm>{}</ChecksumAlgorithm><ChecksumType>{}</ChecksumType>"
_CLASS = "</Size><StorageClass>{}</StorageClass>"
# What marks stand for. A checksum that clients send unasked has one.
ELEMENTS = (
    (PLAIN_KEY, b"</Key><LastModified>"),
    (PRINTABLE_KEY, b"</Key><LastModified>"),
    (_ETAG, b".000Z</LastModified><ETag>&quot;"),
    (_SIZE, _TO_SIZE.format("").encode()),
    (_CRC64NVME_AND_SIZE, _TO_SIZE.format(CHECKSUM.format("CRC64NVME", "FULL_OBJECT")).encode()),
    (_CRC32_AND_SIZE, _TO_SIZE.format(CHECKSUM.format("CRC32", "FULL_OBJECT")).encode()),
    (_STANDARD, _CLASS.format("STANDARD").encode()),
)
_KEY = re.compile(rb"[^\xf8-\xfa]*")
OWNED = re.compile(rb"\xf7([^\xff]*)\xff")  # the end of a line that names an owner


class ListedChecksum(Protocol):
    """What is told of an object's checksum."""

    @property
    def algorithm(self) -> str: ...

    @property
    def type(self) -> str: ...


class ListedAcl(Protocol):
    """Whose an object is."""

    @property
    def owner(self) -> str: ...


class ListedAttributes(Protocol):
    """What is told of an object's attributes."""

    @property
    def storage_class(self) -> str: ...

    @property
    def acl(self) -> ListedAcl | None: ...


class Listed(Protocol):
    """What is told of an object. `etag` is without quotes; without an ACL it is the bucket's owner's."""

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


def line_of(entry: Listed) -> bytes:
    """Return the line of an object: all that listings tell of it, but for its key, which goes before."""
    key, checksum, attributes = entry.key, entry.checksum, entry.attributes
    return b"%b%b%b%b%b%d%b%b%b" % (
        PLAIN_KEY if is_plain_key(key) else PRINTABLE_KEY if is_plain_text(key) else OTHER_KEY,
        iso_milliseconds(entry.modified_ms).removesuffix(".000Z").encode(),
        _ETAG,
        xml_text(entry.etag).encode(),
        _SIZE if checksum is None else _checksum_and_size(checksum.algorithm, checksum.type),
        entry.size,
        _storage_class(attributes.storage_class),
        b"" if attributes.acl is None else OWNER + attributes.acl.owner.encode(),
        END,
    )


@lru_cache(maxsize=64)
def _checksum_and_size(algorithm: str, kind: str) -> bytes:
    common = {"CRC64NVME": _CRC64NVME_AND_SIZE, "CRC32": _CRC32_AND_SIZE} if kind == "FULL_OBJECT" else {}
    return common.get(algorithm) or _TO_SIZE.format(CHECKSUM.format(algorithm, kind)).encode()


@lru_cache(maxsize=64)
def _storage_class(name: str) -> bytes:
    return _STANDARD if name == "STANDARD" else _CLASS.format(xml_text(name)).encode()


def count_lines(lines: bytes) -> int:
    return lines.count(END)


def without_last(lines: bytes) -> bytes:
    return lines[: lines.rfind(END, 0, -1) + 1]


def last_key(lines: bytes) -> bytes:
    """Return the last key of some lines with their keys, nothing if there is none."""
    found = _KEY.match(lines, lines.rfind(END, 0, -1) + 1)
    assert found is not None  # nothing at all matches, too
    return found[0]


def owners_of(lines: bytes) -> frozenset[str]:
    """Return whose some objects are as their ACLs say."""
    return frozenset(one.decode() for one in OWNED.findall(lines)) if OWNER in lines else frozenset()
