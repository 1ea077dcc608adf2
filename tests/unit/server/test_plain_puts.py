"""A plain PUT of a known shape waits for its pack alone, and is answered to the byte as the general way would answer it."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import md5
from pathlib import Path
from zlib import crc32

import pytest

from proxy.engine.memory.budget import Budget
from proxy.errors import ManifestUnavailable
from proxy.manifest.records import ObjectKey, Version
from proxy.manifest.sqlite.glances import Glances
from proxy.server.at_once import AtOnce
from proxy.server.connection import Endpoint
from proxy.server.front import FrontDoor
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response
from tests.doors import OWN, Sent, endpoint_of, talk
from tests.laboratory import Laboratory, laboratory
from tests.patience import PATIENCE_SECONDS
from tests.wire import Wire

TARGET = "/bucket/k"
ID = re.compile(rb"x-amz-version-id: [^\r]{32}")
RULES = (
    b"<LifecycleConfiguration><Rule><ID>r</ID><Filter/><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>"
    b"</LifecycleConfiguration>"
)


class Site:
    """A server, by whose front door objects are put."""

    def __init__(self, lab: Laboratory, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab = lab
        self.endpoint = endpoint
        self._monkeypatch = monkeypatch

    async def ask(self, sent: Sent) -> bytes:
        """Return the whole answer, but for what no two have in common."""
        return OWN.sub(b"*", await talk(self.endpoint, [[sent.encode()]], False))

    async def ask_in_general(self, sent: Sent) -> bytes:
        with self._monkeypatch.context() as patch:
            patch.setattr(AtOnce, "answer", lambda *_: None)
            return await self.ask(sent)

    async def ask_for_no_task(self, sent: Sent) -> bytes:
        """Return an answer that came without a task. While the manifest's disk seems not to answer, there is none: ask again then."""
        tasks, start = list[Request](), FrontDoor._start

        def counted(door: FrontDoor, request: Request, written: Response | None = None) -> None:
            tasks.append(request)
            start(door, request, written)

        with self._monkeypatch.context() as patch:
            patch.setattr(FrontDoor, "_start", counted)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    tasks.clear()
                    answer = await self.ask(sent)
                    if not tasks:
                        return answer
                    await asyncio.sleep(0.01)

    async def compare(self, sent: Sent) -> bytes:
        """Return the answer to a request, which is the same by both ways."""
        general = await self.ask_in_general(sent)
        assert await self.ask_for_no_task(sent) == general
        return general

    async def newest(self) -> Version:
        found = await self.lab.services.manifest.find_version(self.lab.bucket.id, ObjectKey("k"))
        assert found is not None
        return found


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    async with laboratory(tmp_path, packs=True) as lab:
        endpoint = await endpoint_of(lab, front_door=True)
        yield Site(lab, endpoint, monkeypatch)
        await endpoint.shutdown(1)


def put(content: bytes = b"hello", *headers: tuple[str, bytes], signed: str = "header") -> Sent:
    return Sent("PUT", TARGET, content=content, headers=headers, signed=signed)


def digest(content: bytes) -> tuple[str, bytes]:
    return "Content-MD5", b64encode(md5(content, usedforsecurity=False).digest())


async def learn(site: Site, sent: Sent) -> None:
    """Have the server know the shape, and who was let in with it."""
    for _ in range(2):
        assert b" 200 OK" in await site.ask(sent)


PLAIN = [put(), put(b"hello", ("Content-Type", b"text/plain")), put(b"hello", digest(b"hello")), put(signed="body")]


@pytest.mark.parametrize("sent", PLAIN)
async def test_a_plain_put_of_a_known_shape_begins_no_task(site: Site, sent: Sent) -> None:
    await learn(site, sent)
    assert b" 200 OK" in await site.compare(sent)
    assert await site.lab.get("k") == b"hello"
    kind = dict(sent.headers).get("Content-Type", b"binary/octet-stream").decode()
    assert (await site.newest()).attributes.headers == {"ContentType": kind}


async def test_the_answer_tells_of_the_version_and_its_checksum_in_the_same_words(site: Site) -> None:
    sent = put(b"hello", ("x-amz-checksum-crc32", b64encode(crc32(b"hello").to_bytes(4, "big"))), signed="all")
    await site.lab.services.engine.set_versioning(site.lab.bucket, "Enabled")
    await learn(site, sent)
    general, told = [
        ID.sub(b"x-amz-version-id: *", answer) for answer in (await site.ask_in_general(sent), await site.ask_for_no_task(sent))
    ]
    assert told == general
    assert told.count(b"x-amz-version-id: *\r\n") == 1
    assert b"x-amz-checksum-crc32: NhCmhg==\r\nx-amz-checksum-type: FULL_OBJECT\r\n" in told


@pytest.mark.parametrize("front_door", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_nothing_is_asked_of_the_manifest_before_the_turn_behind_the_one_in_which_a_request_came(
    site: Site, monkeypatch: pytest.MonkeyPatch, method: str, *, front_door: bool
) -> None:
    """What was read of the manifest in this turn may be older than the request: uvloop reads from sockets at the end of a turn."""
    looks, look = list[bytes | None](), Glances.log_head
    monkeypatch.setattr(Glances, "log_head", lambda glances: looks.append(look(glances)) or looks[-1])
    sent = put() if method == "PUT" else Sent(method, TARGET)
    for _ in range(3):
        await site.ask(put())
        await site.ask(sent)
    monkeypatch.setattr(site.endpoint, "_front_door", front_door)
    wire = Wire(site.endpoint)
    while not wire.is_quiet:
        await asyncio.sleep(0)
    looks.clear()
    assert not wire._read(sent.encode()), "all of it is read"
    assert not looks
    await wire.settled()
    assert looks
    wire.end()


async def test_each_of_many_that_come_together_hears_of_its_own(site: Site) -> None:
    await learn(site, put())
    bodies = [b"%05d" % number for number in range(20)]
    answers = await asyncio.gather(*(site.ask(put(body)) for body in bodies))
    tags = [md5(body, usedforsecurity=False).hexdigest().encode() for body in bodies]
    assert [tag in answer for tag, answer in zip(tags, answers, strict=True)] == [True] * 20


async def test_a_body_that_is_not_what_was_claimed_is_refused_as_ever(site: Site) -> None:
    await learn(site, put(b"hello", digest(b"hello")))
    assert b"<Code>BadDigest</Code>" in await site.compare(put(b"hello", digest(b"other")))
    assert await site.lab.get("k") == b"hello"
    assert site.lab.services.budget.held_bytes == 0


async def test_who_does_not_prove_who_he_is_is_refused_by_the_pipeline(site: Site) -> None:
    await learn(site, put())
    general = await site.ask_in_general(put(signed="forged"))
    assert b"<Code>SignatureDoesNotMatch</Code>" in general
    assert await site.ask(put(signed="forged")) == general


async def test_a_write_that_says_more_keeps_what_it_says(site: Site) -> None:
    sent = put(b"hello", ("x-amz-meta-colour", b"red"), signed="all")
    await learn(site, sent)
    assert b" 200 OK" in await site.ask(sent)
    assert (await site.newest()).attributes.metadata == {"colour": "red"}


async def test_what_a_bucket_settles_counts_from_then_on(site: Site) -> None:
    await learn(site, put())
    rules = Sent("PUT", "/bucket", query=(("lifecycle", ""),), content=RULES, headers=(digest(RULES),))
    assert b" 200 OK" in await site.ask(rules)
    general = await site.ask_in_general(put())
    assert b"x-amz-expiration: " in general
    assert await site.ask(put()) == general


async def test_where_memory_is_not_free_at_once_it_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await learn(site, put())
    monkeypatch.setattr(Budget, "claim_at_once", lambda *_, **__: None)
    assert b" 200 OK" in await site.ask(put(b"later"))
    assert await site.lab.get("k") == b"later"


async def test_stores_that_fail_are_told_of(site: Site) -> None:
    await learn(site, put())
    for store in site.lab.stores.values():
        store.down = True
    answer = await site.ask_for_no_task(put(b"other"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    for store in site.lab.stores.values():
        store.down = False
    assert await site.lab.get("k") == b"hello"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_version_that_needs_the_journal_waits_for_it_and_holds_up_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    await learn(site, put())
    manifest = site.lab.services.engine._manifest
    stored = asyncio.Event()

    async def confirm(version: Version, _draft: object) -> Version:
        await stored.wait()
        if fails:
            raise ManifestUnavailable("the journal is not stored")
        return version

    monkeypatch.setattr(manifest, "confirm_version", confirm, raising=False)
    monkeypatch.setattr(manifest, "is_confirmed", lambda version, _draft: version.size != 4, raising=False)
    waiting = asyncio.ensure_future(site.ask(put(b"late")))
    assert b" 200 OK" in await site.ask(put(b"early"))
    assert not waiting.done()
    stored.set()
    assert (await waiting).startswith(b"HTTP/1.1 503 " if fails else b"HTTP/1.1 200 OK")
