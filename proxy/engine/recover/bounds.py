"""What one store may list in a recovery, by what the others list.

A provider may list without end, or names by the million that it has made up. All would be noted, on a disk that has an end, and take days.

The others tell how much there can be. A segment has its shards in several stores, so one that lists ten times as many names as any other
makes them up, but for a million that may be old garbage or somebody else's. Beyond that it waits until the others have come further. It is
given up once they have all ended: then it counts as a store that does not answer. The bound goes by the largest of the others, so two
stores never wait for each other. (Two that lie together are stopped by the disk alone: see `require_room`.) A store that is all that some
policy has may rightly hold more than any other, and has no bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from proxy.errors import StoreUnavailable

FEW = 1_000_000
TIMES = 10


class ListsTooMuch(StoreUnavailable):
    """A store's listing is out of all proportion to those of the others. To ask again is no use."""


class ListingBounds:
    """How far each listing is. Used by all of them at once."""

    def __init__(self, stores: Collection[str], *, unbounded: Collection[str] = ()) -> None:
        self._counts = dict.fromkeys(stores, 0)
        self._listing = set(stores)
        self._unbounded = frozenset(unbounded)
        self._changed = asyncio.Condition()

    async def reached(self, store: str, names: int) -> None:
        """Take note of how far a listing is; return when it may go on. Raises `ListsTooMuch`."""
        async with self._changed:
            self._counts[store] = max(self._counts[store], names)  # one that broke off is begun anew
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._may_go_on(store, names) or self._listing == {store})
            if not self._may_go_on(store, names):
                raise ListsTooMuch(
                    store,
                    f"it lists more than {names:,} names, and no other store more than {self._largest_but(store):,}: it makes them up",
                )

    async def ended(self, store: str, names: int = 0) -> None:
        """A listing is over, whatever came of it."""
        async with self._changed:
            self._counts[store] = max(self._counts[store], names)
            self._listing.discard(store)
            self._changed.notify_all()

    def in_words(self) -> str:
        """Say how far all are."""
        return ", ".join(f"{store} {count:,}" for store, count in sorted(self._counts.items(), key=lambda pair: -pair[1]))

    def _may_go_on(self, store: str, names: int) -> bool:
        return store in self._unbounded or len(self._counts) == 1 or names <= FEW + TIMES * self._largest_but(store)

    def _largest_but(self, store: str) -> int:
        return max((count for name, count in self._counts.items() if name != store), default=0)
