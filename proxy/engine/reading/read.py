"""The read path: from a version's extents to authenticated plaintext, whatever up to m stores do.

A range is cut into windows of whole stripes (`windows`), each of which is fetched (`fetch`) while the one before it is being sent, or
sooner (`read_ahead`).

A client that takes nothing keeps its answer, but not the memory: when others wait for memory, its `Reading` is paused and fetches again
later.

The source of a copy is read in the memory of the segment it is copied into: in runs as long as that segment. While the copy
waits for the memory of its next segment, nothing of the next run is fetched, and nothing of the last one is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import NamedTuple

from proxy.codec.customer import CustomerKey, Keystream
from proxy.engine.cache.cache import SealedCache
from proxy.engine.damage import DamageReporter
from proxy.engine.memory.budget import BLOCKED_SECONDS, Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.placing.fleet import Fleet
from proxy.engine.reading.fetch import INLINE_SIZE, Upstream, WindowFetch
from proxy.engine.reading.keys_in_use import KeysInUse
from proxy.engine.reading.read_ahead import Fetched, ReadAhead
from proxy.engine.reading.slot_at_hand import SlotAtHand
from proxy.engine.reading.slot_fetch import SlotFetch
from proxy.engine.reading.windows import (
    FAR_WINDOW_SIZE,
    FIRST_WINDOW_SIZE,
    RESUMED_WINDOW_SIZE,
    SOURCE_WINDOW_SIZE,
    SlotWindow,
    Stored,
    Window,
    slot_of,
    source_memory,
    touched_extents,
)
from proxy.errors import CustomerKeyMissing
from proxy.keyring import TenantCipher
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, Version

GROUP_SIZE = 256 * 1024  # of one write: it stays in memory while a client takes nothing

Pieces = AsyncGenerator[bytes | memoryview]
Groups = AsyncGenerator[list[memoryview]]


class Source(NamedTuple):
    """What a copy reads, and what that takes beside the writer's memory, whatever there is to write: a slot is always read whole."""

    pieces: Pieces
    slot_memory: int = 0

    def memory_to_fill(self, size_bytes: int) -> int:
        """Return what `pieces` holds at most while it yields the next `size_bytes`."""
        return max(source_memory(size_bytes), self.slot_memory)


class ReadKeys(NamedTuple):
    """What it takes to read a version: the cipher of its data keys, and the customer's key if it is under one."""

    cipher: TenantCipher
    owner: str  # whose share of the memory it takes
    customer: CustomerKey | None = None
    as_stored: bool = False  # enciphered as it is, to be stored elsewhere

    def keystream(self, window: Window | SlotWindow) -> Keystream | None:
        """Return what deciphers a window. Raises `CustomerKeyMissing`: what is enciphered never passes for plaintext."""
        salt = window.extent.layout.customer_salt
        if not salt or self.as_stored:
            return None
        if self.customer is None:
            raise CustomerKeyMissing(f"extent {window.extent.id} is under a customer's key")
        return self.customer.stream(salt, window.offset)


class Reader:
    """Streams versions out of the fleet."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        fleet: Fleet,
        budget: Budget,
        threads: Executor,
        reporter: DamageReporter,
        cache: SealedCache | None = None,
    ) -> None:
        self._manifest = manifest
        self._budget = budget
        self._threads = threads
        self._upstream = Upstream(fleet, threads, reporter, KeysInUse(), cache)

    async def open(self, version: Version, keys: ReadKeys, start: int, length: int, *, extents: Sequence[Extent] = ()) -> Reading:
        """Return the plaintext bytes start .. start+length-1, as they are fetched.

        `extents` are all of the version's, if they are known. Otherwise they are loaded: `ExtentMissing` if the version is gone.

        The iterator raises `NotEnoughShards` or `KeyUnavailable`, perhaps in the middle.
        """
        if not extents:
            extents, start = await self._load(version, start, length)
        return Reading(self, Stored(extents, slot_of(version.extents)), keys, start, length)

    def slot_at_hand(self, stored: Stored, cipher: TenantCipher) -> SlotAtHand | None:
        """Return what reads all of a version at once, time and again, if it is one slot of a pack, and under no customer's key."""
        slot, extents = stored.slot, stored.extents
        if slot is None or slot.offset is None or not extents or extents[0].layout.customer_salt:
            return None
        return SlotAtHand(extents[0], slot.offset, slot.size, cipher, self._upstream)

    def read_at_once(self, slot: SlotAtHand) -> bytes | None:
        """Return the object if neither stores nor memory have to be waited for; else None."""
        return slot.read() if self._budget.has_room(slot.memory_bytes) else None

    def is_far(self, stored: Stored) -> bool:
        """Tell whether it takes a round trip worth hiding to read the first bytes."""
        return any(self._upstream.fleet.are_far(extent.layout.segments[0].stores) for extent in stored.extents[:1])

    async def read(
        self, windows: Iterator[Window | SlotWindow], keys: ReadKeys, passing: deque[Grant] | None, *, is_far: bool = False
    ) -> Groups:
        """Return the windows' plaintext, in groups of pieces. While one is passed on, `passing` has the grant of its window.

        Without `passing`, the memory is the caller's.
        """
        charged = passing is not None
        ahead = ReadAhead(
            windows,
            partial(self._begin, keys=keys, charged=charged),
            self._budget,
            is_far=is_far,
            at_hand=partial(self._at_hand, keys=keys, charged=charged),
        )
        try:
            while fetched := await ahead.take():
                pieces, held = fetched
                del fetched
                try:
                    if passing is not None:
                        passing.append(held)
                    pieces.reverse()
                    while pieces:  # what has been passed on is not kept beside the rest
                        yield _group(pieces)
                finally:
                    if passing is not None:
                        passing.clear()
                    held.release()
        finally:
            await ahead.drop()

    async def open_source(self, version: Version, keys: ReadKeys, start: int, length: int, *, run_size: int) -> Source:
        """As `open`, for a copy into segments of `run_size`, whose writer has memory for the source as well."""
        extents, start = await self._load(version, start, length)
        stored = Stored(extents, slot_of(version.extents))
        return Source(self._read_runs(stored, keys, start, length, run_size), stored.slot_memory)

    def open_extent(self, extent: Extent, keys: ReadKeys, *, run_size: int) -> Pieces:
        """Return what is coded in an extent, to be written into segments of `run_size`: of a customer's, enciphered as it is.

        Its writer has the memory, as in `open_source`.
        """
        return self._read_runs(Stored((extent,)), keys, 0, extent.layout.size, run_size)

    async def _load(self, version: Version, start: int, length: int) -> tuple[Sequence[Extent], int]:
        # All extents that will be read, at once: were the version deleted meanwhile, its shards stay a while, but not its extents.
        refs, start = touched_extents(version.extents, start, length)
        if not refs:
            return (), start
        return await self._manifest.load_extents([ref.id for ref in refs]), start

    async def _read_runs(self, stored: Stored, keys: ReadKeys, start: int, length: int, run_size: int) -> Pieces:
        for low in range(start, start + length, run_size):
            run = min(run_size, start + length - low)
            windows = stored.windows(low, run, first_size=SOURCE_WINDOW_SIZE, size=SOURCE_WINDOW_SIZE)
            async with aclosing(self.read(windows, keys, None)) as groups:
                async for group in groups:
                    for piece in group:
                        yield piece

    def _begin(self, window: Window | SlotWindow, keys: ReadKeys, *, charged: bool) -> asyncio.Task[Fetched]:
        fetch = self.fetch if isinstance(window, SlotWindow) else self._fetch_ahead  # nothing comes behind a slot
        return asyncio.create_task(fetch(window, keys, charged=charged))

    async def _fetch_ahead(self, window: Window | SlotWindow, keys: ReadKeys, *, charged: bool) -> Fetched:
        """As `fetch`. What waits to be sent takes no more memory than its plaintext: there is more for what is still to be fetched."""
        pieces, held = await self.fetch(window, keys, charged=charged)
        held.keep(sum(map(len, pieces)))
        return pieces, held

    async def fetch(self, window: Window | SlotWindow, keys: ReadKeys, *, charged: bool = True, slot: SlotAtHand | None = None) -> Fetched:
        """Return a window's plaintext and the memory granted for it. What is at hand costs no task, and no turn of the loop.

        `slot` is that of the window, if it is known.
        """
        keystream = keys.keystream(window)
        fetch = self._fetch_of(window, keys, slot)
        with fetch.booked():
            held = await self._budget.acquire(fetch.memory_bytes if charged else 0, owner=keys.owner)
            try:
                pieces = fetch.at_hand()
                if pieces is None:
                    pieces = await fetch.run()
                return pieces if keystream is None else await self._deciphered(pieces, keystream, window.length), held
            except BaseException:
                held.release()
                raise

    def _at_hand(self, window: Window | SlotWindow, keys: ReadKeys, *, charged: bool) -> Fetched | None:
        """As `fetch`, if neither stores nor memory have to be waited for; else None."""
        keystream = keys.keystream(window)
        fetch = self._fetch_of(window, keys)
        held = self._budget.take_at_once(fetch.memory_bytes if charged else 0, owner=keys.owner)
        if held is None:
            return None
        try:
            pieces = fetch.at_hand()
        except BaseException:
            held.release()
            raise
        if pieces is None:
            held.release()
            return None
        return (pieces if keystream is None else _decipher(pieces, keystream)), held

    def _fetch_of(self, window: Window | SlotWindow, keys: ReadKeys, slot: SlotAtHand | None = None) -> WindowFetch | SlotFetch:
        if isinstance(window, SlotWindow):
            return SlotFetch(window, keys.cipher, self._upstream, slot)
        return WindowFetch(window, keys.cipher, self._upstream)

    async def _deciphered(self, pieces: list[memoryview], keystream: Keystream, size_bytes: int) -> list[memoryview]:
        """Put the plaintext in the place of the pieces, one after the other: their memory is that of the window."""
        if size_bytes <= INLINE_SIZE:
            return _decipher(pieces, keystream)
        return await asyncio.get_running_loop().run_in_executor(self._threads, _decipher, pieces, keystream)


class Reading(AsyncIterator[memoryview]):
    """Bytes on their way to a client, in pieces. Whoever has asked for some of them closes it with `aclose`."""

    def __init__(self, reader: Reader, stored: Stored, keys: ReadKeys, start: int, length: int) -> None:
        self._reader = reader
        self._stored = stored
        self._keys = keys
        self._position = start
        self._end = start + length
        self._is_far = length > FIRST_WINDOW_SIZE and reader.is_far(stored)
        self._first_size = FAR_WINDOW_SIZE if self._is_far else FIRST_WINDOW_SIZE
        self._groups: Groups | None = None
        self._begun: list[memoryview] = []  # the rest of a group of which pieces were taken
        self._held: deque[Grant] = deque(maxlen=1)
        self.slot: SlotAtHand | None = None  # `slot_at_hand`, if somebody has it already

    async def __anext__(self) -> memoryview:
        group = await self.group()
        if not group:
            raise StopAsyncIteration
        piece, *self._begun = group
        return piece

    def slot_at_hand(self) -> SlotAtHand | None:
        """As `Reader.slot_at_hand`, of what is read here."""
        if self.slot is None:
            self.slot = self._reader.slot_at_hand(self._stored, self._keys.cipher)
        return self.slot

    async def whole(self) -> bytes:
        """Return all that is left, at once, for an answer that is small: it is fetched without a task, and nothing is read ahead."""
        parts: list[bytes | memoryview] = [*self._begun]
        for window in self._stored.windows(self._position, self._end - self._position):
            pieces, held = await self._reader.fetch(window, self._keys, slot=self.slot)
            parts += pieces
            held.release()
        return b"".join(parts)

    async def group(self) -> list[memoryview]:
        """Return the next pieces, up to `GROUP_SIZE` bytes, to be sent by one write; none at the end."""
        group, self._begun = self._begun, []
        if not group:
            if self._groups is None:
                windows = self._stored.windows(self._position, self._end - self._position, first_size=self._first_size)
                self._groups = self._reader.read(windows, self._keys, self._held, is_far=self._is_far)
            group = await anext(self._groups, [])
            self._position += sum(map(len, group))
        return group

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """The time in which pieces are passed on. Raises `BudgetExhausted` in the block when others want the memory: then `pause`."""
        if not self._held:
            yield
            return
        async with self._held[0].filling(idle_seconds=BLOCKED_SECONDS):
            yield

    async def pause(self) -> None:
        """Give back all memory. What is beyond the last piece is fetched again when it is asked for."""
        self._position -= sum(map(len, self._begun))
        self._begun = []
        self._first_size, self._is_far = RESUMED_WINDOW_SIZE, False
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading."""
        groups, self._groups = self._groups, None
        if groups is not None:
            await groups.aclose()


def _decipher(pieces: list[memoryview], keystream: Keystream) -> list[memoryview]:
    for number, piece in enumerate(pieces):
        pieces[number] = memoryview(keystream.apply(piece))
    return pieces


def _group(pieces: list[memoryview]) -> list[memoryview]:
    """Take the next pieces off the end of a list: as many as one write of the server sends."""
    group = [pieces.pop()]
    size = len(group[0])
    while pieces and size + len(pieces[-1]) <= GROUP_SIZE:
        group.append(pieces.pop())
        size += len(group[-1])
    return group
