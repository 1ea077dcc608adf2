"""Storing slots anew: read, sealed into a new pack under whatever policy and scheme they are to have, and exchanged under what uses them.

What a client sees stays exactly as it is: only the references of versions change, in one step of the manifest. Whatever is not as it was
found stays where it is: what was deleted or overwritten meanwhile, what got another storage class, what is in a bucket that got another
policy. The new pack's table carries the records that the old one's did, so whoever recovers from the stores alone finds the same versions,
whichever of the two is read. It bears a mark beside: see `stored_anew`.

Steps, and what a crash after each leaves. The old packs are read: nothing. The new one is stored: shards under leased ids, which are
collected. The exchange: the old packs have lost what was exchanged, and are garbage where that was the last. If a slot has very many users,
the rest of them follow, some in each step: those that have not followed use the old pack as before, and the next pass meets them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from proxy.codec.format import MAX_PACK_SIZE, MAX_PACK_SLOTS, MAX_TABLE_SIZE
from proxy.codec.geometry import SegmentGeometry
from proxy.codec.slots import SlotContent, arrange, compose
from proxy.engine.ciphers import cipher_of
from proxy.engine.memory.background import BACKGROUND
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.moving.means import Means
from proxy.engine.moving.sources import shard_size
from proxy.engine.packing.pack_segment import PackKind, PackPutter, StoredSegment, pack_geometry, pack_memory
from proxy.engine.placing.placement import Policy
from proxy.engine.repack.bundles import Bundle, LiveSlot
from proxy.engine.repack.gathering import USERS
from proxy.engine.repack.reading import PackReader
from proxy.engine.writing.filling import segment_memory
from proxy.errors import ExtentMissing, IntegrityError, NotEnoughShards
from proxy.keyring import TenantCipher
from proxy.manifest.packs import SlotMove, SlotPlace, SlotUser
from proxy.manifest.records import Extent, ExtentId, Layout, Settlement

MOVES = 500  # users of slots in one step of the manifest, more than a pack has slots: some 20 ms, in which nobody else commits
TABLE_ALLOWANCE = 64 * 1024  # for the budget: the records of hundreds of objects


@dataclass(slots=True)
class Rewritten:
    """What became of a bundle. `trouble`: why some of it stayed as it was."""

    layouts: list[Layout] = field(default_factory=list)  # that took the place of what was
    requests: int = 0
    size_bytes: int = 0  # read and written
    trouble: str = ""

    def note(self, trouble: object) -> None:
        """Keep the first thing that did not work out."""
        self.trouble = self.trouble or str(trouble)


class _Piece(NamedTuple):
    """An object on its way from one pack to another."""

    extent: Extent
    slot: LiveSlot
    content: SlotContent


class _Writing(NamedTuple):
    """What the packs of one bundle are stored by."""

    kind: PackKind
    budget: Budget  # the bundle's part of the background's memory
    putter: PackPutter
    stored_anew: int  # what the labels bear


class SlotRewriter:
    """Stores slots anew, within the background's memory and throttle."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._reader = PackReader(fleet=means.fleet, threads=means.threads, throttle=means.throttle, reporter=means.reporter)

    async def rewrite(self, bundle: Bundle, policy: Policy) -> Rewritten:
        """Store a bundle anew, and let its users have it instead. A pack that cannot be read now is left out, and told as trouble.

        Raises `NotEnoughShards` if too few stores take what is written.
        """
        done = Rewritten()
        cipher = await cipher_of(self._means.manifest, self._means.keyring, bundle.packs[0].extent.layout)
        async with self._means.memory.held(_memory(bundle)) as granted:
            mark = await self._means.mark()
            writing = self._writing(PackKind(policy=policy, scheme=bundle.target.scheme, cipher=cipher), granted, mark)
            for pieces in _fills(await self._read(bundle, cipher, done)):
                await self._write(writing, pieces, done)
        return done

    def _writing(self, kind: PackKind, memory_bytes: int, stored_anew: int) -> _Writing:
        budget = Budget(memory_bytes, wait_seconds=self._means.wait_seconds)
        putter = PackPutter(ledger=self._means.ledger, threads=self._means.threads, delivery=self._means.delivery(budget))
        return _Writing(kind, budget, putter, stored_anew)

    async def _read(self, bundle: Bundle, cipher: TenantCipher, done: Rewritten) -> list[_Piece]:
        pieces: list[_Piece] = []
        for pack in bundle.packs:
            try:
                read = await self._reader.read(pack.extent, pack.slots, cipher)
            except (NotEnoughShards, IntegrityError) as error:
                done.note(error)
                continue
            done.requests += read.requests
            done.size_bytes += read.read_bytes
            pieces += [_Piece(pack.extent, slot, content) for slot, content in zip(pack.slots, read.contents, strict=True)]
        return pieces

    async def _write(self, writing: _Writing, pieces: Sequence[_Piece], done: Rewritten) -> None:
        """Store what fits a pack as one. A body that would waste space in it becomes an extent of its own, as a write would have it."""
        contents, kind = [piece.content for piece in pieces], writing.kind
        composition = compose([len(content.plaintext) for content in contents], kind.scheme.k)
        for place in composition.left_out:
            geometry = SegmentGeometry(kind.scheme, len(contents[place].plaintext))
            held = await self._admitted(writing, geometry, segment_memory(geometry))
            stored = await writing.putter.store_alone(kind, contents[place], held, stored_anew=writing.stored_anew)
            await self._exchange(writing, stored, [(pieces[place], None)], done)
        if len(composition.left_out) == len(contents):
            return
        arrangement = arrange(contents, composition)
        geometry = pack_geometry(kind.scheme, arrangement)
        held = await self._admitted(writing, geometry, pack_memory(geometry))
        stored = await writing.putter.store(kind, contents, arrangement, held, stored_anew=writing.stored_anew)
        await self._exchange(writing, stored, [(pieces[place], offset) for place, offset in stored.offsets.items()], done)

    async def _admitted(self, writing: _Writing, geometry: SegmentGeometry, memory_bytes: int) -> Grant:
        """Wait until the shards may be put, and there is memory for them."""
        for _ in range(geometry.scheme.n):
            await self._means.throttle.take(geometry.cells_size)
        return await writing.budget.acquire(memory_bytes, owner=BACKGROUND)

    async def _exchange(
        self, writing: _Writing, stored: StoredSegment, placed: Sequence[tuple[_Piece, int | None]], done: Rewritten
    ) -> None:
        done.requests += writing.kind.scheme.n
        done.size_bytes += writing.kind.scheme.n * shard_size(stored.layout, stored.layout.segments[0])
        moves = _moves(placed)

        async def commit(settlements: Sequence[Settlement]) -> tuple[ExtentId | None, ExtentId | None]:
            now_ms = self._means.clock.now_ms()
            extent_id = await self._means.manifest.exchange_slots(stored.layout, moves[:MOVES], settlements=settlements, now_ms=now_ms)
            return extent_id, extent_id

        extent_id = await writing.putter.commit(stored, commit)
        if extent_id is None:
            return
        done.layouts.append(stored.layout)
        with suppress(ExtentMissing):  # all that was exchanged is deleted again: the rest stays, and the next pass meets it
            for start in range(MOVES, len(moves), MOVES):
                await self._means.manifest.join_slots(extent_id, moves[start : start + MOVES], now_ms=self._means.clock.now_ms())
            for piece, offset in placed:
                if len(piece.slot.users) >= USERS:
                    await self._follow(writing.kind, piece, extent_id, offset)

    async def _follow(self, kind: PackKind, piece: _Piece, extent_id: ExtentId, offset: int | None) -> None:
        """Let more users of a slot have the new one, those that are to be under the same policy and scheme."""
        place = SlotPlace(offset=piece.slot.offset)
        while True:
            page = await self._means.manifest.walk_slots(piece.extent.id, after=place, limit=MOVES)
            users = [user for user in page if user.offset == piece.slot.offset]
            if moves := [_move(user, offset) for user in users if _wants(user, kind)]:
                await self._means.manifest.join_slots(extent_id, moves, now_ms=self._means.clock.now_ms())
            if len(users) < MOVES:
                return
            place = users[-1].place


def _moves(placed: Sequence[tuple[_Piece, int | None]]) -> list[SlotMove]:
    """Return the moves of all users, one of each slot first: what nobody uses after the first step cannot be joined any more."""
    by_slot = [[_move(user, offset) for user in piece.slot.users] for piece, offset in placed]
    return [move for round_ in zip_longest(*by_slot) for move in round_ if move is not None]


def _move(user: SlotUser, offset: int | None) -> SlotMove:
    return SlotMove(user=user.user, old=user.ref, offset=offset, storage_class=user.storage_class)


def _wants(user: SlotUser, kind: PackKind) -> bool:
    return user.policy == kind.policy.name and kind.policy.scheme_of(user.storage_class) == kind.scheme


def _memory(bundle: Bundle) -> int:
    """Return what reading and writing a bundle takes at most: a whole pack as it is read, the objects, and their pack, half of it empty."""
    reading = max(2 * pack.extent.layout.size for pack in bundle.packs)
    scheme = bundle.target.scheme
    largest = max(slot.size for pack in bundle.packs for slot in pack.slots)
    return reading + bundle.size + pack_memory(SegmentGeometry(scheme, 2 * bundle.size + scheme.k * (largest + TABLE_ALLOWANCE)))


def _fills(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    """Cut what was read into packs. How large the records are is known only now."""
    fill: list[_Piece] = []
    size = records = 0
    for piece in pieces:
        size, records = size + piece.slot.size, records + len(piece.content.record)
        if fill and (size > MAX_PACK_SIZE or len(fill) == MAX_PACK_SLOTS or records > MAX_TABLE_SIZE):
            yield fill
            fill, size, records = [], piece.slot.size, len(piece.content.record)
        fill.append(piece)
    if fill:
        yield fill
