"""Writing the manifest's copy: sealed like any segment, under the key that comes from the root key, and names of its own.

A **copy** is one journal segment, one checkpoint, or a run. It is coded, sealed, dealt and put like a segment of an object, under the
journal's policy: whoever may not read objects may not read the manifest, and what may fail may fail here, too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from concurrent.futures import Executor

from proxy.codec.format import JOURNAL_KEY_ID, SEGMENT_ID_SIZE, CopyName
from proxy.codec.geometry import SegmentGeometry
from proxy.codec.label import Label, encode_label
from proxy.codec.segment import SegmentKeys, SegmentSealer, Shards
from proxy.engine.placing.placement import Policy
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import Placed, ShardPutter
from proxy.keyring import TenantCipher
from proxy.manifest.records import Layout, SegmentId

INLINE_SIZE = 64 * 1024  # below this, sealing costs less than handing it to a thread
LATE_BYTES = 4 * 1024 * 1024  # of puts that are late, in memory: a store that hangs must not fill it


class CopyWriter:
    """Seals copies, and puts them under a policy."""

    def __init__(self, putter: ShardPutter, policy: Policy, cipher: TenantCipher, tasks: BackgroundTasks, threads: Executor) -> None:
        self._policy = policy
        self._putter = putter
        self._cipher = cipher
        self._tasks = tasks
        self._threads = threads
        self._late: dict[asyncio.Task[None], int] = {}

    @property
    def policy(self) -> Policy:
        """The policy without the stores that are being left: what still lies there is not what would be written now."""
        return self._putter.staying(self._policy)

    def begin(self, prefix: str, identity: str, number: int) -> BegunCopy:
        """Begin a copy, which may have several segments that are not all in memory at once."""
        return BegunCopy(self, prefix, identity, number, *self._cipher.new_data_key())

    async def put_segment(self, name: CopyName, data_key: bytes, plaintext: bytes, label: Label) -> Placed:
        scheme = self.policy.scheme
        geometry = SegmentGeometry(scheme, len(plaintext))
        keys = SegmentKeys(geometry, segment_id=name.segment_id, data_key=data_key, tenant_key_id=JOURNAL_KEY_ID)

        def seal() -> Shards:
            sealer = SegmentSealer(keys)
            sealer.add([plaintext])
            return sealer.shards(label=encode_label(label), wrapped_shares=self._cipher.share_data_key(data_key, keys))

        if len(plaintext) <= INLINE_SIZE:
            shards = seal()
        else:
            shards = await asyncio.get_running_loop().run_in_executor(self._threads, seal)
        placed = await self._putter.put(
            self.policy,
            scheme,
            SegmentId(name.segment_id),
            shards,
            naming=lambda segment_id, index: str(name._replace(segment_id=segment_id, shard_index=index)),
        )
        self._follow(placed, geometry.cells_size)
        return placed

    def _follow(self, placed: Placed, shard_bytes: int) -> None:
        """Let late puts end: recovery finds what arrives by its name. Of too many, the oldest are given up."""
        if not placed.tail:
            return
        for put in placed.tail.values():
            self._late[put] = shard_bytes
            put.add_done_callback(lambda ended: self._late.pop(ended, None))
        while sum(self._late.values()) > LATE_BYTES:
            oldest = next(iter(self._late))
            del self._late[oldest]
            oldest.cancel()
        self._tasks.start(_ended(tuple(placed.tail.values())))


async def _ended(puts: Iterable[asyncio.Task[None]]) -> None:
    """Wait for puts, whatever becomes of them."""
    try:
        await asyncio.gather(*puts, return_exceptions=True)
    finally:
        for put in puts:
            put.cancel()


class BegunCopy:
    """A copy on its way to the stores, segment by segment."""

    def __init__(self, writer: CopyWriter, prefix: str, identity: str, number: int, data_key: bytes, wrapped_key: bytes) -> None:
        self._writer = writer
        self._prefix, self._identity, self._number = prefix, identity, number
        self._data_key, self._wrapped_key = data_key, wrapped_key
        self._placed: list[tuple[Placed, int]] = []

    @property
    def size_bytes(self) -> int:
        """How much plaintext has been added."""
        return sum(size for _, size in self._placed)

    async def add(self, plaintext: bytes) -> None:
        """Store the next segment. Returns when the policy's promise holds; raises `NotEnoughShards` if it cannot."""
        segment_id = secrets.token_bytes(SEGMENT_ID_SIZE)
        name = CopyName(self._prefix, self._identity, self._number, segment_id, 0)
        label = Label(bucket="", key=f"{self._prefix}{self._number}", segment=len(self._placed), offset=self.size_bytes)
        placed = await self._writer.put_segment(name, self._data_key, plaintext, label)
        self._placed.append((placed, len(plaintext)))

    def layout(self) -> Layout:
        """Return what has been stored."""
        policy = self._writer.policy
        return Layout(
            size=self.size_bytes,
            k=policy.scheme.k,
            m=policy.scheme.m,
            policy=policy.name,
            tenant_key_id=JOURNAL_KEY_ID,
            wrapped_key=self._wrapped_key,
            segments=tuple(placed.record(size) for placed, size in self._placed),
        )
