"""What a completed multipart object is, and which completions are refused."""

from __future__ import annotations

import hashlib

import pytest

from proxy.engine.verbs.assembly import MAX_OBJECT_SIZE, MIN_PART_SIZE, Assembled, PartClaim, assemble
from proxy.errors import ChecksumMismatch, ObjectTooLarge, PartInvalid, PartsOutOfOrder, PartTooSmall, ProxyError, SizeMismatch
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import BucketId, Checksum, ObjectKey, Part, TenantId, Upload, UploadId
from proxy.s3.checksums import ChecksumAlgorithm, ChecksumType, encode, new_hasher

DATA = {1: b"a" * MIN_PART_SIZE, 3: b"b" * (MIN_PART_SIZE + 1), 7: b"c"}
NUMBERS = tuple(DATA)


def digest(data: bytes, algorithm: ChecksumAlgorithm = "CRC32") -> str:
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return encode(hasher.digest())


PARTS = {
    number: Part(
        number=number,
        size=len(data),
        etag=hashlib.md5(data).hexdigest(),
        modified_ms=0,
        checksum=Checksum(algorithm="CRC32", type="FULL_OBJECT", value=digest(data)),
    )
    for number, data in DATA.items()
}


def listed(*numbers: int) -> list[CompletedPart]:
    return [CompletedPart(number=number, etag=PARTS[number].etag) for number in numbers]


def complete(
    parts: list[CompletedPart],
    *,
    uploaded: dict[int, Part] = PARTS,
    kind: ChecksumType = "FULL_OBJECT",
    claimed: dict[int, str] | None = None,
    checksum: str | None = None,
    size: int | None = None,
) -> Assembled:
    upload = Upload(
        id=UploadId("u"),
        bucket_id=BucketId(1),
        key=ObjectKey("k"),
        tenant_id=TenantId("t"),
        initiated_ms=0,
        checksum_algorithm="CRC32",
        checksum_type=kind,
    )
    return assemble(
        upload,
        list(uploaded.values()),
        parts,
        part_claims={number: PartClaim("CRC32", value) for number, value in (claimed or {}).items()},
        claimed_checksum=checksum,
        claimed_size=size,
    )


def test_an_object_is_its_parts_one_after_the_other() -> None:
    whole = b"".join(DATA.values())
    made = complete(listed(*NUMBERS), checksum=digest(whole), size=len(whole))
    etags = b"".join(hashlib.md5(data).digest() for data in DATA.values())
    assert (made.size, made.etag) == (len(whole), f"{hashlib.md5(etags).hexdigest()}-3")
    assert made.checksum == Checksum(algorithm="CRC32", type="FULL_OBJECT", value=digest(whole))
    assert [part.number for part in made.parts] == [1, 3, 7]


def test_a_composite_checksum_is_that_of_the_parts_and_may_be_claimed_without_their_number() -> None:
    made = complete(listed(*NUMBERS), kind="COMPOSITE")
    assert made.checksum is not None
    assert made.checksum.value.endswith("-3")
    for claim in (made.checksum.value, made.checksum.value.removesuffix("-3")):
        assert complete(listed(*NUMBERS), kind="COMPOSITE", checksum=claim) == made


def test_the_last_part_may_be_small_and_no_other() -> None:
    assert complete(listed(7)).size == 1
    with pytest.raises(PartTooSmall):
        complete(
            [*listed(7), CompletedPart(number=8, etag="e" * 32)],
            uploaded={**PARTS, 8: Part(number=8, size=MIN_PART_SIZE, etag="e" * 32, modified_ms=0)},
        )


@pytest.mark.parametrize("numbers", [(3, 1), (1, 1), (1, 3, 3)])
def test_parts_are_listed_in_ascending_order_and_each_once(numbers: tuple[int, ...]) -> None:
    with pytest.raises(PartsOutOfOrder):
        complete(listed(*numbers))


@pytest.mark.parametrize(
    ("part", "claims"),
    [
        (CompletedPart(number=2, etag=PARTS[1].etag), {}),
        (CompletedPart(number=1, etag=PARTS[3].etag), {}),
        (CompletedPart(number=1, etag=PARTS[1].etag), {1: digest(b"other")}),
    ],
)
def test_a_part_that_was_not_uploaded_so_is_refused(part: CompletedPart, claims: dict[int, str]) -> None:
    with pytest.raises(PartInvalid):
        complete([part], claimed=claims)


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"size": 2}, SizeMismatch),
        ({"size": 0}, SizeMismatch),
        ({"checksum": digest(b"other")}, ChecksumMismatch),
    ],
)
def test_what_is_claimed_of_the_object_is_compared(claims: dict[str, int | str], error: type[ProxyError]) -> None:
    with pytest.raises(error):
        complete(listed(7), **claims)  # type: ignore[arg-type]


def test_a_checksum_that_cannot_be_computed_cannot_be_claimed() -> None:
    unknown = {1: Part(number=1, size=1, etag="e" * 32, modified_ms=0)}
    assert complete([CompletedPart(number=1, etag="e" * 32)], uploaded=unknown).checksum is None
    with pytest.raises(ChecksumMismatch):
        complete([CompletedPart(number=1, etag="e" * 32)], uploaded=unknown, checksum=digest(b"x"))


def test_an_object_has_a_largest_size() -> None:
    huge = {number: Part(number=number, size=MAX_OBJECT_SIZE // 2, etag="e" * 32, modified_ms=0) for number in (1, 2)}
    parts = [CompletedPart(number=number, etag="e" * 32) for number in huge]
    assert complete(parts, uploaded=huge).size == MAX_OBJECT_SIZE
    huge[3] = Part(number=3, size=1, etag="e" * 32, modified_ms=0)
    with pytest.raises(ObjectTooLarge):
        complete([*parts, CompletedPart(number=3, etag="e" * 32)], uploaded=huge)
