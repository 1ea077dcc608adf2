"""The means of storing anew what is stored, within the background's memory and throttle: the same for extents and for slots of packs."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.engine.damage import DamageReporter
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.memory.budget import Budget
from proxy.engine.moving.stored_anew import mark_of
from proxy.engine.placing.fleet import Fleet
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.throttle import Throttle
from proxy.engine.writing.delivery import Delivery
from proxy.engine.writing.filling import CodingThreads
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.quorum import ShardPutter
from proxy.engine.writing.stragglers import LatePuts, Stragglers
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What one worker stores anew by; `throttle` is that worker's share."""

    manifest: Manifest
    keyring: Keyring
    fleet: Fleet
    clock: Clock
    threads: Executor
    coding: CodingThreads
    ledger: IntentLedger
    putter: ShardPutter
    stragglers: Stragglers
    reporter: DamageReporter
    tasks: BackgroundTasks
    throttle: Throttle
    memory: BackgroundMemory
    wait_seconds: float  # for memory, at the longest
    journaled: bool

    async def mark(self) -> int:
        """Return what labels bear of what is stored anew now."""
        return await mark_of(self.manifest, journaled=self.journaled)

    def delivery(self, budget: Budget) -> Delivery:
        """Return what puts and settles segments within a part of the background's memory."""
        return Delivery(ledger=self.ledger, putter=self.putter, stragglers=self.stragglers, late=LatePuts(budget), tasks=self.tasks)
