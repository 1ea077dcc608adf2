"""A plain DELETE of a known shape waits for its commit alone, and is answered to the byte as the general way would answer it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.config import JournalConfig
from proxy.engine.journal.flush import Flusher
from proxy.errors import JournalBusy, ManifestUnavailable
from proxy.manifest.records import ObjectKey
from proxy.manifest.sqlite.adapter import SqliteManifest
from tests.doors import Sent, endpoint_of
from tests.laboratory import laboratory
from tests.unit.server.test_plain_puts import Site as PlainSite

MARKER = b"x-amz-delete-marker: true"


class Site(PlainSite):
    """A server, by whose front door objects are deleted."""

    async def is_there(self, key: str) -> bool:
        found = await self.lab.services.manifest.find_version(self.lab.bucket.id, ObjectKey(key))
        return found is not None and not found.is_delete_marker


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    async with laboratory(tmp_path, packs=True) as lab:
        endpoint = await endpoint_of(lab, front_door=True)
        for key in ("a", "b", "c", "d"):
            await lab.put(key, b"hello")
        yield Site(lab, endpoint, monkeypatch)
        await endpoint.shutdown(1)


def delete(key: str, *headers: tuple[str, bytes], signed: str = "header", query: tuple[tuple[str, str], ...] = ()) -> Sent:
    return Sent("DELETE", f"/bucket/{key}", headers=headers, signed=signed, query=query)


async def learn(site: Site, *headers: tuple[str, bytes], query: tuple[tuple[str, str], ...] = ()) -> None:
    """Have the server know the shape, and who was let in with it."""
    for _ in range(2):
        assert b" 204 No Content" in await site.ask(delete("absent", *headers, query=query))


@pytest.mark.parametrize("headers", [(), (("Content-Length", b"0"),)])
async def test_a_plain_deletion_of_a_known_shape_begins_no_task(site: Site, headers: tuple[tuple[str, bytes], ...]) -> None:
    await learn(site, *headers)
    answer = await site.ask_for_no_task(delete("a", *headers))
    assert answer == await site.ask_in_general(delete("b", *headers))
    assert answer == await site.ask_for_no_task(delete("absent", *headers)), "S3 does not tell whether it was there"
    assert [await site.is_there(key) for key in "abc"] == [False, False, True]


async def test_each_of_many_that_come_together_is_made(site: Site) -> None:
    await learn(site)
    answers = await asyncio.gather(*(site.ask(delete(key)) for key in "abca"))
    assert all(answer.startswith(b"HTTP/1.1 204 ") for answer in answers)
    assert [await site.is_there(key) for key in "abcd"] == [False, False, False, True]


async def test_where_versions_are_kept_it_tells_of_its_marker(site: Site) -> None:
    await site.lab.services.manifest.set_versioning(site.lab.bucket.id, "Suspended")
    await learn(site)
    answer = await site.ask_for_no_task(delete("a"))
    assert MARKER in answer
    assert answer == await site.ask_in_general(delete("b"))
    assert not await site.is_there("a")


@pytest.mark.parametrize("sent", [delete("a", query=(("versionId", "null"),)), delete("a", signed="forged"), delete("a", signed="late")])
async def test_what_is_not_plain_is_answered_in_general(site: Site, sent: Sent) -> None:
    await learn(site)
    general = await site.ask_in_general(sent)
    for _ in range(2):
        await site.lab.put("a", b"hello")
        assert await site.ask(sent) == general


async def test_a_deletion_with_a_body_is_answered_in_general(site: Site) -> None:
    await learn(site)
    sent = Sent("DELETE", "/bucket/a", content=b"<Delete/>")
    assert await site.ask(sent) == await site.ask_in_general(sent)


async def test_a_condition_that_is_not_met_deletes_nothing(site: Site) -> None:
    sent = delete("a", ("If-Match", b'"other"'), signed="all")
    for _ in range(3):
        assert (await site.ask(sent)).startswith(b"HTTP/1.1 412 ")
    assert await site.is_there("a")


async def test_a_bucket_that_tells_others_of_deletions_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    causes: list[object] = []
    delete_latest = SqliteManifest.delete_latest

    async def note(manifest: SqliteManifest, *args: object, cause: object, **kwargs: object) -> object:
        causes.append(cause)
        return await delete_latest(manifest, *args, cause=cause, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteManifest, "delete_latest", note)
    await site.lab.services.manifest.put_bucket_setting(site.lab.bucket.id, "notification", "{}")
    await learn(site)
    assert b" 204 " in await site.ask(delete("a"))
    assert len(causes) == 3
    assert None not in causes
    assert not await site.is_there("a")


async def test_a_manifest_that_does_not_answer_is_told_of(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await learn(site)
    manifest = site.lab.services.engine._manifest
    begin = manifest.begin_delete_latest

    def begin_late(*args: object, **kwargs: object) -> object:
        begun = begin(*args, **kwargs)  # type: ignore[arg-type]
        assert begun is not None
        begun.ended.cancel()  # as at its deadline
        return begun

    async def refuse(*_: object, **__: object) -> None:
        raise ManifestUnavailable("the manifest has not answered")

    monkeypatch.setattr(manifest, "delete_latest", refuse, raising=False)
    monkeypatch.setattr(manifest, "begin_delete_latest", begin_late, raising=False)
    answer = await site.ask_for_no_task(delete("a"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert await site.is_there("a")


@pytest.mark.parametrize("error", [ManifestUnavailable("the manifest does not answer"), JournalBusy("nothing was done")])
async def test_what_cannot_be_begun_is_refused_in_general(site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    await learn(site)

    def refuse(*_: object, **__: object) -> None:
        raise error

    manifest = site.lab.services.engine._manifest
    monkeypatch.setattr(manifest, "begin_delete_latest", refuse, raising=False)
    monkeypatch.setattr(manifest, "delete_latest", refuse, raising=False)
    assert (await site.ask(delete("a"))).startswith(b"HTTP/1.1 503 ")
    assert await site.is_there("a")


async def test_where_deletions_wait_for_the_journal_each_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with laboratory(tmp_path, journal=JournalConfig(acknowledge="all")) as lab:
        endpoint = await endpoint_of(lab, front_door=True)
        site = Site(lab, endpoint, monkeypatch)
        await lab.put("a", b"hello")
        await learn(site)
        waited: list[bool] = []
        stored = Flusher.stored

        async def note(flusher: Flusher) -> None:
            waited.append(True)
            await stored(flusher)

        monkeypatch.setattr(Flusher, "stored", note)
        assert b" 204 " in await site.ask(delete("a"))
        assert waited == [True]
        await endpoint.shutdown(1)
