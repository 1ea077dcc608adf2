"""What may go into a pack, and bringing it here whole: all its bytes, checked, under memory that covers it until its pack is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from msgspec import Struct, msgpack
from msgspec.structs import replace

from proxy.codec.geometry import Scheme
from proxy.codec.slots import ALWAYS_PACKED_SIZE, SlotContent
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.writing.body import Body, HereAlready, OpenEnded
from proxy.engine.writing.destination import VersionDestination
from proxy.errors import BudgetExhausted
from proxy.manifest.drafts import NO_CONDITIONS, VersionDraft
from proxy.manifest.records import Version

RECORD_ALLOWANCE = 1024  # for the budget: a key of 255 bytes, and some metadata
BARE_RECORD_SIZE = 512  # of a record without its key and attributes, and more
ENTRY_ALLOWANCE = 64  # names of fields, and numbers
PACK_FOOTER_ALLOWANCE = 1024  # the label of a pack has no record


class Arrived(Struct, eq=False):
    """A body that is here whole and has passed every check. `outcome`: the version that it becomes, or why it does not."""

    destination: VersionDestination
    draft: VersionDraft
    content: SlotContent
    held: Grant
    outcome: asyncio.Future[Version]
    size_bytes: int
    entry_bytes: int  # about how many it takes in a pack's table

    def gather(self, when_revoked: Callable[[], None]) -> None:
        """Begin to wait until it is on its way. `when_revoked` is called if another tenant is to have its memory."""
        self.held.claim_bytes = self.held.size_bytes  # it needs no more
        self.held.lie_ready(when_revoked)

    def depart(self) -> None:
        """Say that it is on its way to the stores, and cannot be taken back."""
        self.held.leave_ready()

    def send_away(self, reason: BudgetExhausted | None = None) -> None:
        """Take it back, while it gathers."""
        self.held.leave_ready()
        self.held.release()
        if reason is None:
            self.outcome.cancel()
        else:
            self.end(reason)

    def let_go(self) -> None:
        """Drop the bytes: the stores have them."""
        self.content = replace(self.content, plaintext=b"")

    def end(self, outcome: Version | BaseException) -> None:
        """Tell what became of it, if somebody still waits for that."""
        if self.outcome.done():
            return
        if isinstance(outcome, Version):
            self.outcome.set_result(outcome)
        elif isinstance(outcome, asyncio.CancelledError):
            self.outcome.cancel()
        else:
            self.outcome.set_exception(outcome)


def may_be_packed(destination: VersionDestination, body: Body, below_size: int) -> bool:
    """Tell whether a body may go into a pack.

    One with a condition may not: if that does not hold, its record stays in the table of a pack that lives on, and a recovery would take it
    for one that was committed. Nor may one under a customer's key, nor one whose end is not known yet.
    """
    return (
        0 < body.size_bytes < below_size
        and destination.conditions == NO_CONDITIONS
        and not destination.customer_salt
        and not isinstance(body, OpenEnded)
    )


def read_at_once(destination: VersionDestination, body: Body, budget: Budget) -> Arrived | None:
    """As `read_whole`, of a body that is here, if there is memory for it. None of any other, of which nothing has been read."""
    if not isinstance(body, HereAlready):
        return None
    held = budget.claim_at_once(_memory(destination, body), owner=destination.bucket.tenant_id)
    if held is None:
        return None
    try:
        whole = body.take_at_once()
        if whole is None:
            held.release()
            return None
        body.digest(whole)
        return _arrived(destination, body, whole, held)
    except BaseException:
        held.release()
        raise


async def read_whole(destination: VersionDestination, body: Body, budget: Budget) -> Arrived:
    """Read a body at its client's pace, and check it. Raises what the body raises, and `BudgetExhausted`."""
    memory = _memory(destination, body)
    held = budget.claim(memory + body.memory_to_fill(body.size_bytes), owner=destination.bucket.tenant_id)
    try:
        whole = await _read(body, held)
        held.keep(memory)
        return _arrived(destination, body, whole, held)
    except BaseException:
        held.release()
        raise


def _memory(destination: VersionDestination, body: Body) -> int:
    return memory_in_pack(body.size_bytes, destination.scheme, record_size=_record_size(destination))


def _arrived(destination: VersionDestination, body: Body, whole: bytes, held: Grant) -> Arrived:
    """Check a body, all of which has been hashed."""
    draft = destination.record(body.finish(), len(whole))
    bucket, key, version_id, record = destination.bucket.name, destination.key, destination.version_id, msgpack.encode(draft)
    entry_bytes = len(bucket) + len(key.encode()) + len(version_id) + len(record) + ENTRY_ALLOWANCE
    content = SlotContent(bucket, key, version_id, record, whole)
    return Arrived(destination, draft, content, held, asyncio.get_running_loop().create_future(), len(whole), entry_bytes)


async def _read(body: Body, held: Grant) -> bytes:
    chunks = body.chunks()
    try:
        return await _read_chunks(chunks, body, held)
    finally:
        if isinstance(chunks, AsyncGenerator):  # left to the garbage collector, a copy's requests to stores would go on
            await chunks.aclose()


async def _read_chunks(chunks: AsyncIterator[bytes | memoryview], body: Body, held: Grant) -> bytes:
    if body.memory_to_fill(body.size_bytes):  # it reads by itself, and nobody need wait for a client: it is not to be revoked
        await held.grow(held.claim_bytes)
        return await _rest(b"", chunks, body, held)
    first = await anext(chunks)  # a client that sends nothing takes no memory from those that do
    async with held.filling():
        await held.grow(held.claim_bytes)
        return await _rest(first, chunks, body, held)


async def _rest(first: bytes | memoryview, chunks: AsyncIterator[bytes | memoryview], body: Body, held: Grant) -> bytes:
    """Return the body that begins so. It ends behind its last byte, where trailers are; the body raises if it is shorter or longer."""
    pieces = [first]
    async for piece in chunks:
        held.touch()
        pieces.append(piece)
    for piece in pieces:
        body.digest(piece)
    return b"".join(pieces)


def _record_size(destination: VersionDestination) -> int:
    """Return about how long the record will be: clients say what is in most of it."""
    return BARE_RECORD_SIZE + 2 * len(destination.key.encode()) + len(msgpack.encode(destination.attributes))


def memory_in_pack(size: int, scheme: Scheme, *, record_size: int = RECORD_ALLOWANCE) -> int:
    """Return what a body takes at most from its first byte until its pack is stored: itself, and its part of plaintext and shards.

    All together have what their pack takes, however they are composed. It wastes no more than it has, if its largest body is larger than
    what is always packed; else each column is at most as much longer than the mean as the largest body.
    """
    wide = size * (2 if size > ALWAYS_PACKED_SIZE else scheme.k + 1) + scheme.k * max(record_size, RECORD_ALLOWANCE)
    return size + wide + scheme.n * (wide // scheme.k + PACK_FOOTER_ALLOWANCE)
