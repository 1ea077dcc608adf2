"""Inventories are made by schedule, whole, and go on where they were broken off."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pyarrow import parquet

from proxy.engine.outgoing import inventory as module
from proxy.engine.outgoing import parquet as parquet_module
from proxy.engine.writing.whole_body import WholeBody
from proxy.manifest.records import Bucket, BucketName, ObjectAttributes, ObjectKey
from proxy.s3.policy.acl import ALL_USERS, Acl, Grant
from tests.laboratory import Laboratory, laboratory
from tests.listed import listed
from tests.unit.s3.test_inventory import destination, document

DAY = 24 * 3600
FOLDER = "bucket/id"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        made = Bucket(name=BucketName("lists"), tenant_id=running.tenant.id, policy="standard", created_ms=running.clock.now_ms())
        await running.services.engine.create_bucket(made)
        yield running


async def configure(lab: Laboratory, **change: object) -> None:
    kept = {"id": document(**{"Destination": destination(), **change})}
    await lab.services.engine.put_bucket_setting(lab.bucket, "inventory", json.dumps(kept))


async def run(lab: Laboratory) -> int:
    """Let the worker go on until it has nothing to do; return how many steps it took."""
    steps = 0
    while not (await lab.worker("inventories").step()).idle:
        steps += 1
    return steps


async def files_of(lab: Laboratory) -> dict[str, bytes]:
    """Return the files in the bucket of lists."""
    bucket = await lab.services.manifest.find_bucket(BucketName("lists"))
    assert bucket is not None
    page = await lab.services.manifest.list_objects(bucket.id, prefix="", delimiter="", after="", limit=1000)
    files = {}
    for entry in listed(page):
        version = await lab.services.manifest.find_version(bucket.id, ObjectKey(entry.key))
        assert version is not None
        pieces = await lab.services.engine.open_read(version, lab.tenant, 0, version.size)
        files[entry.key] = b"".join([bytes(piece) async for piece in pieces])
    return files


async def rows(lab: Laboratory) -> list[list[str]]:
    """Return the rows of the last list, by way of its manifest."""
    files = await files_of(lab)
    last = max(key for key in files if key.endswith("manifest.json"))
    assert files[last.replace(".json", ".checksum")].decode() == hashlib.md5(files[last]).hexdigest()
    found: list[list[str]] = []
    for file in json.loads(files[last])["files"]:
        data = files[file["key"]]
        assert (len(data), hashlib.md5(data).hexdigest()) == (file["size"], file["MD5checksum"])
        found += csv.reader(io.StringIO(gzip.decompress(data).decode()))
    return found


async def test_hive_finds_a_list_by_its_hour(lab: Laboratory) -> None:
    await lab.put("a", b"1")
    await configure(lab)
    await run(lab)
    files = await files_of(lab)
    (links,) = (key for key in files if key.endswith("symlink.txt"))
    assert re.search(r"/hive/dt=\d{4}-\d\d-\d\d-\d\d-00/symlink\.txt$", links)
    assert files[links].decode().splitlines() == [f"s3://lists/{key}" for key in sorted(files) if key.endswith(".csv.gz")]


async def test_a_list_tells_of_every_version_once_a_day(lab: Laboratory) -> None:
    await lab.services.engine.set_versioning(lab.bucket, "Enabled")
    bucket = await lab.services.manifest.find_bucket(BucketName("bucket"))
    assert bucket is not None
    lab.bucket = bucket
    first, second = await lab.put("a", b"1"), await lab.put("a", b"22")
    marker = await lab.services.engine.delete_latest(bucket, ObjectKey("b"))
    assert marker is not None
    await configure(lab)
    assert await run(lab) == 1
    assert await rows(lab) == [
        ["bucket", "a", second.id, "true", "false", "2", second.etag],
        ["bucket", "a", first.id, "false", "false", "1", first.etag],
        ["bucket", "b", marker.id, "true", "true", "", ""],
    ]
    assert await run(lab) == 0, "once a day"
    lab.clock.advance(DAY)
    await lab.put("c", b"333")
    assert await run(lab) == 1
    assert len(await rows(lab)) == 4


async def test_a_list_under_a_clock_that_was_years_ahead_is_not_the_last_for_years(lab: Laboratory) -> None:
    await configure(lab)
    lab.clock.set_by(10 * 365 * DAY)
    assert await run(lab) == 1
    lab.clock.set_by(-10 * 365 * DAY)
    assert await run(lab) == 1
    assert await run(lab) == 0
    lab.clock.advance(DAY)
    assert await run(lab) == 1


async def test_current_versions_under_a_prefix_alone(lab: Laboratory) -> None:
    for key in ("a/1", "b/1", "b/2", "c/1"):
        await lab.put(key, b"x")
    await configure(lab, IncludedObjectVersions="Current", Filter={"Prefix": "b/"}, OptionalFields=[])
    await run(lab)
    assert await rows(lab) == [["bucket", "b/1"], ["bucket", "b/2"]]


async def test_an_empty_bucket_has_an_empty_list(lab: Laboratory) -> None:
    await configure(lab)
    await run(lab)
    assert await rows(lab) == []


async def test_a_list_that_is_broken_off_goes_on_where_it_was(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_ROWS", 2)
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    for n in range(5):
        await lab.put(f"k{n}", b"x")
    await configure(lab, IncludedObjectVersions="Current", OptionalFields=[])
    worker = lab.worker("inventories")
    await worker.step()
    fresh = module.InventoryMaker(lab.services.manifest, lab.services.engine, lab.clock, lab.services.parts.threads)
    await fresh.step()
    assert not any(key.endswith("manifest.json") for key in await files_of(lab))
    await fresh.step()
    assert [key for _, key in await rows(lab)] == [f"k{n}" for n in range(5)]


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
async def test_a_file_that_is_large_enough_is_followed_by_another(lab: Laboratory, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 1)
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    monkeypatch.setattr(parquet_module, "GROUP_ROWS", 1)
    for n in range(5):
        await lab.put(f"k{n}", b"x")
    await configure(lab, IncludedObjectVersions="Current", OptionalFields=[], Destination=destination(Format=form))
    assert await run(lab) == 3
    files = await files_of(lab)
    made = json.loads(files[max(key for key in files if key.endswith("manifest.json"))])["files"]
    assert len(made) == 3
    if form == "Parquet":
        assert [key for file in made for key in parquet.read_table(io.BytesIO(files[file["key"]]))["key"].to_pylist()] == [
            f"k{n}" for n in range(5)
        ]


async def test_a_list_tells_the_acl_that_holds(lab: Laboratory) -> None:
    owner, writer = lab.tenant.canonical_id, "f" * 64
    await lab.put("plain", b"x")
    acl = Acl(owner=writer, grants=(Grant(writer, "FULL_CONTROL"), Grant(ALL_USERS, "READ")))
    await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("public"), WholeBody(b"x"), ObjectAttributes(acl=acl))
    await configure(lab, IncludedObjectVersions="Current", OptionalFields=["ObjectAccessControlList", "ObjectOwner"])
    await run(lab)
    own = [{"canonicalId": owner, "type": "CanonicalUser", "permission": "FULL_CONTROL"}]
    assert [told(row) for row in await rows(lab)] == [("plain", own, owner), ("public", own, owner)]
    await lab.services.engine.put_bucket_setting(lab.bucket, "ownership", "ObjectWriter")
    lab.clock.advance(DAY)
    await run(lab)
    theirs = [
        {"canonicalId": writer, "type": "CanonicalUser", "permission": "FULL_CONTROL"},
        {"uri": ALL_USERS, "type": "Group", "permission": "READ"},
    ]
    assert [told(row) for row in await rows(lab)] == [("plain", own, owner), ("public", theirs, writer)]


def told(row: list[str]) -> tuple[str, list[dict[str, str]], str]:
    _, key, column, owner = row
    acl = json.loads(base64.b64decode(column))
    assert (acl["version"], acl["status"]) == ("2022-11-10", "AVAILABLE")
    return key, acl["grants"], owner


async def test_a_list_that_cannot_be_stored_is_told_and_others_are_made(lab: Laboratory) -> None:
    await lab.put("k", b"x")
    kept = {
        "gone": document(Id="gone", Destination=destination(Bucket="arn:aws:s3:::nowhere")),
        "id": document(Destination=destination()),
    }
    await lab.services.engine.put_bucket_setting(lab.bucket, "inventory", json.dumps(kept))
    progress = await lab.worker("inventories").step()
    assert "bucket nowhere" in progress.trouble
    assert len(await rows(lab)) == 1


async def test_a_disabled_configuration_makes_nothing(lab: Laboratory) -> None:
    await configure(lab, IsEnabled=False)
    assert await run(lab) == 0


async def test_parquet_has_the_types_of_its_columns(lab: Laboratory, tmp_path: Path) -> None:
    version = await lab.put("k", b"12345")
    await configure(lab, Destination=destination(Format="Parquet"), OptionalFields=["Size", "LastModifiedDate", "ETag"])
    await run(lab)
    ((_, data),) = [(key, data) for key, data in (await files_of(lab)).items() if key.endswith(".parquet")]
    (row,) = parquet.read_table(io.BytesIO(data)).to_pylist()
    assert (row["bucket"], row["key"], row["size"], row["e_tag"], row["is_latest"]) == ("bucket", "k", 5, version.etag, True)
    assert row["last_modified_date"].timestamp() * 1000 == version.modified_ms
