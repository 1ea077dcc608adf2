"""Entries of listings of all versions that are written without the model: the same bytes as with it."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.contents import OwnerOf
from proxy.s3.histories import RUN, histories
from proxy.s3.naming import url_encode_key
from proxy.s3.rendering import iso_milliseconds, render_response

from .samples import MODEL
from .test_contents import ALGORITHMS, OWNERS, STORED, Acl, Attributes, Checksum


class Version(NamedTuple):
    """A version of a listing."""

    key: str
    id: str
    is_latest: bool
    is_delete_marker: bool
    etag: str
    size: int
    modified_ms: int
    attributes: Attributes
    checksum: Checksum | None


VERSIONS = st.builds(
    Version,
    key=STORED | st.text("abc/_-%~", max_size=20),
    id=st.text("0123456789abcdef", max_size=32) | STORED,
    is_latest=st.booleans(),
    is_delete_marker=st.booleans(),
    etag=STORED | st.text("0123456789abcdef-", max_size=20),
    size=st.integers(0, 2**63),
    modified_ms=st.integers(0, 2**42),
    attributes=st.builds(Attributes, STORED | st.just("STANDARD"), st.builds(Acl, STORED) | st.none()),
    checksum=st.builds(Checksum, ALGORITHMS, st.sampled_from(["FULL_OBJECT", "COMPOSITE"])) | st.none(),
)


def modelled(version: Version, owner_of: OwnerOf, *, url_encoded: bool) -> dict[str, object]:
    """Return a version as the model takes it."""
    acl, checksum = version.attributes.acl, version.checksum
    place = {
        "Key": url_encode_key(version.key) if url_encoded else version.key,
        "VersionId": version.id,
        "IsLatest": version.is_latest,
        "LastModified": iso_milliseconds(version.modified_ms),
        "Owner": owner_of(None if acl is None else acl.owner),
    }
    if version.is_delete_marker:
        return place
    return place | {
        "ETag": f'"{version.etag}"',
        "Size": version.size,
        "StorageClass": version.attributes.storage_class,
        "ChecksumAlgorithm": None if checksum is None else [checksum.algorithm],
        "ChecksumType": None if checksum is None else checksum.type,
    }


def document(name: str, items: object) -> bytes:
    return render_response(MODEL.operations["ListObjectVersions"], {"Name": "b", name: items}).body


@given(versions=st.lists(VERSIONS), owner=OWNERS, url_encoded=st.booleans())
def test_versions_are_written_as_the_model_writes_them(versions: list[Version], owner: dict[str, object], url_encoded: bool) -> None:
    def owner_of(named: str | None) -> dict[str, object]:
        return owner if named is None else {"ID": named, "DisplayName": None}

    for name, is_marker in (("Versions", False), ("DeleteMarkers", True)):
        these = [version for version in versions if version.is_delete_marker is is_marker]
        written = histories(these, url_encoded=url_encoded, owner_of=owner_of)
        assert document(name, written) == document(name, [modelled(each, owner_of, url_encoded=url_encoded) for each in these])


def test_versions_and_markers_are_written_in_one_order_a_run_at_a_time() -> None:
    count = 2 * RUN + 1
    versions = [Version("k", f"v{number}", number == 0, number % 3 == 0, "e", 0, 0, Attributes(), None) for number in range(count)]
    runs = [run.text for run in histories(versions, url_encoded=False, owner_of=lambda _: {"ID": "o", "DisplayName": None})]
    assert len(runs) == 3
    text = b"".join(runs).decode()
    assert [text.index(f"<VersionId>v{number}</VersionId>") for number in range(count)] == sorted(
        text.index(f"<VersionId>v{number}</VersionId>") for number in range(count)
    )
    assert text.count("<DeleteMarker>") == len(range(0, count, 3))
