"""Entries of listings that are written without the model: the same bytes as with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.contents import RUN, contents
from proxy.s3.escaping import is_plain_text, xml_text
from proxy.s3.naming import url_encode_key
from proxy.s3.rendering import iso_milliseconds, render_response

from .samples import MODEL

# One character in four is one that XML must escape.
TEXTS = st.text(st.one_of(st.characters(), st.characters(), st.characters(), st.sampled_from('&<>"\r\n\t\x00\ud800\uffff ]')))
OWNERS = st.fixed_dictionaries({"ID": TEXTS, "DisplayName": TEXTS | st.none()})


class Checksum(NamedTuple):
    """What is told of a checksum."""

    algorithm: str
    type: str


class Attributes(NamedTuple):
    """What is told of attributes."""

    storage_class: str


class Entry(NamedTuple):
    """An object of a listing."""

    key: str
    etag: str
    size: int
    modified_ms: int
    attributes: Attributes
    checksum: Checksum | None


ENTRIES = st.builds(
    Entry,
    key=TEXTS | st.text("abc/_-%~", max_size=20),
    etag=TEXTS | st.text("0123456789abcdef-", max_size=20),
    size=st.integers(0, 2**63),
    modified_ms=st.integers(0, 2**42),
    attributes=st.builds(Attributes, TEXTS | st.just("STANDARD")),
    checksum=st.builds(Checksum, st.sampled_from(["CRC32", "CRC64NVME"]), st.sampled_from(["FULL_OBJECT", "COMPOSITE"])) | st.none(),
)


def modelled(entry: Entry, owner: dict[str, object] | None, *, url_encoded: bool) -> dict[str, object]:
    """Return an entry as the model takes it."""
    return {
        "Key": url_encode_key(entry.key) if url_encoded else entry.key,
        "LastModified": iso_milliseconds(entry.modified_ms),
        "ETag": f'"{entry.etag}"',
        "Size": entry.size,
        "StorageClass": entry.attributes.storage_class,
        "ChecksumAlgorithm": None if entry.checksum is None else [entry.checksum.algorithm],
        "ChecksumType": None if entry.checksum is None else entry.checksum.type,
        "Owner": owner,
    }


@pytest.mark.parametrize("operation", ["ListObjects", "ListObjectsV2"])
@given(entries=st.lists(ENTRIES), owner=OWNERS | st.none())
def test_entries_are_written_as_the_model_writes_them(operation: str, entries: list[Entry], owner: dict[str, object] | None) -> None:
    owners = None if owner is None else [owner] * len(entries)

    def document(items: Iterable[object]) -> bytes:
        return render_response(MODEL.operations[operation], {"Name": "b", "Contents": items}).body

    expected = [modelled(entry, owner, url_encoded=False) for entry in entries]
    assert document(contents(entries, owners=owners)) == document(expected)
    assert document([*contents(entries, owners=owners), *expected]) == document(expected * 2)


@given(st.lists(ENTRIES.map(lambda entry: entry._replace(key=entry.key.encode("utf-8", "replace").decode()))))
def test_encoded_keys_are_written_as_the_model_writes_them(entries: list[Entry]) -> None:
    def document(items: Iterable[object]) -> bytes:
        return render_response(MODEL.operations["ListObjectsV2"], {"Name": "b", "Contents": items}).body

    expected = [modelled(entry, None, url_encoded=True) for entry in entries]
    assert document(contents(entries, url_encoded=True)) == document(expected)


def test_entries_are_written_a_run_at_a_time_each_with_its_own_owner() -> None:
    entries = [Entry(f"k{number}", "e", number, 0, Attributes("STANDARD"), None) for number in range(2 * RUN + 1)]
    owners = [{"ID": f"id{number}", "DisplayName": None} for number in range(len(entries))]
    runs = list(contents(entries, owners=owners))
    assert [run.count("<Contents>") for run in runs] == [RUN, RUN, 1]
    assert all(f"<Key>k{number}</Key>" in runs[number // RUN] for number in range(len(entries)))
    assert f"<Key>k{2 * RUN}</Key>" in runs[2]
    assert f"<ID>id{2 * RUN}</ID>" in runs[2]


@given(st.text())
def test_text_that_is_plain_needs_no_escape(text: str) -> None:
    if is_plain_text(text):
        assert xml_text(text) == text


@given(key=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_key_is_encoded_alike_whether_it_needs_it_or_not(key: str) -> None:
    assert url_encode_key(key + "%").removesuffix("%25") == url_encode_key(key)
