"""After the manifest is deleted, everything acknowledged is there again: from the journal, and from labels behind its end."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.config import JournalConfig
from proxy.engine.recover.report import Report
from proxy.errors import RecoveryRefused
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import BucketName, ObjectAttributes, ObjectKey
from proxy.recovering import recover
from tests.laboratory import BytesBody, Laboratory, laboratory, laboratory_config

JOURNAL = JournalConfig(interval_ms=3_600_000)
ALL = replace(JOURNAL, acknowledge="all")


def silence(phase: str, done: int, total: int | None) -> None:
    """Nobody watches."""


def lose_manifest(data: Path, to: Path, *, gone: tuple[str, ...] = ()) -> Path:
    """Copy the stores and the root key, and nothing else, as they are at this instant."""
    shutil.copytree(data / "stores", to / "stores")
    shutil.copy(data / "root.key", to / "root.key")
    for store in gone:
        shutil.rmtree(to / "stores" / store)
    return to


async def recover_in(data: Path, *, identity: str = "", resume: bool = False) -> Report:
    return await recover(laboratory_config(data, journal=JOURNAL), silence, identity=identity, resume=resume)


@asynccontextmanager
async def recovered(lab_data: Path, *, gone: tuple[str, ...] = ()) -> AsyncIterator[tuple[Laboratory, Report]]:
    """A laboratory on what a recovery made of the stores of another."""
    data = lose_manifest(lab_data, lab_data.parent / "new", gone=gone)
    report = await recover_in(data)
    async with laboratory(data, journal=JOURNAL) as lab:
        yield lab, report


async def test_everything_acknowledged_is_there_again(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=ALL) as lab:
        engine = lab.services.engine
        await lab.put("journaled", b"j" * 1000)
        await lab.put("deleted", b"d")
        await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("deleted"), marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
        upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("multipart"), ObjectAttributes())
        part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part" * 1000))
        await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
        pending = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("pending"), ObjectAttributes(headers={"ContentType": "a/b"}))
        source = await engine.find_version(lab.bucket, ObjectKey("journaled"))
        assert source is not None
        await engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), ObjectAttributes())
        await engine.set_tags(lab.bucket, ObjectKey("copy"), source.id, {"a": "b"})
        await engine.put_bucket_setting(lab.bucket, "tagging", "{}")
        await lab.put("empty", b"")
        # Behind the end of the journal:
        await engine.upload_part(lab.bucket, lab.tenant, pending, 2, BytesBody(b"pending"))
        await lab.put("labelled", b"l" * 100_000)
        await lab.put("journaled", b"overwritten")
        async with recovered(tmp_path / "old") as (new, report):
            assert await new.get("journaled") == b"overwritten"
            assert await new.get("copy") == b"j" * 1000
            assert await new.get("multipart") == b"part" * 1000
            assert await new.get("labelled") == b"l" * 100_000
            assert await new.get("empty") == b""
            manifest = new.services.manifest
            assert await manifest.find_version(new.bucket.id, ObjectKey("deleted")) is None
            copy = await manifest.find_version(new.bucket.id, ObjectKey("copy"))
            assert copy is not None
            assert copy.attributes.tags == {"a": "b"}
            assert new.bucket == await lab.services.manifest.find_bucket(BucketName("bucket"))
            assert await manifest.list_tenants() == await lab.services.manifest.list_tenants()
            assert await manifest.list_access_keys(new.tenant.id) == await lab.services.manifest.list_access_keys(lab.tenant.id)
            again = await manifest.find_upload(new.bucket.id, ObjectKey("pending"), pending.id)
            assert again == pending
            assert [part.number for part in await manifest.list_parts(pending.id)] == [2]
            assert (report.versions_from_labels, report.parts_from_labels, report.findings) == (2, 1, ())
            assert report.unproved == ()
            await new.put("after", b"it goes on")
            await new.collect()
            assert await new.get("copy") == b"j" * 1000
            assert await new.get("labelled") == b"l" * 100_000


async def test_a_manifest_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=JOURNAL):
        pass
    with pytest.raises(RecoveryRefused, match=r"this manifest is not empty.*recover --resume"):
        await recover_in(tmp_path)
