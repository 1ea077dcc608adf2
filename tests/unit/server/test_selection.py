"""Which bytes a GET means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.manifest.records import Checksum, ObjectKey, PartSummary, Version, VersionId
from proxy.s3.errors import S3Error
from proxy.server.call import Call
from proxy.server.handlers.selection import Selection, select

PARTS = (PartSummary(number=2, size=10), PartSummary(number=5, size=20), PartSummary(number=7, size=0))


def chosen(
    *,
    number: int | None = None,
    header: str | None = None,
    size: int = 30,
    parts: tuple[PartSummary, ...] = PARTS,
    checksum: Checksum | None = None,
    if_range: str | None = None,
) -> Selection:
    version = Version(
        key=ObjectKey("k"),
        id=VersionId("null"),
        sequence=1,
        is_latest=True,
        size=size,
        etag="e",
        modified_ms=0,
        parts_count=len(parts),
        checksum=checksum,
    )
    headers = {name: value for name, value in (("range", header), ("if-range", if_range)) if value is not None}
    call = SimpleNamespace(headers=headers, integer=lambda name: number)
    return select(cast(Call, call), version, parts)


def test_a_part_is_found_by_its_own_number() -> None:
    selection = chosen(number=5)
    assert (selection.start, selection.length, selection.status) == (10, 20, 206)
    assert (selection.content_range, selection.parts_count) == ("bytes 10-29/30", 3)


def test_an_object_put_whole_is_its_own_part_one() -> None:
    selection = chosen(number=1, parts=())
    assert (selection.start, selection.length, selection.parts_count) == (0, 30, None)


@pytest.mark.parametrize(("number", "code"), [(1, "InvalidPartNumber"), (0, "InvalidArgument"), (10_001, "InvalidArgument")])
def test_a_part_that_is_not_there_is_refused(number: int, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        chosen(number=number)
    assert caught.value.code == code


def test_range_and_part_exclude_each_other() -> None:
    with pytest.raises(S3Error, match="InvalidRequest"):
        chosen(number=2, header="bytes=0-1")


def test_a_part_is_told_with_the_type_of_its_object() -> None:
    own = Checksum(algorithm="SHA256", type="FULL_OBJECT", value="part")
    whole = Checksum(algorithm="SHA256", type="COMPOSITE", value="whole-1")
    selection = chosen(number=1, parts=(PartSummary(number=1, size=30, checksum=own),), checksum=whole)
    assert selection.checksum == Checksum(algorithm="SHA256", type="COMPOSITE", value="part")


def test_a_range_has_no_checksum_of_its_own() -> None:
    whole = Checksum(algorithm="CRC32", type="FULL_OBJECT", value="whole")
    assert chosen(checksum=whole).checksum == whole
    selection = chosen(header="bytes=-5", checksum=whole)
    assert (selection.start, selection.length, selection.status, selection.checksum) == (25, 5, 206, None)


@pytest.mark.parametrize(("if_range", "status"), [('"e"', 206), ("e", 206), ('"other"', 200), ('W/"e"', 200)])
def test_a_range_of_what_the_client_has_no_part_of_is_the_whole(if_range: str, status: int) -> None:
    selection = chosen(header="bytes=-5", if_range=if_range)
    assert (selection.status, selection.length) == (status, 5 if status == 206 else 30)


def test_the_whole_object_is_200() -> None:
    assert chosen().status == 200


def test_a_part_of_a_full_object_has_no_checksum_of_its_own() -> None:
    own = Checksum(algorithm="CRC32", type="FULL_OBJECT", value="part")
    whole = Checksum(algorithm="CRC32", type="FULL_OBJECT", value="whole")
    assert chosen(number=1, parts=(PartSummary(number=1, size=30, checksum=own),), checksum=whole).checksum is None
    assert chosen(number=1, parts=(), checksum=whole).checksum == whole
