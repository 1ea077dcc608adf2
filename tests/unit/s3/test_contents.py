"""Entries of listings that are written without the model: the same bytes as with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.contents import RUN_SIZE, OwnerOf, contents
from proxy.s3.escaping import is_plain_text, xml_text
from proxy.s3.lines import last_key, line_of, owners_of
from proxy.s3.naming import is_plain_key, url_encode_key
from proxy.s3.rendering import iso_milliseconds, render_response

from .samples import MODEL

# One character in four is one that XML must escape.
TEXTS = st.text(st.one_of(st.characters(), st.characters(), st.characters(), st.sampled_from('&<>"\r\n\t\x00\uffff\xf8\xff ]')))
STORED = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())  # a key or an id
OWNERS = st.fixed_dictionaries({"ID": TEXTS, "DisplayName": TEXTS | st.none()})


class Checksum(NamedTuple):
    """What is told of a checksum."""

    algorithm: str
    type: str


class Acl(NamedTuple):
    """Whose an object is."""

    owner: str


class Attributes(NamedTuple):
    """What is told of attributes."""

    storage_class: str = "STANDARD"
    acl: Acl | None = None


class Entry(NamedTuple):
    """An object of a listing."""

    key: str
    etag: str = "e"
    size: int = 0
    modified_ms: int = 0
    attributes: Attributes = Attributes()
    checksum: Checksum | None = None


ALGORITHMS = st.sampled_from(["CRC32", "CRC64NVME", "SHA256"])
ENTRIES = st.builds(
    Entry,
    key=STORED | st.text("abc/_-%~", max_size=20) | st.text("abc/ \u00fc=", max_size=20),
    etag=STORED | st.text("0123456789abcdef-", max_size=20),
    size=st.integers(0, 2**63),
    modified_ms=st.integers(0, 2**42),
    attributes=st.builds(Attributes, STORED | st.just("STANDARD") | st.just("GLACIER"), st.builds(Acl, STORED) | st.none()),
    checksum=st.builds(Checksum, ALGORITHMS, st.sampled_from(["FULL_OBJECT", "COMPOSITE"])) | st.none(),
)


def lines_of(entries: Iterable[Entry]) -> bytes:
    """Return entries as the manifest lists them."""
    return b"".join(entry.key.encode() + line_of(entry) for entry in entries)


def modelled(entry: Entry, owner_of: OwnerOf | None, *, url_encoded: bool = False) -> dict[str, object]:
    """Return an entry as the model takes it."""
    acl = entry.attributes.acl
    return {
        "Key": url_encode_key(entry.key) if url_encoded else entry.key,
        "LastModified": iso_milliseconds(entry.modified_ms),
        "ETag": f'"{entry.etag}"',
        "Size": entry.size,
        "StorageClass": entry.attributes.storage_class,
        "ChecksumAlgorithm": None if entry.checksum is None else [entry.checksum.algorithm],
        "ChecksumType": None if entry.checksum is None else entry.checksum.type,
        "Owner": None if owner_of is None else owner_of(None if acl is None else acl.owner),
    }


def document(operation: str, items: Iterable[object]) -> bytes:
    return render_response(MODEL.operations[operation], {"Name": "b", "Contents": items}).body


@pytest.mark.parametrize("operation", ["ListObjects", "ListObjectsV2"])
@given(entries=st.lists(ENTRIES), owner=OWNERS | st.none())
def test_entries_are_written_as_the_model_writes_them(operation: str, entries: list[Entry], owner: dict[str, object] | None) -> None:
    def owner_of(named: str | None) -> dict[str, object]:
        assert owner is not None
        return owner if named is None else {"ID": named, "DisplayName": None}

    told = None if owner is None else owner_of
    expected = [modelled(entry, told) for entry in entries]
    lines = lines_of(entries)
    assert document(operation, contents(lines, owner_of=told)) == document(operation, expected)
    assert document(operation, [*contents(lines, owner_of=told), *expected]) == document(operation, expected * 2)


@given(st.lists(ENTRIES))
def test_encoded_keys_are_written_as_the_model_writes_them(entries: list[Entry]) -> None:
    expected = [modelled(entry, None, url_encoded=True) for entry in entries]
    assert document("ListObjectsV2", contents(lines_of(entries), url_encoded=True)) == document("ListObjectsV2", expected)


@given(st.lists(ENTRIES, min_size=1))
def test_lines_tell_their_last_key_and_whose_the_objects_are(entries: list[Entry]) -> None:
    assert last_key(lines_of(entries)) == entries[-1].key.encode()
    assert owners_of(lines_of(entries)) == {entry.attributes.acl.owner for entry in entries if entry.attributes.acl is not None}


@pytest.mark.parametrize("key", ["plain", 'all "&<>\n of it'])
def test_entries_are_written_a_run_at_a_time_and_none_is_lost_between(key: str) -> None:
    entries = [Entry(f"{key}/{number}") for number in range(3 * RUN_SIZE // len(line_of(Entry(key))))]
    runs = [run.text for run in contents(lines_of(entries))]
    assert len(runs) > 2
    assert sum(run.count(b"<Contents>") for run in runs) == len(entries)
    assert document("ListObjectsV2", contents(lines_of(entries))) == document("ListObjectsV2", [modelled(each, None) for each in entries])


@given(st.text())
def test_text_that_is_plain_needs_no_escape(text: str) -> None:
    if is_plain_text(text) or is_plain_key(text):
        assert xml_text(text) == text


@given(key=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_key_is_encoded_alike_whether_it_needs_it_or_not(key: str) -> None:
    assert url_encode_key(key + "%").removesuffix("%25") == url_encode_key(key)
