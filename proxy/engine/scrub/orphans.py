"""Orphans: shards that nothing explains, on record first, and deleted only when a later pass has seen them again.

The problem. To delete what the manifest does not know is the one thing here that can lose data: if the manifest is an old copy, if the
store is another manifest's as well, if something under way was overlooked.

The idea. Nothing is deleted on absence alone. An orphan is put into **quarantine**: a row with the time. A pass that begins a configured
time later, lists every store to its end and sees it again condemns it: the row becomes garbage, in one step of the manifest, and the
collector does what it always does. A manifest that is behind its stores is fenced, and takes neither step. A name is never used twice, and
an id that is leased to nobody can never be committed, so what is an orphan once is one for good.

Nothing in a store that bears the marks of another manifest is put on record: its shards would all look like orphans.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.engine.scrub.comparison import Comparison
from proxy.engine.scrub.pace import DAY_SECONDS
from proxy.engine.scrub.passes import PassPosition
from proxy.manifest.protocol import Manifest
from proxy.manifest.quarantine import Orphan

ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a pass has done to orphans."""

    condemned: int  # queued for deletion
    forgotten: int  # on record before, and not seen again
    waiting: int  # in quarantine now


class Quarantine:
    """Puts on record, condemns and forgets."""

    def __init__(self, manifest: Manifest, clock: Clock, stores: Collection[str], *, days: float) -> None:
        """`stores`: those that a pass must have listed."""
        self._manifest = manifest
        self._clock = clock
        self._stores = stores
        self._days = days

    async def after_slice(self, comparison: Comparison, position: PassPosition) -> None:
        """Put on record what a slice has left."""
        async for page in comparison.orphans():
            orphans = [
                Orphan(store=listed.store, name=listed.name, size_bytes=listed.size_bytes)
                for listed in page
                if listed.store not in position.compared.shared
            ]
            await self._manifest.quarantine(orphans, pass_id=position.id, now_ms=self._clock.now_ms())

    async def judge(self, position: PassPosition) -> Judged:
        """After the last slice: condemn what has been on record for long enough, if the pass has listed everything."""
        listed = [store for store in self._stores if store not in position.compared.unlisted]
        forgotten = await self._manifest.forget_quarantine(stores=listed, pass_id=position.id)
        condemned = await self._condemn(position) if len(listed) == len(self._stores) else 0
        return Judged(condemned=condemned, forgotten=forgotten, waiting=await count_quarantine(self._manifest))

    async def _condemn(self, position: PassPosition) -> int:
        since_ms, count = position.begun_ms - int(self._days * DAY_SECONDS * 1000), 0
        while rows := await self._manifest.condemn(pass_id=position.id, since_ms=since_ms, now_ms=self._clock.now_ms(), limit=ROWS):
            count += len(rows)
        return count


async def count_quarantine(manifest: Manifest) -> int:
    """Return how many orphans are on record."""
    count = 0
    last: Orphan | None = None
    while rows := await manifest.walk_quarantine(after=last, limit=ROWS):
        count, last = count + len(rows), rows[-1].orphan
    return count
