"""Plain reads: a GET or HEAD of the newest version, whole, that asks for nothing else.

The problem. Most reads are of this kind, and answered alike each time. Yet the handlers make the headers from the version's record, member
by member, and the bytes of a small object go through windows and fetches made for large ones. That takes longer than all else together.

The idea. What was answered once is kept as it was written, together with the version and the bucket that it was of; so is where a small
object lies. Records never change: a version that has is another record, and so is its bucket. So nothing that is kept can be out of date.
The first answer is given from there, too. Of most versions it is made without the handler, by the function that makes the handler's
headers: there is no second way to make an answer, which could come to differ from the first. Where a version has something unusual to tell,
or its bytes are not in memory, the handler is asked.

Not kept is what depends on more than these two: how a request is signed, or what else it asks (`is_plain`), an object lock, which is told
only to some, and a key of the keyring or the customer's. Nor is what would take much memory: a large object may have ten thousand extents.
"""

from __future__ import annotations

import msgspec

from proxy.engine.engine import Engine
from proxy.engine.reading.slot_at_hand import SlotAtHand
from proxy.manifest.records import Bucket, Readable, Version
from proxy.s3.model import Operation
from proxy.s3.rendering import Headers
from proxy.server.call import Answer, Call, Download, OwnedBucket
from proxy.server.guard import Guard
from proxy.server.handlers.versions import is_usual, usual_headers
from proxy.server.looks import ASKING_MORE
from proxy.server.visit import Visit
from proxy.server.wire.outlet import header_lines
from proxy.server.wire.response import Response

MAX_KEPT = 5000  # answers, 3 KB each, and what opens a small object: 8 KB alone in its pack, 3 KB with seven others
FEW_EXTENTS = 16  # of a version whose answer is kept, at 120 bytes each: ten thousand take 1.2 MB
MAX_LINES_SIZE = 4 * 1024  # of such an answer: its headers, which are kept as they are sent, and as they were found
ADMITTED = 8  # once there is no room, one in so many takes another's: to keep what is never asked for again costs as much as it may save
_ALWAYS = 2  # parameters: Bucket and Key


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """An answer, and what it was made of."""

    found: Readable
    bucket: Bucket
    lines: bytes  # of its headers, behind the request's id
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
        """Return the answer to a plain read, if it is known and nobody need be waited for. Else see `usual`."""
        kept = self._find(found, bucket)
        if kept is None or visit.cross_origin or visit.pays:
            return None
        if not guard.allows_all:
            guard.confirm(found.version, None)
        return self._told(visit, kept)

    def usual(self, visit: Visit, operation: Operation, found: Readable, held: OwnedBucket, guard: Guard) -> Response | None:
        """Make the answer to a plain read of what has nothing unusual to tell, if nobody need be waited for. Else ask the handler."""
        reads = operation.method != "HEAD" and found.version.size > 0
        known = self._find(found, held.bucket)
        if visit.cross_origin or visit.pays or (known is not None and (known.slot is not None or not reads)):
            return None
        if not is_usual(held.bucket, found.version):
            return None
        slot = self._engine.slot_at_hand(found, held.owner) if reads else None
        body = b"" if not reads else self._read(slot)  # before all else: who has to wait comes this way in vain
        if body is None:
            return None
        if not guard.allows_all:
            guard.confirm(found.version, None)
        headers = usual_headers(operation, held.bucket, found.version)
        return _response(visit, self._keep(found, held.bucket, headers, slot), body)

    def first(self, visit: Visit, found: Readable, bucket: Bucket, answer: Answer) -> Response | None:
        """Keep what the handler answers to a plain read, if it is the same for everybody, and return it if nobody need be waited for."""
        version, attributes = found.version, found.version.attributes
        if not isinstance(answer, Download) or answer.version is not version or answer.length != version.size or answer.status != 200:
            return None
        if attributes.retention is not None or attributes.legal_hold is not None or attributes.encryption is not None:
            return None
        chunks, known = answer.chunks, self._find(found, bucket)
        if chunks is not None and known is not None and known.slot is not None:
            chunks.slot = known.slot  # it was not at hand just now
            return None
        slot = None if chunks is None else chunks.slot_at_hand()
        if slot is None and chunks is not None and answer.length:
            return None  # it could not be used to read again, and would keep all of a large object's extents in memory
        kept = self._keep(found, bucket, answer.headers, slot)
        return None if visit.cross_origin or visit.pays else self._told(visit, kept)

    def _find(self, found: Readable, bucket: Bucket) -> _Kept | None:
        kept = self._kept.get(id(found))
        return kept if kept is not None and kept.found is found and kept.bucket is bucket else None

    def _told(self, visit: Visit, kept: _Kept) -> Response | None:
        reads = kept.length_bytes and visit.request.method != "HEAD"
        body = self._read(kept.slot) if reads else b""
        return None if body is None else _response(visit, kept, body)

    def _read(self, slot: SlotAtHand | None) -> bytes | None:
        return None if slot is None else self._engine.read_at_once(slot)

    def _keep(self, found: Readable, bucket: Bucket, headers: Headers, slot: SlotAtHand | None) -> _Kept:
        """Make what is to be kept of an answer, and keep it if there is room."""
        size = found.version.size
        before = self._kept.get(id(found))
        if slot is None and before is not None and before.found is found:  # a HEAD says nothing of where it lies
            slot = before.slot
        lines = header_lines([("x-amz-id-2", self._host_id), *headers, ("Content-Length", str(size))])
        kept = _Kept(found, bucket, lines, size, slot)
        if _is_small(found.version, lines) and self._is_admitted(found):
            self._kept.pop(id(found), None)
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[id(found)] = kept
        return kept

    def _is_admitted(self, found: Readable) -> bool:
        """Tell whether to keep one more. Once there is no room, few take the place of others."""
        if id(found) in self._kept or len(self._kept) < MAX_KEPT:
            return True
        self._asking += 1
        return self._asking % ADMITTED == 0


def _response(visit: Visit, kept: _Kept, body: bytes) -> Response:
    lines = b"x-amz-request-id: %b\r\n%b" % (visit.request_id.encode(), kept.lines)
    return Response(200, (), body, length_bytes=kept.length_bytes, lines=lines)


def _is_small(version: Version, lines: bytes) -> bool:
    """Tell whether a version and its answer take no more memory than most."""
    return len(version.extents) <= FEW_EXTENTS and len(lines) <= MAX_LINES_SIZE and version.attributes.acl is None
