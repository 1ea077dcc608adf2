"""The entries of a listing of objects, written from their lines: see `proxy.s3.lines`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from proxy.s3.escaping import xml_text
from proxy.s3.lines import ELEMENTS, END, OTHER_KEY, OWNED, OWNER, PLAIN_KEY, PRINTABLE_KEY
from proxy.s3.naming import url_encode_key
from proxy.s3.rendering import Written

RUN_SIZE = 32 * 1024  # of lines, that are written at a time: up to 3 ms if each byte of them is to be escaped, else a hundredth of that
_OPENING = b"<Contents><Key>"
_NEXT = b"</Contents>" + _OPENING

OwnerOf = Callable[[str | None], Mapping[str, object]]  # from the id that an ACL names to an owner as the model calls it


def contents(lines: bytes, *, url_encoded: bool = False, owner_of: OwnerOf | None = None) -> Iterator[Written]:
    """Yield Contents elements, a run of them at a time. Owners are told if it is said who they are."""
    start = 0
    while start < len(lines):
        end = lines.find(END, start + RUN_SIZE) + 1 or len(lines)
        yield _elements(_escaped(lines[start:end], url_encoded=url_encoded), owner_of)
        start = end


def _elements(lines: bytes, owner_of: OwnerOf | None) -> Written:
    if OWNER in lines:
        lines = OWNED.sub(lambda found: _owner(owner_of, found[1].decode()) + _NEXT, lines)
    lines = lines.replace(END, _owner(owner_of, None) + _NEXT)
    for mark, elements in ELEMENTS:
        lines = lines.replace(mark, elements)
    return Written(b"".join((_OPENING, memoryview(lines)[: -len(_OPENING)])))


def _escaped(lines: bytes, *, url_encoded: bool) -> bytes:
    """Return lines all of whose keys may be written as they are."""
    if OTHER_KEY in lines:
        lines = _with_keys(lines, OTHER_KEY, url_encode_key if url_encoded else xml_text)
    if url_encoded and PRINTABLE_KEY in lines:
        lines = _with_keys(lines, PRINTABLE_KEY, url_encode_key)
    return lines


def _with_keys(lines: bytes, mark: bytes, escape: Callable[[str], str]) -> bytes:
    """Return lines with the keys before this mark escaped."""
    return END.join([_with_key(line, mark, escape) for line in lines.split(END)])


def _with_key(line: bytes, mark: bytes, escape: Callable[[str], str]) -> bytes:
    key, found, rest = line.partition(mark)
    return b"%b%b%b" % (escape(key.decode()).encode(), PLAIN_KEY, rest) if found else line


def _owner(owner_of: OwnerOf | None, named: str | None) -> bytes:
    if owner_of is None:
        return b""
    return owner_element(owner_of(named))


def owner_element(owner: Mapping[str, object]) -> bytes:
    """Return the element of an owner that is called as the model calls it."""
    return _owner_element(owner["ID"], owner["DisplayName"])


@lru_cache(maxsize=1024)
def _owner_element(identity: object, name: object) -> bytes:
    display_name = "" if name is None else f"<DisplayName>{xml_text(str(name))}</DisplayName>"
    return f"<Owner>{display_name}<ID>{xml_text(str(identity))}</ID></Owner>".encode()
