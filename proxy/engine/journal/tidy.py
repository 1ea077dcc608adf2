"""Removing what checkpoints have made useless: earlier journal segments, checkpoints, and runs that nobody refers to any more.

By their names, and not from the manifest's queue of garbage: that is journaled, so each journal segment would later cost the journal more
rows than it has itself. A name tells the number, and of runs the manifest knows which are in use. So a listing shows what is left of them,
too, whatever became of it: attempts that failed, what a manifest left behind that was recovered since, what a store did not delete.

What a recovery needs that is under way stays: a checkpoint, and the journal from it on, is only removed when there has been a newer one for
some time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import msgspec

from proxy.clock import Clock
from proxy.codec.format import CHECKPOINT_PREFIX, JOURNAL_PREFIX, RUN_PREFIX, CopyName, parse_copy_name
from proxy.engine.journal.reading import bounded_names
from proxy.engine.throttle import Throttle
from proxy.errors import StoreError
from proxy.manifest.journal import CheckpointRecord
from proxy.manifest.protocol import Manifest
from proxy.stores.protocol import ShardName, Store

STATE = "journal-tidied"  # by store, the number below which nothing is left
STEP_SECONDS = 15.0
_numbers = msgspec.msgpack.Decoder(dict[str, int])


def is_useless(copy: CopyName, base: CheckpointRecord, last: CheckpointRecord, live: Collection[bytes]) -> bool:
    """Tell whether no recovery needs this. `base` is the oldest checkpoint that one may begin with, `last` the newest. Pure."""
    if copy.prefix == RUN_PREFIX:  # those of a checkpoint that is being made have a higher number
        return copy.number <= last.number and copy.segment_id not in live
    return copy.number < base.number


class Tidier:
    """Removes useless copies from each store."""

    def __init__(self, manifest: Manifest, stores: Mapping[str, Store], clock: Clock, throttle: Throttle) -> None:
        self._manifest = manifest
        self._stores = stores
        self._clock = clock
        self._throttle = throttle
        self.requests = 0
        self.trouble = ""

    async def tidy(self, base: CheckpointRecord, last: CheckpointRecord) -> bool:
        """Remove for a bounded time; return whether to come again at once. A store that fails is tried the next time."""
        self.trouble = ""
        done = _numbers.decode(await self._manifest.load_state(STATE) or msgspec.msgpack.encode({}))
        untidy = [name for name in self._stores if done.get(name) != base.number]
        if not untidy:
            return False
        await self._manifest.forget_checkpoints(below=base.number)
        live = await self._manifest.live_runs()
        identity = (await self._manifest.find_epoch()).identity
        until = self._clock.monotonic() + STEP_SECONDS
        ended = await asyncio.gather(*(self._tidy(self._stores[name], identity, base, last, live, until) for name in untidy))
        done |= {name: base.number for name, is_tidy in zip(untidy, ended, strict=True) if is_tidy}
        await self._manifest.save_state(STATE, msgspec.msgpack.encode(done))
        return None in ended

    async def _tidy(
        self, store: Store, identity: str, base: CheckpointRecord, last: CheckpointRecord, live: Collection[bytes], until: float
    ) -> bool | None:
        """Return whether nothing useless is left; None if the time was up before."""
        try:
            for prefix in (JOURNAL_PREFIX, CHECKPOINT_PREFIX, RUN_PREFIX):
                await self._ask()
                async for name in bounded_names(store, f"{prefix}{identity}/"):
                    copy = parse_copy_name(name)
                    if copy is None or not is_useless(copy, base, last, live):
                        continue
                    if self._clock.monotonic() > until:
                        return None
                    await self._ask()
                    await store.delete(ShardName(name))
        except StoreError as error:
            self.trouble = self.trouble or str(error)
            return False
        return True

    async def _ask(self) -> None:
        await self._throttle.take()
        self.requests += 1
