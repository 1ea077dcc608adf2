"""Two doors, one server: whatever a client sends, in whatever pieces, it is answered alike byte for byte.

SHARDGATE_EXAMPLES is how many conversations of each kind are tried.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.s3.policy.grants import POLICY
from tests.doors import Doors, Sent, both_doors, split
from tests.laboratory import Laboratory

METHODS = ("GET", "GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "PATCH", "get")
TARGETS = (
    "/bucket/seed/a", "/bucket/seed/large", "/bucket/seed/empty", "/bucket/none", "/bucket/k", "/bucket/a%20b", "/bucket/a+b", "/bucket//a",
    "/bucket/%C3%A4", "/bucket/%ff", "/bucket/%zz", "/bucket/\xff", "/bucket/a/../../b", "/bucket/@1025", "/bucket", "/bucket/", "/",
    "//k", "/none/k", "/-/health", "/-/nothing", "http://127.0.0.1:9000/bucket/seed/a", "*",
)  # fmt: skip
QUERIES = (
    (), (), (), (("versionId", "null"),), (("versionId", "x"),), (("partNumber", "1"),), (("partNumber", "1"), ("partNumber", "2")),
    (("response-content-type", "text/plain"),), (("response-expires", "a\nb"),), (("acl", ""),), (("tagging", ""),), (("uploads", ""),),
    (("list-type", "2"), ("prefix", "seed/")), (("delete", ""),), (("x-id", "GetObject"),), (("X-Amz-Signature", "x"),), (("a", "\xe4"),),
)  # fmt: skip
HEADERS: tuple[tuple[str, bytes], ...] = (
    ("Range", b"bytes=0-3"), ("Range", b"bytes=-5"), ("Range", b"bytes=99999999-"), ("Range", b"bytes=3-1"), ("Range", b"lines=1"),
    ("If-Match", b"*"), ("If-Match", b'"0"'), ("If-None-Match", b"*"), ("If-None-Match", b'"e4d7f1b4ed2e42d15898f4b27b019da4"'),
    ("If-Modified-Since", b"Wed, 01 Jan 2020 00:00:00 GMT"), ("If-Unmodified-Since", b"Wed, 01 Jan 2020 00:00:00 GMT"),
    ("If-Modified-Since", b"never"), ("If-Range", b'"0"'), ("x-amz-meta-a", b"1"), ("x-amz-meta-a", b"2"),
    ("x-amz-meta-b", "\xe4".encode()), ("x-amz-meta-c", b"\xe4"), ("x-amz-tagging", b"a=b"), ("x-amz-checksum-mode", b"ENABLED"),
    ("x-amz-checksum-crc32", b"AAAAAA=="), ("x-amz-copy-source", b"/bucket/seed/a"), ("x-amz-storage-class", b"NONE"),
    ("x-amz-expected-bucket-owner", b"1"), ("Content-MD5", b"x"), ("Content-MD5", b"1B2M2Y8AsgTpgAmY7PhCfg=="),
    ("Content-Type", b"text/plain"), ("Content-Encoding", b"gzip"), ("Origin", b"http://o"), ("Expect", b"100-continue"),
    ("Connection", b"close"), ("Connection", b"keep-alive"), ("Upgrade", b"websocket"), ("Host", b"other"), ("Host", b""),
    ("Content-Length", b"0"), ("Content-Length", b"5"), ("Transfer-Encoding", b"chunked"), ("Transfer-Encoding", b"gzip"), ("x", b""),
    ("x", b"\x00"), ("x", b"a\tb"), ("x y", b"z"), (" x", b"folded"), ("x-@300", b"long"), ("x", b"@9000"), ("Cookie", b"a=b"),
    ("X-Forwarded-For", b"192.0.2.1"), ("Via", b"1.1 v"),
)  # fmt: skip
BODIES = (b"", b"", b"hello", b"@4096", b"@12000", b"@16000", b"@40000", b"<Delete><Object><Key>k</Key></Object></Delete>")
SIGNED = ("header",) * 6 + ("query", "query", "no", "forged", "stranger", "late", "body")
ODD = (
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET / HTTP/9.9\r\nHost: h\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
)

requests = st.builds(
    Sent,
    method=st.sampled_from(METHODS),
    target=st.sampled_from(TARGETS),
    query=st.sampled_from(QUERIES),
    headers=st.lists(st.sampled_from(HEADERS), max_size=3).map(tuple),
    content=st.sampled_from(BODIES),
    signed=st.sampled_from(SIGNED),
    version=st.sampled_from(("1.1",) * 8 + ("1.0",)),
    chunked=st.sampled_from((False,) * 8 + (True,)),
)
streams = st.one_of(requests, requests, requests, st.sampled_from(ODD))
places = st.one_of(st.just([]), st.lists(st.integers(0, 60_000), max_size=6), st.lists(st.integers(0, 700), max_size=30))


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with both_doors(tmp_path_factory.mktemp("doors")) as running:
        yield running


def encoded(sent: Sent | bytes) -> bytes:
    return sent.encode() if isinstance(sent, Sent) else sent


def alike(answers: Sequence[bytes]) -> None:
    """Say where two conversations differ, and no more: they may have a megabyte."""
    front, aiohttp = answers
    place = next((at for at, (one, other) in enumerate(zip(front, aiohttp, strict=False)) if one != other), min(map(len, answers)))
    assert front[max(place - 200, 0) : place + 200] == aiohttp[max(place - 200, 0) : place + 200]
    assert len(front) == len(aiohttp)


EXAMPLES = int(os.environ.get("SHARDGATE_EXAMPLES", "60"))
SETTINGS = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(sent=st.lists(st.tuples(streams, places), min_size=1, max_size=4))
def test_requests_one_after_the_other_are_answered_alike(doors: Doors, sent: Sequence[tuple[Sent | bytes, list[int]]]) -> None:
    alike(doors.converse([split(encoded(request), at) for request, at in sent]))


@SETTINGS
@given(sent=st.lists(requests, min_size=1, max_size=3), others=st.lists(streams, max_size=2), at=places)
def test_requests_that_come_again_are_answered_alike(
    doors: Doors, sent: Sequence[Sent], others: Sequence[Sent | bytes], at: list[int]
) -> None:
    """They are known by their shape then, also behind half of another."""
    again = [request.encode() for request in sent]
    alike(doors.converse([[one] for one in again * 2] + [split(b"".join(map(encoded, others)), at)] + [[one] for one in again]))


@SETTINGS
@given(sent=st.lists(streams, min_size=2, max_size=6), at=places)
def test_requests_sent_ahead_of_their_answers_are_answered_alike(doors: Doors, sent: Sequence[Sent | bytes], at: list[int]) -> None:
    alike(doors.converse([split(b"".join(map(encoded, sent)), at)]))


@SETTINGS
@given(sent=st.lists(requests, min_size=1, max_size=2), at=places, missing=st.integers(1, 50_000))
def test_a_client_that_goes_away_in_the_middle_is_answered_alike(doors: Doors, sent: Sequence[Sent], at: list[int], missing: int) -> None:
    *before, last = [request.encode() for request in sent]
    answers = doors.converse([[data] for data in before] + [split(last[: max(len(last) - missing, 0)], at)], leave=True)
    size = min(map(len, answers))
    alike([answer[:size] for answer in answers])  # how far it came with the last one is a matter of time


@pytest.mark.parametrize("size", [1, 10, 17, 40, 200, -4, -2, -1])
@pytest.mark.parametrize(
    "begun", [b"GET /bucket/seed/a HTTP/1.1\r\nX: ", b"PUT /bucket/k HTTP/1.1\r\nContent-Length: 500\r\n\r\n", b"POST / HT"]
)
def test_what_looks_like_a_request_in_the_middle_of_another_is_none(doors: Doors, begun: bytes, size: int) -> None:
    known = Sent("DELETE", "/bucket/k").encode()
    doors.converse([[known]])
    fitted = doors.by_shape
    alike(doors.converse([[known], [known[:size]], [known]]))
    assert doors.by_shape == fitted + 1
    alike(doors.converse([[known], [known + begun], [known]]))
    assert doors.by_shape == fitted + 3  # the second fits, but is not all
    alike(doors.converse([[begun], [known]]))
    assert doors.by_shape == fitted + 3


@pytest.mark.parametrize("left", [1, 4, 5])
def test_a_body_of_which_some_is_still_to_come_is_waited_for(doors: Doors, left: int) -> None:
    known, other = (Sent("PUT", "/bucket/k", content=content).encode() for content in (b"hello", b"world"))
    alike(doors.converse([[known], [other[:-left], other[-left:]], [Sent("GET", "/bucket/k").encode()]]))


def test_who_is_known_by_shape_is_let_in_no_longer_than_he_may(doors: Doors) -> None:
    get = Sent("GET", "/bucket/known").encode()
    doors.change(lambda lab: lab.put("known", b"hello, world"))
    doors.converse([[get]])
    fitted = doors.by_shape
    front, _ = doors.converse([[get]] * 4)
    assert doors.by_shape == fitted + 4
    assert front.count(b"hello, world") == 4
    for refuse, allow in ((_disable, _enable), (_deny, _permit)):
        doors.change(refuse)
        answers = doors.converse([[get]] * 3)  # the second one finds what the first one has left
        doors.change(allow)
        assert [answer.count(b"HTTP/1.1 403 ") for answer in answers] == [3, 3]
        assert b"hello, world" in doors.converse([[get]])[0]
    assert doors.by_shape == fitted + 12


async def _disable(lab: Laboratory) -> None:
    await lab.services.manifest.set_tenant_enabled(lab.tenant.id, enabled=False)


async def _enable(lab: Laboratory) -> None:
    await lab.services.manifest.set_tenant_enabled(lab.tenant.id, enabled=True)


async def _deny(lab: Laboratory) -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    await lab.services.manifest.put_bucket_setting(lab.bucket.id, POLICY, policy)


async def _permit(lab: Laboratory) -> None:
    await lab.services.manifest.put_bucket_setting(lab.bucket.id, POLICY, None)


def test_most_requests_take_the_front_door(doors: Doors) -> None:
    """Of two equal doors nothing would be learnt."""
    before = doors.by_aiohttp
    plain = [
        [Sent(method, "/bucket/k", content=content).encode()]
        for method, content in (("PUT", b"h"), ("GET", b""), ("HEAD", b""), ("DELETE", b""))
    ]
    front, aiohttp = doors.converse(plain)
    assert front == aiohttp
    assert front.count(b"HTTP/1.1 20") == 4
    assert [after - earlier for earlier, after in zip(before, doors.by_aiohttp, strict=True)] == [0, 4]
