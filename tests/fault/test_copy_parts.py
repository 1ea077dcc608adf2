"""A part that is a copy shares what is stored of its source where that is whole and described; elsewhere its bytes are stored anew."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.customer import CustomerKey
from proxy.codec.geometry import Scheme
from proxy.engine.verbs.base import NO_KEYS, CustomerKeys
from proxy.engine.writing.body import Digests
from proxy.errors import ExtentMissing, PolicyMoved
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import Checksum, Encryption, ObjectAttributes, ObjectKey, Part, Upload, Version
from proxy.s3.checksums import ChecksumAlgorithm, encode, new_hasher
from tests.fault.campaigns.operating import applied, carried_out, planner
from tests.fault.campaigns.test_policy import wide_too
from tests.laboratory import BytesBody, Laboratory, laboratory

MIB = 1 << 20
BODIES = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(1000)]
WHOLE = b"".join(BODIES)
KEY, OTHER = CustomerKey(bytes(32)), CustomerKey(b"k" * 32)
PLAIN = ObjectAttributes()
UNDER_KEY = ObjectAttributes(encryption=Encryption(customer_check=KEY.check_value(bytes(24))))
UNDER_OTHER = ObjectAttributes(encryption=Encryption(customer_check=OTHER.check_value(bytes(24))))


def checksum_of(data: bytes, algorithm: ChecksumAlgorithm = "CRC64NVME") -> Checksum:
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return Checksum(algorithm=algorithm, type="FULL_OBJECT", value=encode(hasher.digest()))


class CheckedBody(BytesBody):
    """A body with a checksum, as every client's has."""

    def __init__(self, data: bytes, algorithm: ChecksumAlgorithm = "CRC64NVME") -> None:
        super().__init__(data)
        self._checksum = checksum_of(data, algorithm)

    def finish(self) -> Digests:
        return Digests(md5=super().finish().md5, checksum=self._checksum)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, adjust=wide_too) as running:
        yield running


async def put(lab: Laboratory, data: bytes, attributes: ObjectAttributes = PLAIN, key: CustomerKey | None = None) -> Version:
    engine = lab.services.engine
    version = await engine.put_object(lab.bucket, lab.tenant, ObjectKey("source"), CheckedBody(data), attributes, customer_key=key)
    await lab.settled()
    return version


async def begin(lab: Laboratory, attributes: ObjectAttributes = PLAIN, algorithm: ChecksumAlgorithm | None = None) -> Upload:
    kind = None if algorithm is None else "FULL_OBJECT"
    return await lab.services.engine.begin_upload(
        lab.bucket,
        lab.tenant,
        ObjectKey("copy"),
        attributes,
        checksum_algorithm=algorithm,
        checksum_type=kind,  # type: ignore[arg-type]
    )


async def multipart(lab: Laboratory) -> Version:
    engine, bucket, tenant = lab.services.engine, lab.bucket, lab.tenant
    upload = await engine.begin_upload(bucket, tenant, ObjectKey("source"), PLAIN)
    parts = [await engine.upload_part(bucket, tenant, upload, number, CheckedBody(body)) for number, body in enumerate(BODIES, 1)]
    await lab.settled()
    return await complete(lab, upload, parts)


async def copy(
    lab: Laboratory, source: Version, upload: Upload, number: int, start: int, length: int, keys: CustomerKeys = NO_KEYS
) -> Part:
    engine = lab.services.engine
    return await engine.copy_part(source, lab.bucket, lab.tenant, start, length, lab.bucket, lab.tenant, upload, number, customer_keys=keys)


async def complete(lab: Laboratory, upload: Upload, parts: list[Part]) -> Version:
    described = replace(upload, checksum_algorithm=upload.checksum_algorithm or "CRC64NVME", checksum_type="FULL_OBJECT")
    listed = [CompletedPart(number=part.number, etag=part.etag) for part in parts]
    return await lab.services.engine.complete_upload(lab.bucket, described, listed)


async def test_the_whole_of_an_object_is_shared(lab: Laboratory) -> None:
    source = await put(lab, BODIES[0])
    before, upload = await lab.shards(), await begin(lab)
    part = await copy(lab, source, upload, 1, 0, source.size)
    assert (part.extents, part.etag, part.checksum) == (source.extents, hashlib.md5(BODIES[0]).hexdigest(), checksum_of(BODIES[0]))
    done = await complete(lab, upload, [part])
    assert await lab.shards() == before
    assert done.checksum == checksum_of(BODIES[0])
    await lab.services.engine.delete_latest(lab.bucket, ObjectKey("source"))
    await lab.collect()
    assert await lab.get("copy") == BODIES[0]
    await lab.services.engine.delete_latest(lab.bucket, ObjectKey("copy"))
    await lab.collect()
    assert not await lab.shards()


async def test_the_parts_of_an_object_are_shared_one_by_one(lab: Laboratory) -> None:
    source = await multipart(lab)
    before, upload, start, parts = await lab.shards(), await begin(lab), 0, []
    for number, body in enumerate(BODIES, 1):
        parts.append(await copy(lab, source, upload, number, start, len(body)))
        start += len(body)
    done = await complete(lab, upload, parts)
    assert await lab.shards() == before
    assert (done.extents, done.etag, done.checksum) == (source.extents, source.etag, checksum_of(WHOLE))
    again = await begin(lab)
    part = await copy(lab, done, again, 7, 5 * MIB, 5 * MIB)  # of a copy, too
    assert part.extents == source.extents[1:2]
    assert await lab.get("copy") == WHOLE


@pytest.mark.parametrize(
    ("start", "length"), [(0, 5 * MIB - 1), (1, 5 * MIB - 1), (0, 5 * MIB + 1), (0, 10 * MIB), (5 * MIB - 1, 2), (0, len(WHOLE))]
)
async def test_any_other_range_is_stored_anew(lab: Laboratory, start: int, length: int) -> None:
    source, upload = await multipart(lab), await begin(lab)
    part = await copy(lab, source, upload, 1, start, length)
    wanted = WHOLE[start : start + length]
    assert not {*part.extents} & {*source.extents}
    assert (part.etag, part.checksum) == (hashlib.md5(wanted).hexdigest(), checksum_of(wanted))
    await complete(lab, upload, [part])
    assert await lab.get("copy") == wanted


async def test_a_part_has_the_checksum_that_its_upload_asks_for(lab: Laboratory) -> None:
    engine = lab.services.engine
    source = await put(lab, BODIES[0])
    part = await copy(lab, source, await begin(lab, algorithm="CRC32"), 1, 0, source.size)
    assert (part.checksum, part.extents != source.extents) == (checksum_of(BODIES[0], "CRC32"), True)
    crc32 = await engine.put_object(lab.bucket, lab.tenant, ObjectKey("source"), CheckedBody(BODIES[0], "CRC32"), PLAIN)
    for upload in (await begin(lab, algorithm="CRC32"), await begin(lab)):
        part = await copy(lab, crc32, upload, 1, 0, crc32.size)
        assert (part.extents, part.checksum) == (crc32.extents, checksum_of(BODIES[0], "CRC32"))
        assert (await complete(lab, upload, [part])).checksum == checksum_of(BODIES[0], "CRC32")
    sha = await engine.put_object(lab.bucket, lab.tenant, ObjectKey("source"), CheckedBody(BODIES[0], "SHA256"), PLAIN)
    part = await copy(lab, sha, await begin(lab), 1, 0, sha.size)
    assert part.checksum == checksum_of(BODIES[0]), "one of SHA256 could not be combined"


async def test_parts_of_two_algorithms_make_an_object_without_a_checksum(lab: Laboratory) -> None:
    engine, upload = lab.services.engine, await begin(lab)
    source = await engine.put_object(lab.bucket, lab.tenant, ObjectKey("source"), CheckedBody(BODIES[0], "CRC32"), PLAIN)
    shared = await copy(lab, source, upload, 1, 0, source.size)
    sent = await engine.upload_part(lab.bucket, lab.tenant, upload, 2, CheckedBody(b"more"))
    assert (await complete(lab, upload, [shared, sent])).checksum is None
    assert await lab.get("copy") == BODIES[0] + b"more"


async def test_what_does_not_keep_todays_promises_is_stored_anew(lab: Laboratory) -> None:
    source, upload = await put(lab, BODIES[0]), await begin(lab)
    today = dataclasses.replace(lab.services.policies["standard"], scheme=Scheme(3, 3), storage_classes={})
    lab.services.engine._policies = {"standard": today}
    part = await copy(lab, source, upload, 1, 0, source.size)
    assert part.extents != source.extents


async def test_a_policy_that_moves_meanwhile_is_noticed(lab: Laboratory) -> None:
    source, upload = await put(lab, BODIES[0]), await begin(lab)
    campaign = await applied(lab, await planner(lab).move_policy("bucket", "wide"))
    manifest = lab.services.manifest
    with pytest.raises(PolicyMoved):
        await manifest.commit_part(upload.id, Part(number=1, size=1, etag="", modified_ms=0), shared_extents=[source.extents[0]])
    part = await copy(lab, source, upload, 1, 0, source.size)  # as a request does that found the bucket before
    assert part.extents != source.extents
    await carried_out(lab, campaign)
    lab.bucket = replace(lab.bucket, policy="wide")
    await complete(lab, upload, [part])
    assert await lab.get("copy") == BODIES[0]


async def test_a_source_that_goes_meanwhile_is_looked_up_again(lab: Laboratory) -> None:
    source, upload = await put(lab, BODIES[0]), await begin(lab)
    await lab.services.engine.delete_latest(lab.bucket, ObjectKey("source"))
    with pytest.raises(ExtentMissing):
        await copy(lab, source, upload, 1, 0, source.size)


async def test_only_under_the_same_customers_key_is_it_shared(lab: Laboratory) -> None:
    source = await put(lab, BODIES[0], UNDER_KEY, KEY)
    same = await copy(lab, source, await begin(lab, UNDER_KEY), 1, 0, source.size, CustomerKeys(KEY, KEY))
    assert (same.extents, same.etag) == (source.extents, source.etag)
    other = await copy(lab, source, await begin(lab, UNDER_OTHER), 1, 0, source.size, CustomerKeys(KEY, OTHER))
    plain = await copy(lab, source, await begin(lab), 1, 0, source.size, CustomerKeys(KEY, None))
    assert not {*other.extents, *plain.extents} & {*source.extents}
    assert plain.etag == hashlib.md5(BODIES[0]).hexdigest()
