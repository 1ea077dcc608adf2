"""Entries of listings that are written without the model: the same bytes as with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.contents import contents
from proxy.s3.naming import url_encode_key
from proxy.s3.rendering import iso_milliseconds, render_response

from .samples import MODEL

# One character in four is one that XML must escape.
TEXTS = st.text(st.one_of(st.characters(), st.characters(), st.characters(), st.sampled_from('&<>"\r\n\t\x00\ud800\uffff ]')))
CHECKSUMS = st.tuples(st.sampled_from(["CRC32", "CRC64NVME", "SHA256"]), st.sampled_from(["FULL_OBJECT", "COMPOSITE"]))
OWNERS = st.fixed_dictionaries({"ID": TEXTS, "DisplayName": TEXTS | st.none()})


@pytest.mark.parametrize("operation", ["ListObjects", "ListObjectsV2"])
@given(
    key=TEXTS,
    etag=TEXTS,
    size=st.integers(0, 2**63),
    modified_ms=st.integers(0, 2**42),
    storage_class=TEXTS,
    checksum=CHECKSUMS | st.none(),
    owner=OWNERS | st.none(),
)
def test_an_entry_is_written_as_the_model_writes_it(
    operation: str,
    key: str,
    etag: str,
    size: int,
    modified_ms: int,
    storage_class: str,
    checksum: tuple[str, str] | None,
    owner: dict[str, object] | None,
) -> None:
    modelled = {
        "Key": key,
        "LastModified": iso_milliseconds(modified_ms),
        "ETag": f'"{etag}"',
        "Size": size,
        "StorageClass": storage_class,
        "ChecksumAlgorithm": None if checksum is None else [checksum[0]],
        "ChecksumType": None if checksum is None else checksum[1],
        "Owner": owner,
    }
    written = contents(key, etag=etag, size=size, modified_ms=modified_ms, storage_class=storage_class, checksum=checksum, owner=owner)

    def document(*entries: object) -> bytes:
        return render_response(MODEL.operations[operation], {"Name": "b", "Contents": entries}).body

    assert document(written, modelled) == document(modelled, written) == document(modelled, modelled)


@given(key=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_key_is_encoded_alike_whether_it_needs_it_or_not(key: str) -> None:
    assert url_encode_key(key + "%").removesuffix("%25") == url_encode_key(key)
