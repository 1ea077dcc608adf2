"""Plain reads: a GET or HEAD of the newest version, whole, that asks for nothing else.

The problem. Most reads are of this kind, and answered alike each time. Yet the handlers make the headers from the version's record, member
by member, and the bytes of a small object go through windows and fetches made for large ones. That takes longer than all else together.

The idea. What the general way has answered once is kept as it was written, together with the version and the bucket that it was of; so is
where a small object lies. Records never change: a version that has is another record, and so is its bucket. So nothing that is kept can be
out of date. And there is no second way to make an answer, which could come to differ from the first.

Not kept is what depends on more than these two: how a request is signed, or what else it asks (`is_plain`), an object lock, which is told
only to some, and a key of the keyring or the customer's.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.engine.engine import Engine
from proxy.engine.slot_at_hand import SlotAtHand
from proxy.manifest.records import Bucket, Readable
from proxy.server.call import Answer, Call, Download
from proxy.server.guard import Guard
from proxy.server.outlet import header_lines
from proxy.server.response import Response
from proxy.server.visit import Visit

READS = frozenset({"GetObject", "HeadObject"})
ASKING_MORE = frozenset({"x-amz-server-side-encryption", "content-length", "transfer-encoding"})  # no parameters, and yet looked at
MAX_KEPT = 3000  # answers, 3 KB each, and keys of packs of 4 KB each
ADMITTED = 8  # once there is no room, one in so many takes another's: to keep what is never asked for again costs as much as it may save
_ALWAYS = 2  # parameters: Bucket and Key


class _Kept(NamedTuple):
    """An answer, and what it was made of."""

    found: Readable
    bucket: Bucket
    headers: list[tuple[str, str]]
    lines: bytes  # of the headers, behind the request's id
    length_bytes: int
    slot: SlotAtHand | None  # if it is one, and was read before


def is_plain(call: Call) -> bool:
    """Tell whether a read asks for nothing but the object."""
    return len(call.params) == _ALWAYS and call.headers.keys().isdisjoint(ASKING_MORE)


class PlainReads:
    """The answers to plain reads of one process that were given last."""

    def __init__(self, engine: Engine, *, host_id: str) -> None:
        self._engine = engine
        self._host_id = host_id
        self._kept: dict[int, _Kept] = {}  # by the `id` of what was found, which they hold: the oldest first
        self._asking = 0  # for room

    def answer(self, visit: Visit, found: Readable, bucket: Bucket, guard: Guard) -> Response | None:
        """Return the answer to a plain read, if it is known and nobody need be waited for. Else ask the handler: see `first`."""
        kept = self._kept.get(id(found))
        if kept is None or kept.found is not found or kept.bucket is not bucket or visit.cross_origin or visit.pays:
            return None
        if not guard.allows_all:
            guard.confirm(found.version, None)
        return self._told(visit, kept)

    def first(self, visit: Visit, found: Readable, bucket: Bucket, answer: Answer) -> Response | None:
        """Keep what the handler answers to a plain read, if it is the same for everybody, and return it if nobody need be waited for."""
        kept = self._made(found, bucket, answer)
        if kept is None:
            return None
        if self._is_admitted(found):
            self._keep(kept)
        return None if visit.cross_origin or visit.pays else self._told(visit, kept)

    def _told(self, visit: Visit, kept: _Kept) -> Response | None:
        body = b""
        if kept.length_bytes and visit.request.method != "HEAD":
            read = None if kept.slot is None else self._engine.read_at_once(kept.slot)
            if read is None:
                return None
            body = read
        lines = b"x-amz-request-id: %b\r\n%b" % (visit.request_id.encode(), kept.lines)
        return Response(200, kept.headers, body, length_bytes=kept.length_bytes, lines=lines)

    def _made(self, found: Readable, bucket: Bucket, answer: Answer) -> _Kept | None:
        """Return what to keep, if the answer is the same for everybody."""
        version = found.version
        attributes = version.attributes
        if not isinstance(answer, Download) or answer.version is not version or answer.length != version.size or answer.status != 200:
            return None
        if attributes.retention is not None or attributes.legal_hold is not None or attributes.encryption is not None:
            return None
        slot = None if answer.chunks is None else answer.chunks.slot_at_hand()
        if slot is None and answer.chunks is not None and answer.length:
            return None  # it could not be used to read again, and would keep all of a large object's extents in memory
        framing = ("Content-Length", str(answer.length))
        lines = header_lines([("x-amz-id-2", self._host_id), *answer.headers, framing])
        return _Kept(found, bucket, answer.headers, lines, answer.length, slot)

    def _keep(self, kept: _Kept) -> None:
        before = self._kept.pop(id(kept.found), None)
        if kept.slot is None and before is not None and before.found is kept.found:  # a HEAD says nothing of where it lies
            kept = kept._replace(slot=before.slot)
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[id(kept.found)] = kept

    def _is_admitted(self, found: Readable) -> bool:
        """Tell whether to keep one more. Once there is no room, few take the place of others."""
        if id(found) in self._kept or len(self._kept) < MAX_KEPT:
            return True
        self._asking += 1
        return self._asking % ADMITTED == 0
