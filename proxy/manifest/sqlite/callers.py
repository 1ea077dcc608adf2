"""Who asks, of whose bucket, and for what: most requests need one question to the manifest, or none.

Access keys, tenants and buckets hardly ever change, and every request needs them. So they are kept once read, each with the generation that
they were read in: a number that every change of such a row raises, in the same transaction, whichever process makes it. A request asks for
the generation now, together with the version that it is about. If that is another one, the rows are read anew. So nothing is ever stale:
a key that is disabled, by whatever process, is refused from the commit on, and a crash leaves nothing between the change and the number.

That number is alone on a page of the database. While no commit has written that page, it is what it was, and who asks, and of whose
bucket, is known without a question (see `log_head`). Two busy workers commit a thousand times a second.

The whole answer is kept, too, with the log's head as it was before the question was asked. While that is the same, nothing at all has been
committed since, and nobody need ask (`recall`). Once something has, the first who asks learns which rows that has changed (`news`): answers
that were made of others are as good as new. The rows of the rest are read again. If they are the same bytes as before, so is the answer:
nothing is decoded, and whoever has kept something with the caller or the version he was given finds the same ones again.

Objects that were written together are often read together. Where a pack is read for the first time, the rows of the others in it are read
with the one that is asked for, and kept as they are. If nothing has changed them by the time they are asked for, nobody need ask.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from proxy.manifest.records import (
    AccessKey,
    AccessKeyId,
    Bucket,
    BucketName,
    Caller,
    Extent,
    ExtentId,
    Look,
    ObjectKey,
    Readable,
    Tenant,
)
from proxy.manifest.sqlite.layouts import decode_layout
from proxy.manifest.sqlite.news import Moment, News, Row
from proxy.manifest.sqlite.rows import Connection
from proxy.manifest.sqlite.versions import decode_version, find_readable, readable

Decoded = TypeVar("Decoded")
Who = tuple[AccessKeyId | None, BucketName | None]
About = tuple[AccessKeyId | None, BucketName | None, ObjectKey]
MAX_KEPT_BYTES = 2 * 1024 * 1024  # of records, which take a few times as much decoded: a bucket may have many large settings
MAX_ANSWER_BYTES = 2 * 1024 * 1024  # of records of versions: some 6,000 small objects, which take 3 KiB each when decoded
MAX_PACK_BYTES = 512 * 1024  # of their packs' layouts
ADMITTED = 8  # once there is no room, one in so many takes others': to keep what is never asked for again costs as much as it may save
MAX_BESIDE = 1024  # rows of versions that lie in one pack with another that was asked for
MAX_BESIDE_SIZE = 1024  # bytes of such a row's record; of most it is 300
BESIDE_AT_A_TIME = 32  # rows, at 4 us each
WORTH = 256  # rows that may be read so in vain, before they are read of one pack in eight. Each that is used lets four more be read
GIVEN_BACK = 4
FEW_SEGMENTS = 4  # of up to 16 MiB each, at 1 KiB decoded: an answer of more is not kept. An object may have ten thousand

_tenants = msgspec.msgpack.Decoder(Tenant)
_access_keys = msgspec.msgpack.Decoder(AccessKey)
_buckets = msgspec.msgpack.Decoder(Bucket)
# One statement, so that all of it is read at one instant. Each join is a seek.
_PAGE = "(SELECT rootpage FROM sqlite_master WHERE name = 'generation')"
_CALLER = (
    f"SELECT g.number, {_PAGE}, k.record, t.record, b.record, o.record FROM generation g"  # noqa: S608 - of constants
    " LEFT JOIN access_key k ON k.id = ? LEFT JOIN tenant t ON t.id = k.tenant_id"
    " LEFT JOIN bucket b ON b.name = ? LEFT JOIN tenant o ON o.id = b.tenant_id"
)
_GENERATION = f"SELECT number, {_PAGE} FROM generation"  # noqa: S608 - of constants
_NEWEST = (
    "SELECT (SELECT number FROM generation), v.record, v.latest, v.pack, e.layout FROM version v LEFT JOIN extent e ON e.id = v.pack"
    " WHERE v.bucket = ? AND v.key = ? ORDER BY v.order_key LIMIT 1"
)
_BESIDE = (
    "SELECT bucket, key, record FROM version INDEXED BY version_slot"  # noqa: S608 - of constants
    f" WHERE pack = ? AND latest = 1 AND length(record) <= {MAX_BESIDE_SIZE} LIMIT {BESIDE_AT_A_TIME}"
)


class _Newest(NamedTuple):
    """The row of a key's newest version, with the layout of the pack that it is in."""

    record: bytes
    latest: int
    pack: ExtentId | None
    layout: bytes | None


class _Known(NamedTuple):
    """A caller, the generation he is of and the page that had it, and the log's head before both were read last."""

    generation: int
    caller: Caller
    head: bytes | None
    page: int


class _Beside(NamedTuple):
    """The row of a newest version that was read as it lies in a pack with another, and a moment at which it was so."""

    newest: _Newest
    moment: Moment


@dataclass(slots=True)
class _Answer:
    """An answer about a version, what it was made of, and a moment at which that was so."""

    asker: Caller
    newest: _Newest
    is_whole: bool  # with what is needed to read it
    caller: Caller
    rows: tuple[Row, ...]
    moment: Moment | None

    def holds_at(self, moment: Moment) -> bool:
        """Tell whether it is as good as new at the last moment that was asked about."""
        then = self.moment  # once: a thread that reads the row again may set it meanwhile, to None too
        if then is not moment:
            if then is None or not moment.is_none_changed_since(then, self.rows):
                return False
            self.moment = moment
        return True


class KeptCallers:
    """Finds callers, and keeps those found last. Threads may share it."""

    def __init__(
        self,
        may_have_written: Callable[[int, bytes, bytes], bool] = lambda *_: True,
        may_read_more: Callable[[Connection], bool] = lambda _: True,
    ) -> None:
        """`may_have_written` tells it of a page of the database, since one head of the log and up to another, which was just read.

        `may_read_more` tells whether a question may read on this connection what nobody has asked for.
        """
        self._may_have_written = may_have_written
        self._may_read_more = may_read_more
        self._known: dict[Who, _Known] = {}
        self._known_bytes = 0
        self._answers: dict[About, _Answer] = {}
        self._packs: dict[ExtentId, tuple[bytes, Extent]] = {}  # many versions are in one
        self._beside: dict[tuple[int, bytes], _Beside] = {}  # by bucket and key: the oldest first
        self._worth = WORTH  # how many more rows may be read so
        self._answer_bytes = self._pack_bytes = 0
        self._asking = 0  # for room
        self._news = News()

    def recall(
        self, head: bytes, access_key: AccessKeyId | None, bucket_name: BucketName | None, look: Look | None = None
    ) -> Caller | None:
        """Return what was found last, if by this head of the log it is known to be so still; else None. Nobody is asked."""
        if look is None:
            return self._recall_caller(head, (access_key, bucket_name))
        moment = self._news.last
        if moment is None or moment.head != head:
            return None
        answer = self._answers.get((access_key, bucket_name, look.key))
        if answer is None:
            return self._recall_beside((access_key, bucket_name, look.key), moment)
        if (look.to_read and not answer.is_whole) or not answer.holds_at(moment):
            return None
        return answer.caller

    def _recall_beside(self, about: About, moment: Moment) -> Caller | None:
        """Return the answer about a version whose row was read with another's, if it and who asks are as they were."""
        access_key, bucket_name, key = about
        known = self._known.get((access_key, bucket_name)) if self._beside else None
        if known is None or known.generation != moment.generation or known.caller.bucket is None:
            return None
        caller, row = known.caller, key.encode()
        beside = self._beside.pop((known.caller.bucket.id, row), None)
        if beside is None:
            return None
        newest = beside.newest
        if newest.pack is None or newest.layout is None or not moment.is_none_changed_since(beside.moment, (row, newest.pack)):
            return None
        self._worth = min(WORTH, self._worth + GIVEN_BACK)
        found = Readable(version=decode_version(newest.record, newest.latest), extents=(self._pack(newest.pack, newest.layout),))
        return self._keep(about, caller, newest, found, is_whole=True, moment=moment)

    def _recall_caller(self, head: bytes, who: Who) -> Caller | None:
        known = self._known.get(who)
        if known is None or known.head is None:
            return None
        if known.head != head:
            if self._may_have_written(known.page, known.head, head):
                return None
            self._known[who] = known._replace(head=head)
        return known.caller

    def find(
        self,
        connection: Connection,
        access_key: AccessKeyId | None,
        bucket_name: BucketName | None,
        look: Look | None = None,
        *,
        head: bytes | None = None,
    ) -> Caller:
        """Return who asks, and the newest version of the key that is looked up. `head`: the log's, as it was before."""
        key, to_read = (None, False) if look is None else look
        moment = None if look is None or head is None else self._news.catch_up(connection, head)  # before all else is read
        who = (access_key, bucket_name)
        known = self._known.get(who)
        newest = None
        if known is not None and key is not None and known.caller.bucket is not None:
            generation, newest = _newest(connection, known.caller.bucket, key)
        elif known is not None:
            generation, page = _generation(connection)
            known = known._replace(head=head, page=page)
        else:
            generation = -1
        if known is not None and generation == known.generation:
            caller = known.caller
            self._known[who] = known
        else:
            caller = self._read(connection, who, head)
            if key is not None and caller.bucket is not None and (access_key is None or caller.tenant is not None):
                _, newest = _newest(connection, caller.bucket, key)
        if key is None or newest is None or caller.bucket is None:
            return caller
        return self._answer(connection, (*who, key), caller, caller.bucket, newest, to_read=to_read, moment=moment)

    def _read(self, connection: Connection, who: Who, head: bytes | None) -> Caller:
        generation, page, *records = connection.execute(_CALLER, who).fetchone()
        caller = _caller(*records)
        access_key, bucket_name = who
        wanted = (access_key is None) == (caller.tenant is None) and (bucket_name is None) == (caller.owner is None)
        if wanted:  # what is not there is not kept: there is no end of it
            self._known_bytes += sum(len(record) for record in records if record is not None)
            if self._known_bytes > MAX_KEPT_BYTES:
                self._known.clear()
                self._known_bytes = 0
            self._known[who] = _Known(generation, caller, head, page)
        return caller

    def _answer(
        self,
        connection: Connection,
        about: About,
        caller: Caller,
        bucket: Bucket,
        newest: _Newest,
        *,
        to_read: bool,
        moment: Moment | None,
    ) -> Caller:
        """Return the caller with the version found: the same ones as before, if nothing of them has changed."""
        kept = self._answers.get(about)
        # What the row does not tell is the extents of a version that is in no pack: they are loaded each time.
        is_all_told = newest.pack is not None or not (to_read or (kept is not None and kept.is_whole))
        if kept is not None and is_all_told and kept.asker is caller and kept.newest == newest:
            answer = kept
            answer.moment = moment
        else:
            if newest.pack is not None and moment is not None and newest.pack not in self._packs and self._may_read_more(connection):
                self._look_beside(connection, newest, moment)
            found = self._found(connection, bucket, newest, about[2], to_read=to_read)
            if found is None:  # it was replaced, and that one deleted
                return caller
            return self._keep(about, caller, newest, found, is_whole=to_read or newest.pack is not None, moment=moment)
        self._answers[about] = answer
        return answer.caller

    def _keep(self, about: About, caller: Caller, newest: _Newest, found: Readable, *, is_whole: bool, moment: Moment | None) -> Caller:
        """Make an answer, and keep it if there is room."""
        told = _with_found(caller, found)
        if sum(len(extent.layout.segments) for extent in found.extents) <= FEW_SEGMENTS and self._has_room(about, len(newest.record)):
            rows: tuple[Row, ...] = (about[2].encode(), *[extent.id for extent in found.extents])
            self._answers[about] = _Answer(caller, newest, is_whole, told, rows, moment)
        return told

    def _look_beside(self, connection: Connection, newest: _Newest, moment: Moment) -> None:
        """Read the rows of the others in a pack that is read for the first time. It takes a third of a question for each."""
        if self._worth <= 0:
            self._asking += 1
            if self._asking % ADMITTED:
                return
        rows = connection.execute(_BESIDE, (newest.pack,)).fetchall()
        self._worth -= len(rows)
        for bucket, key, record in rows:
            self._beside[bucket, key] = _Beside(_Newest(record, 1, newest.pack, newest.layout), moment)
        with suppress(RuntimeError, StopIteration):  # as in `_has_room`
            while len(self._beside) > MAX_BESIDE:
                self._beside.pop(next(iter(self._beside)), None)

    def _found(self, connection: Connection, bucket: Bucket, newest: _Newest, key: ObjectKey, *, to_read: bool) -> Readable | None:
        version = decode_version(newest.record, newest.latest)
        if newest.pack is not None and newest.layout is not None:
            return Readable(version=version, extents=(self._pack(newest.pack, newest.layout),))
        if not to_read:
            return Readable(version=version)
        return readable(connection, version) or find_readable(connection, bucket.id, key)

    def _pack(self, extent_id: ExtentId, layout: bytes) -> Extent:
        kept, extent = self._packs.get(extent_id, (None, None))
        if extent is None or kept != layout:
            extent = Extent(id=extent_id, layout=decode_layout(layout))
            self._pack_bytes += len(layout) - len(kept or b"")
            if self._pack_bytes > MAX_PACK_BYTES:
                self._packs.clear()
                self._pack_bytes = len(layout)
            self._packs[extent_id] = layout, extent
        return extent

    def _has_room(self, about: About, size_bytes: int) -> bool:
        """Tell whether to keep one more answer, and drop the oldest for it as far as that is necessary."""
        if about in self._answers:
            self._drop(about)
        elif self._answer_bytes + size_bytes > MAX_ANSWER_BYTES:
            self._asking += 1
            if self._asking % ADMITTED:
                return False
        self._answer_bytes += size_bytes
        with suppress(RuntimeError, StopIteration):  # another thread has changed it just now, or all are gone
            while self._answer_bytes > MAX_ANSWER_BYTES:
                self._drop(next(iter(self._answers)))
        return True

    def _drop(self, about: About) -> None:
        if (dropped := self._answers.pop(about, None)) is not None:
            self._answer_bytes -= len(dropped.newest.record)


def _caller(key: bytes | None, tenant_record: bytes | None, bucket: bytes | None, owner: bytes | None) -> Caller:
    tenant = _decoded(_tenants, tenant_record)
    return Caller(
        access_key=_decoded(_access_keys, key),
        tenant=tenant,
        bucket=_decoded(_buckets, bucket),
        owner=tenant if owner == tenant_record else _decoded(_tenants, owner),
    )


def _generation(connection: Connection) -> tuple[int, int]:
    """Return the generation, and the page that has it."""
    generation, page = connection.execute(_GENERATION).fetchone()
    return generation, page


def _newest(connection: Connection, bucket: Bucket, key: ObjectKey) -> tuple[int, _Newest | None]:
    """Return the generation, and the newest version of a key at the same instant."""
    row = connection.execute(_NEWEST, (bucket.id, key.encode())).fetchone()
    return (_generation(connection)[0], None) if row is None else (row[0], _Newest(*row[1:]))


def _with_found(caller: Caller, found: Readable) -> Caller:
    return Caller(access_key=caller.access_key, tenant=caller.tenant, bucket=caller.bucket, owner=caller.owner, found=found)


def _decoded(decoder: msgspec.msgpack.Decoder[Decoded], record: bytes | None) -> Decoded | None:
    return None if record is None else decoder.decode(record)
