"""How many requests a day repacking may make for what is not urgent. What has been made today is kept in the manifest."""

from __future__ import annotations

import msgspec

from proxy.clock import Clock
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Record

DAY_MS = 24 * 3600 * 1000


class Spent(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The requests of one day since 1970."""

    day: int
    requests: int = 0


_spent = msgspec.msgpack.Decoder(Spent)


class Allowance:
    """Requests that may still be made today. `name` is that of what is kept."""

    def __init__(self, manifest: Manifest, clock: Clock, *, name: str, per_day: int) -> None:
        self._manifest = manifest
        self._clock = clock
        self._name = name
        self._per_day = per_day

    async def left(self) -> int:
        """Return how many are left: none if the last step took more than there were."""
        return max(self._per_day - (await self._load()).requests, 0)

    async def spend(self, requests: int) -> None:
        """Count requests that were made."""
        spent = await self._load()
        await self._manifest.save_state(self._name, msgspec.msgpack.encode(Spent(day=spent.day, requests=spent.requests + requests)))

    async def _load(self) -> Spent:
        kept, today = await self._manifest.load_state(self._name), self._clock.now_ms() // DAY_MS
        spent = Spent(day=today) if kept is None else _spent.decode(kept)
        return spent if spent.day == today else Spent(day=today)
