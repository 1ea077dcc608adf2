"""A plain read is answered as it was before, and to the byte as the general way would answer it now."""

from __future__ import annotations

import asyncio
import random
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import md5
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from proxy.engine.reading.read import Reading
from proxy.engine.reading.slot_at_hand import SlotAtHand
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.records import ExtentId, ExtentRef, ObjectAttributes, ObjectKey, Retention, Version
from proxy.s3 import sigv4
from proxy.s3.claim import Claim
from proxy.s3.errors import S3Error
from proxy.s3.model import load_model
from proxy.s3.policy.acl import Acl
from proxy.server import plain_reads
from proxy.server.call import Download, OwnedBucket
from proxy.server.connection import Endpoint
from proxy.server.front import FrontDoor
from proxy.server.handlers.versions import usual_headers
from proxy.server.plain_reads import PlainReads
from proxy.server.serving import Serving
from proxy.server.wire.peers import Peers
from proxy.server.wire.response import Response
from tests.doors import OWN, CountedShapes, Sent, endpoint_of, talk
from tests.faulty_store import FaultyStore
from tests.laboratory import Laboratory, laboratory

LIFECYCLE = (
    b"<LifecycleConfiguration><Rule><ID>r</ID><Filter/><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>"
    b"</LifecycleConfiguration>"
)
DENIED = (
    b'{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject",'
    b' "Resource": "arn:aws:s3:::bucket/%b"}]}'
)
CORS = (
    b"<CORSConfiguration><CORSRule><AllowedOrigin>https://example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>"
    b"</CORSConfiguration>"
)
VERSIONING = b"<VersioningConfiguration><Status>%b</Status></VersioningConfiguration>"
TAGGING = b"<Tagging><TagSet><Tag><Key>a</Key><Value>%d</Value></Tag></TagSet></Tagging>"


class Site:
    """A server with small objects in packs, and how often it has answered from what it kept."""

    def __init__(self, lab: Laboratory, endpoint: Endpoint, shapes: CountedShapes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab = lab
        self.dispatcher = endpoint.dispatcher
        self.shapes = shapes
        self.plain = endpoint.dispatcher._serving._plain
        self.recalled = 0
        self._endpoint = endpoint
        self._monkeypatch = monkeypatch
        answer = PlainReads.answer

        def counted(reads: PlainReads, *args: object) -> Response | None:
            response = answer(reads, *args)  # type: ignore[arg-type]
            self.recalled += response is not None
            return response

        monkeypatch.setattr(PlainReads, "answer", counted)

    async def ask(self, sent: Sent) -> bytes:
        """Return the whole answer, but for what no two have in common."""
        return OWN.sub(b"*", await talk(self._endpoint, [[sent.encode()]], False))

    async def ask_in_general(self, sent: Sent) -> bytes:
        """As somebody would whom nobody remembers, and by the way of all other reads."""
        kept, self.plain._kept = self.plain._kept, {}
        try:
            with self._monkeypatch.context() as patch:
                patch.setattr(PlainReads, "usual", lambda *_: None)
                patch.setattr(PlainReads, "first", lambda *_: None)
                return await self.ask(sent)
        finally:
            self.plain._kept = kept

    async def compare(self, sent: Sent) -> bytes:
        general = await self.ask_in_general(sent)
        for _ in range(2):
            assert await self.ask(sent) == general, sent
        return general


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    async with laboratory(tmp_path, packs=True) as lab:
        endpoint = await endpoint_of(lab, front_door=True)
        shapes = endpoint.dispatcher.shapes
        assert isinstance(shapes, CountedShapes)  # which are learned at once, however fast requests come
        yield Site(lab, endpoint, shapes, monkeypatch)
        await endpoint.shutdown(1)


GET, HEAD = Sent(target="/bucket/seed/a"), Sent("HEAD", "/bucket/seed/a")
PLAIN = [
    GET,
    HEAD,
    Sent(target="/bucket/seed/empty"),
    Sent("HEAD", "/bucket/seed/large"),
    Sent(target="/bucket/seed/a", signed="query"),
    Sent(target="/bucket/seed/a", headers=(("Origin", b"https://example.com"),)),  # where no rule lets it in
    Sent(target="/bucket/seed/a", headers=(("Connection", b"close"),)),
    Sent(target="/bucket/seed/a", version="1.0"),
    Sent(target="/bucket/seed/a", query=(("x-id", "GetObject"),)),
]
MORE = [
    Sent(target="/bucket/missing"),
    Sent(target="/bucket/seed/large"),
    Sent(target="/bucket/seed/a", signed="no"),
    Sent(target="/bucket/seed/a", headers=(("Range", b"bytes=2-5"),)),
    Sent("HEAD", "/bucket/seed/a", headers=(("Range", b"bytes=-3"),)),
    Sent(target="/bucket/seed/a", headers=(("If-None-Match", b"*"),)),
    Sent(target="/bucket/seed/a", headers=(("If-Match", b'"no"'),)),
    Sent(target="/bucket/seed/a", headers=(("If-Modified-Since", b"Sun, 15 Jun 2025 00:00:00 GMT"),)),
    Sent(target="/bucket/seed/a", headers=(("x-amz-checksum-mode", b"ENABLED"),), signed="all"),
    Sent(target="/bucket/seed/a", headers=(("x-amz-server-side-encryption", b"AES256"),), signed="all"),
    Sent(target="/bucket/seed/a", headers=(("x-amz-server-side-encryption-customer-algorithm", b"AES256"),), signed="all"),
    Sent(target="/bucket/seed/a", headers=(("x-amz-expected-bucket-owner", b"000000000000"),), signed="all"),
    Sent(target="/bucket/seed/a", headers=(("x-amz-request-payer", b"requester"),), signed="all"),
    Sent(target="/bucket/seed/a", query=(("response-content-type", "text/plain"),)),
    Sent(target="/bucket/seed/a", query=(("partNumber", "1"),)),
    Sent(target="/bucket/seed/a", query=(("versionId", "null"),)),
]


def setting(name: str, document: bytes) -> Sent:
    digest = b64encode(md5(document, usedforsecurity=False).digest())
    return Sent("PUT", "/bucket", query=((name, ""),), content=document, headers=(("Content-MD5", digest),))


async def change(site: Site, chance: random.Random) -> None:
    key = chance.choice(("seed/a", "seed/a", "seed/empty", "seed/large"))
    target = f"/bucket/{key}"
    number = chance.randrange(100)
    content = chance.choice((b"", b"%d" % number, b"@70000"))
    changes = [
        Sent("PUT", target, content=content),
        Sent("PUT", target, content=content, headers=(("x-amz-meta-number", b"%d" % number), ("Cache-Control", b"no-cache")), signed="all"),
        Sent(
            "PUT",
            target,
            content=content,
            headers=(("Expires", b"Sun, 15 Jun 2025 00:00:00 GMT"), ("x-amz-meta-u", b"u")),
            signed="all",
        ),
        Sent(
            "PUT", target, content=content, headers=(("x-amz-storage-class", b"STANDARD_IA"), ("Content-Type", b"text/plain")), signed="all"
        ),
        Sent("PUT", target, content=content, headers=(("x-amz-tagging", b"a=b"), ("Content-Language", b"en")), signed="all"),
        Sent("DELETE", target),
        Sent("PUT", target, query=(("tagging", ""),), content=TAGGING % number),
        setting("versioning", VERSIONING % chance.choice((b"Enabled", b"Suspended"))),
        setting("lifecycle", LIFECYCLE),
        Sent("DELETE", "/bucket", query=(("lifecycle", ""),)),
        setting("cors", CORS),
        setting("policy", DENIED % chance.choice((b"*", b"seed/empty"))),
        Sent("DELETE", "/bucket", query=(("policy", ""),)),
    ]
    answer = await site.ask(chance.choice(changes))
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 ", b"HTTP/1.1 404 ")), answer


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_asked_and_was_changed_the_answer_is_the_general_one(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        await change(site, chance)
        for sent in (GET, HEAD, *chance.sample(PLAIN + MORE, 3)):
            await site.compare(sent)
    assert site.recalled > 10


@pytest.mark.parametrize("sent", PLAIN)
async def test_a_plain_read_is_remembered(site: Site, sent: Sent) -> None:
    await _own_store(site)
    answers = {await site.ask(sent) for _ in range(3)}
    assert len(answers) == 1
    answer, before = answers.pop(), site.recalled
    assert b"200 OK" in answer
    for _ in range(3):
        assert await site.ask(sent) == answer
    assert site.recalled == before + 3


@pytest.mark.parametrize("sent", [GET, HEAD])
async def test_a_plain_read_of_a_known_shape_makes_no_call(site: Site, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    await _own_store(site)
    answer, before = await site.compare(sent), site.recalled
    monkeypatch.setattr(Serving, "call", None)
    assert await site.ask(sent) == answer
    assert site.recalled == before + 1


@pytest.mark.parametrize("sent", [GET, HEAD])
async def test_a_plain_read_of_a_known_shape_begins_no_task(site: Site, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    await _own_store(site)
    answer = await site.compare(sent)
    monkeypatch.setattr(FrontDoor, "_start", None)
    assert await site.ask(sent) == answer


@pytest.mark.parametrize("sent", [GET, HEAD])
@pytest.mark.parametrize("old", ["Signature=", "x-amz-date: "])
async def test_a_plain_read_that_is_not_proved_is_refused_by_the_pipeline(site: Site, sent: Sent, old: str) -> None:
    await _own_store(site)
    await site.compare(sent)
    before = site.recalled
    head = sent.encode()
    at = re.search(rf"{old}\S+", head.decode(), re.IGNORECASE)
    assert at is not None
    place = at.end() - 1 if old == "Signature=" else at.end() - len("1Z")  # a digit of either
    other = b"1" if head[place:][:1] == b"0" else b"0"
    answer = await talk(site._endpoint, [[head[:place] + other + head[place + 1 :]]], False)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert site.recalled == before


@pytest.mark.parametrize("sent", [GET, HEAD])
async def test_what_is_usual_is_answered_without_the_handler_the_first_time(
    site: Site, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _own_store(site)
    answer, before = await site.ask_in_general(sent), site.recalled
    site.plain._kept.clear()
    monkeypatch.setattr(Serving, "call", None)
    assert await site.ask(sent) == answer
    assert site.recalled == before
    assert await site.ask(sent) == answer
    assert site.recalled == before + 1


UNUSUAL = {
    "metadata": ("x-amz-meta-a", b"b"),
    "tags": ("x-amz-tagging", b"a=b"),
    "expires": ("Expires", b"Sun, 15 Jun 2025 00:00:00 GMT"),
    "class": ("x-amz-storage-class", b"STANDARD_IA"),
    "type": ("Content-Type", b"text/plain"),
}


@pytest.mark.parametrize("header", UNUSUAL.values(), ids=list(UNUSUAL))
async def test_what_is_in_memory_is_read_the_short_way_the_first_time(
    site: Site, header: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an object lies is worked out once, and no window, fetch or task is made for it. Whatever it has to tell is told."""
    assert b"200 OK" in await site.ask(Sent("PUT", "/bucket/seed/a", content=b"hello, world", headers=(header,), signed="all"))
    await _own_store(site)
    answer, before = await site.ask_in_general(GET), site.recalled
    site.plain._kept.clear()
    worked_out = count_slots(monkeypatch)
    monkeypatch.setattr(Reading, "whole", None)
    assert await site.ask(GET) == answer
    assert (len(worked_out), site.recalled) == (1, before)


async def test_a_head_does_not_keep_a_get_from_the_short_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await _own_store(site)
    answer = await site.ask(GET)
    site.plain._kept.clear()
    await site.ask(HEAD)
    monkeypatch.setattr(Serving, "call", None)
    assert await site.ask(GET) == answer


def count_slots(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what grows with each slot that is worked out."""
    worked_out: list[object] = []
    real = SlotAtHand.__init__
    monkeypatch.setattr(SlotAtHand, "__init__", lambda slot, *made_of: (worked_out.append(made_of), real(slot, *made_of))[1])
    return worked_out


async def test_what_is_not_in_memory_is_fetched_with_what_was_worked_out_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    own = await _own_store(site)
    answer = await site.ask(GET)
    site.plain._kept.clear()
    own.answers_at_once = False
    assert await site.ask(GET) == answer
    worked_out = count_slots(monkeypatch)
    for _ in range(3):
        assert await site.ask(GET) == answer
    assert worked_out == []


@pytest.mark.parametrize("trouble", ["flips_bits", "truncates", "down", "rejects"])
async def test_a_store_in_trouble_costs_no_first_answer(site: Site, trouble: str) -> None:
    own = await _own_store(site)
    answer = await site.ask(GET)
    setattr(own, trouble, True)
    site.plain._kept.clear()
    assert await site.ask(GET) == answer
    setattr(own, trouble, False)


async def test_of_what_was_deleted_the_marker_is_not_answered_as_an_object(site: Site) -> None:
    await _own_store(site)
    assert b"200 OK" in await site.ask(setting("versioning", VERSIONING % b"Enabled"))
    await site.compare(GET)
    assert (await site.ask(Sent("DELETE", "/bucket/seed/a"))).startswith(b"HTTP/1.1 204 ")
    for sent in (GET, HEAD):
        assert (await site.compare(sent)).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("sent", MORE)
async def test_what_asks_for_more_is_not_answered_from_what_was_kept(site: Site, sent: Sent) -> None:
    await _own_store(site)
    before = site.recalled
    for _ in range(3):
        await site.ask(sent)
    assert site.recalled == before


async def test_a_lock_is_told_only_to_those_who_may_know(site: Site) -> None:
    """Whether somebody may is asked each time."""
    manifest, bucket = site.lab.services.manifest, site.lab.bucket
    await site.compare(HEAD)
    retention = Retention(mode="GOVERNANCE", until_ms=site.lab.clock.now_ms() + 86_400_000)
    await manifest.change_attributes(bucket.id, "seed/a", None, AttributeChange(retention=retention))
    answer = await site.compare(HEAD)
    assert b"x-amz-object-lock-mode: GOVERNANCE" in answer
    before = site.recalled
    await site.compare(HEAD)
    await site.compare(GET)
    assert site.recalled == before


async def _own_store(site: Site) -> FaultyStore:
    """Read until the slot of `GET` is in its store's memory, and return that store."""
    for store in site.lab.stores.values():
        store.answers_at_once = True
    for _ in range(4):
        answer = await site.ask(GET)
    assert answer.endswith(b"hello, world")
    (own,) = [store for store in site.lab.stores.values() if store.calls["read_at_once"]]
    return own


async def test_what_its_store_has_in_memory_is_asked_of_nobody_else(site: Site) -> None:
    own = await _own_store(site)
    before, asked = site.recalled, [store.calls["get_range"] for store in site.lab.stores.values()]
    for _ in range(3):
        await site.compare(GET)
    assert site.recalled == before + 6
    assert own.calls["read_at_once"] > 6
    assert asked == [store.calls["get_range"] for store in site.lab.stores.values()]


@pytest.mark.parametrize("trouble", ["flips_bits", "truncates", "down", "hanging", "rejects"])
async def test_a_store_in_trouble_costs_no_answer(site: Site, trouble: str) -> None:
    own = await _own_store(site)
    answer, before = await site.ask(GET), site.recalled
    setattr(own, trouble, True)
    for _ in range(2):
        assert await site.ask(GET) == answer
    assert site.recalled == before, "it was read in the general way, which asks others"
    setattr(own, trouble, False)


async def test_what_a_lying_store_had_in_memory_is_told_of(site: Site) -> None:
    own = await _own_store(site)
    own.flips_bits = True
    await site.ask(GET)
    await site.lab.settled()
    (repair,) = await site.lab.services.manifest.due_repairs(now_ms=site.lab.clock.now_ms() + 86_400_000, limit=10)
    assert repair is not None


async def test_while_others_wait_for_memory_nobody_is_served_before_them(site: Site) -> None:
    await _own_store(site)
    await site.ask(GET)
    budget, before = site.lab.services.budget, site.recalled
    held = await budget.acquire(budget.largest_bytes, owner="t")
    waiting = asyncio.ensure_future(budget.acquire(budget.largest_bytes, owner="u"))
    await asyncio.sleep(0)
    assert (await site.ask(GET)).endswith(b"hello, world")
    assert site.recalled == before
    held.release()
    (await waiting).release()
    await site.ask(GET)
    assert site.recalled == before + 1


async def test_only_so_many_answers_are_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads one after the other, and nothing twice, does not drive out what others read again and again."""
    monkeypatch.setattr(plain_reads, "MAX_KEPT", 4)
    monkeypatch.setattr(plain_reads, "ADMITTED", 3)
    for number in range(12):
        await site.ask(Sent("PUT", f"/bucket/{number}", content=b"content"))
    await site.ask(HEAD)
    for number in range(12):
        await site.ask(Sent("HEAD", f"/bucket/{number}"))
    assert [kept.found.version.key for kept in site.plain._kept.values()] == ["2", "5", "8", "11"]
    await site.compare(Sent("HEAD", "/bucket/11"))
    await site.compare(Sent("HEAD", "/bucket/0"))


async def test_of_an_object_that_is_no_slot_nothing_is_kept_with_its_extents(site: Site) -> None:
    """A large one may have thousands: answers that nobody could be given again would hold gigabytes."""
    sent = Sent(target="/bucket/seed/large")
    await site.ask(sent)
    await site.ask(Sent("HEAD", "/bucket/seed/a"))
    assert [kept.found.extents for kept in site.plain._kept.values() if kept.slot is None and kept.length_bytes == 256 * 1024] == []
    await site.compare(sent)


@pytest.mark.parametrize(
    "large",
    [
        {"extents": tuple(ExtentRef(id=ExtentId(number), size=1) for number in range(plain_reads.FEW_EXTENTS + 1))},
        {"attributes": ObjectAttributes(headers={"ContentDisposition": "a" * plain_reads.MAX_LINES_SIZE})},
        {"attributes": ObjectAttributes(acl=Acl(owner="t"))},
    ],
    ids=["extents", "headers", "acl"],
)
async def test_what_takes_much_memory_is_answered_and_not_kept(site: Site, large: dict[str, object]) -> None:
    """Thousands of objects of ten thousand extents each would take gigabytes, beside the budget."""
    await _own_store(site)
    kept = next(iter(site.plain._kept.values()))
    site.plain._kept.clear()
    held = OwnedBucket(bucket=kept.bucket, owner=site.lab.tenant)
    head, guard = load_model().operations["HeadObject"], SimpleNamespace(allows_all=True)
    found = replace(kept.found, version=replace(kept.found.version, **large))
    assert site.plain.usual(visit(), head, found, held, guard) is not None
    assert not site.plain._kept
    assert site.plain.usual(visit(), head, kept.found, held, guard) is not None
    assert len(site.plain._kept) == 1


async def test_a_shape_remembers_who_was_let_in_and_not_what_he_read(site: Site) -> None:
    for _ in range(3):
        await site.ask(Sent(target="/bucket/seed/large"))
    (known,) = [known for like in site.shapes._kept.values() for known in like]
    assert known.entry is not None
    assert known.entry.caller.bucket is not None
    assert known.entry.caller.found is None


async def test_a_path_that_is_none_is_logged_with_the_address_that_a_proxy_tells(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.dispatcher._peers = Peers(("127.0.0.0/8",))
    caplog.set_level("INFO", "proxy.access")
    told = (("X-Forwarded-For", b"192.0.2.7"),)
    for target in ("/bucket/seed/a", "/bucket/seed/a", "/bucket/%zz"):
        await site.ask(Sent(target=target, headers=told))
    assert site.shapes.fitted == 2
    assert [record.facts["remote"] for record in caplog.records if hasattr(record, "facts")] == ["192.0.2.7"] * 3


async def test_the_slot_of_what_was_moved_elsewhere_is_not_read(site: Site) -> None:
    """A pack's shard that is repaired has another name, and may be in another store; the version is the same as before."""
    await _own_store(site)
    manifest, bucket = site.lab.services.manifest, site.lab.bucket
    found = await manifest.find_readable(bucket.id, ObjectKey("seed/a"))
    assert found is not None
    (kept,) = [kept for kept in site.plain._kept.values() if kept.slot is not None]
    segment = found.extents[0].layout.segments[0]
    assert kept.slot is not None
    column = kept.slot.slot.column
    target = {column: segment.stores[column]}
    drawn = await manifest.draw_generation(found.extents[0].id, segment.id, target, expires_ms=site.lab.clock.now_ms() + 1000)
    assert drawn is not None
    assert await manifest.replace_shards(found.extents[0].id, segment.id, target, drawn.drawn, now_ms=site.lab.clock.now_ms())
    answer = await site.compare(GET)  # of the others: nothing was put under the new name
    assert answer.endswith(b"hello, world")


def visit(*, pays: bool = False) -> SimpleNamespace:
    return SimpleNamespace(cross_origin={}, pays=pays, request_id="0" * 16, request=SimpleNamespace(method="HEAD"))


async def test_what_was_answered_of_a_bucket_says_nothing_once_that_has_changed(site: Site) -> None:
    await _own_store(site)
    kept = next(iter(site.plain._kept.values()))
    guard = SimpleNamespace(allows_all=True)
    assert site.plain.answer(visit(), kept.found, kept.bucket, guard) is not None
    assert site.plain.answer(visit(), kept.found, replace(kept.bucket, versioning="Enabled"), guard) is None
    assert site.plain.answer(visit(), replace(kept.found), kept.bucket, guard) is None


async def test_a_page_of_another_site_is_told_that_it_may_read(site: Site) -> None:
    await _own_store(site)
    assert b"200 OK" in await site.ask(setting("cors", CORS))
    sent = Sent(target="/bucket/seed/a", headers=(("Origin", b"https://example.com"),))
    assert b"\r\nAccess-Control-Allow-Origin: https://example.com\r\n" in await site.compare(sent)
    await site.compare(GET)
    await site.compare(sent)


async def test_whoever_pays_is_told_so(site: Site) -> None:
    await _own_store(site)
    kept = next(iter(site.plain._kept.values()))
    assert site.plain.answer(visit(pays=True), kept.found, kept.bucket, SimpleNamespace(allows_all=True)) is None
    version = kept.found.version
    headers = usual_headers(load_model().operations["HeadObject"], kept.bucket, version)
    answer = Download(status=200, headers=headers, length=version.size, version=version)
    assert site.plain.first(visit(), kept.found, kept.bucket, answer) is not None
    assert site.plain.first(visit(pays=True), kept.found, kept.bucket, answer) is None
    held, guard = OwnedBucket(bucket=kept.bucket, owner=site.lab.tenant), SimpleNamespace(allows_all=True)
    site.plain._kept.clear()
    assert site.plain.usual(visit(pays=True), load_model().operations["HeadObject"], kept.found, held, guard) is None
    assert site.plain.usual(visit(), load_model().operations["HeadObject"], kept.found, held, guard) is not None


async def test_what_the_newest_version_is_may_depend_on_who_asks(site: Site) -> None:
    """Whoever is let in by what an object says of itself is let in to that object alone."""
    await _own_store(site)
    kept = next(iter(site.plain._kept.values()))

    def refuse(version: Version, version_id: str | None) -> None:
        assert (version, version_id) == (kept.found.version, None)
        raise S3Error("AccessDenied")

    with pytest.raises(S3Error):
        site.plain.answer(visit(), kept.found, kept.bucket, SimpleNamespace(allows_all=False, confirm=refuse))


@pytest.mark.parametrize("sent", [Sent(target="/bucket/seed/large"), Sent(target="/bucket/none"), Sent("HEAD", "/bucket/none")])
async def test_who_has_to_wait_is_proved_once(site: Site, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """As whoever is answered at once."""
    for _ in range(3):
        for known in (GET, HEAD, sent):
            await site.ask(known)
    proofs: list[str] = []
    prove = sigv4.prove

    def counted(claim: Claim, key: bytes, canonical: str) -> None:
        proofs.append(canonical)
        prove(claim, key, canonical)

    monkeypatch.setattr(sigv4, "prove", counted)
    await site.ask(sent)
    assert len(proofs) == 1
