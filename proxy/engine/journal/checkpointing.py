"""The worker that makes checkpoints when they are due, and removes what they make useless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from proxy.clock import Clock
from proxy.codec.format import RUN_PREFIX, parse_copy_name
from proxy.engine.journal.checkpoint import CheckpointMaker
from proxy.engine.journal.flush import Flusher
from proxy.engine.journal.reading import bounded_names
from proxy.engine.journal.tidy import Tidier
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.workers import Progress
from proxy.errors import StoreError
from proxy.manifest.copies import STATE as COPIES
from proxy.manifest.copies import decode_report
from proxy.manifest.journal import CheckpointState
from proxy.manifest.protocol import Manifest
from proxy.stores.protocol import Store

MAX_SEGMENTS = 5000  # of the journal behind a checkpoint: a recovery reads each with a request for each of k shards
NOTED_AT_ONCE = 5000
IDLE_SECONDS = 10.0  # to look costs a few reads of the manifest; a drain may wait for it
WANTED = "checkpoint-wanted"  # state: somebody asks for one


async def request_checkpoint(manifest: Manifest) -> None:
    """Have a checkpoint made soon. All that it needs is written anew if it lies where the journal's policy would not put it now."""
    await manifest.save_state(WANTED, b"1")


class CheckpointWorker:
    """Makes a checkpoint when the journal behind the last one has outgrown a share of it."""

    name = "checkpoint"
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(
        self,
        manifest: Manifest,
        writer: CopyWriter,
        flusher: Flusher,
        stores: Mapping[str, Store],
        clock: Clock,
        *,
        maker: CheckpointMaker,
        tidier: Tidier,
        share: float,
        min_bytes: int,
        keep_seconds: float,
    ) -> None:
        self._manifest = manifest
        self._writer = writer
        self._flusher = flusher
        self._stores = stores
        self._clock = clock
        self._maker = maker
        self._tidier = tidier
        self._share = share
        self._min_bytes = min_bytes
        self._keep_ms = int(keep_seconds * 1000)
        self._damaged: tuple[int, frozenset[bytes]] = 0, frozenset()  # segments of runs, as of the checkpoint of this number

    async def step(self) -> Progress:
        state = await self._state()
        if state.making is not None:
            made = await self._maker.advance(state, state.making, await self._damaged_segments(state.making.number))
            return self._progress(idle=made)
        if await self._is_due(state):
            return self._progress(idle=not await self._begin())
        if state.last is not None and await self._manifest.forget_noted(limit=NOTED_AT_ONCE):
            return self._progress(idle=False)
        if state.superseded is not None and state.last is not None:
            return self._progress(idle=not await self._tidier.tidy(state.superseded, state.last))
        return self._progress(idle=True)

    async def _state(self) -> CheckpointState:
        return await self._manifest.checkpoint_state(before_ms=self._clock.now_ms() - self._keep_ms)

    async def _is_due(self, state: CheckpointState) -> bool:
        if await self._manifest.load_state(WANTED) is not None or state.gap:
            return True
        if state.last is not None and state.last.stores != self._stores_of_policy():
            return True
        allowed = max(self._min_bytes, self._share * state.last.size_bytes if state.last else 0)
        return state.journal_bytes > allowed or state.journal_segments > MAX_SEGMENTS

    async def _begin(self) -> bool:
        await self._flusher.mark()
        begun = await self._manifest.begin_checkpoint(stores=self._stores_of_policy(), now_ms=self._clock.now_ms())
        if begun is not None:
            await self._manifest.save_state(WANTED, None)
        return begun is not None

    def _stores_of_policy(self) -> tuple[str, ...]:
        return tuple(sorted(str(info.name) for info in self._writer.policy.stores))

    async def _damaged_segments(self, number: int) -> frozenset[bytes]:
        """Return the segments of runs of which a shard is missing: once a checkpoint, from listings. A silent store tells nothing."""
        if self._damaged[0] != number:
            live = await self._manifest.live_runs()
            found: set[tuple[bytes, int]] = set()
            identity = (await self._manifest.find_epoch()).identity
            silent = 0
            for store in self._stores.values() if live else ():
                try:
                    async for name in bounded_names(store, f"{RUN_PREFIX}{identity}/"):
                        copy = parse_copy_name(name)
                        if copy is not None and copy.segment_id in live:
                            found.add((copy.segment_id, copy.shard_index))
                except StoreError:
                    silent += 1
            n = self._writer.policy.scheme.n
            counted = Counter(segment_id for segment_id, _ in found)
            lost = {segment_id for segment_id in live if counted[segment_id] + silent < n}
            self._damaged = number, frozenset(lost | await self._found_by_scrub())
        return self._damaged[1]

    async def _found_by_scrub(self) -> set[bytes]:
        report = decode_report(await self._manifest.load_state(COPIES))
        return set() if report is None else {copy.segment_id for copy in report.damaged}

    def _progress(self, *, idle: bool) -> Progress:
        made = self._maker.take_made()
        requests, self._tidier.requests = self._tidier.requests, 0
        return Progress(
            idle=idle,
            done=made.rows,
            requests=made.requests + requests,
            size_bytes=made.size_bytes,
            trouble=self._tidier.trouble,
        )
