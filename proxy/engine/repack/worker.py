"""The worker that repacks: what was deleted must go in time, half-dead packs waste space, and small ones waste requests.

A pack is immutable, and holds many objects. One that is deleted stays in it, sealed and under no name, until the pack is written anew
without it. How long that may take is promised (`packs.repack_within_days`), and is not a matter of cost. The other two are: a pack of
which less than half is in use is rewritten, and small packs of one kind are merged, within so many requests a day.

What was written lately is often overwritten soon, and then its pack dies by itself. So a pack is left alone for an hour, unless it must go.

A pass asks the manifest by index what there is to do, so it costs nothing where there is nothing. It needs no memory: what is done is in
no index any more, so that a pass that broke off, or that another process took over, begins anew. What cannot be done now, because too few
stores answer, does not hold up the rest: the pass goes on behind it, and the next one tries again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.clock import Clock
from proxy.codec.format import MAX_PACK_SLOTS
from proxy.codec.geometry import Scheme
from proxy.engine.placing.placement import Policy
from proxy.engine.repack.allowance import Allowance
from proxy.engine.repack.bundles import bundles_of
from proxy.engine.repack.gathering import gather_slots
from proxy.engine.repack.merging import first_fill, worth_merging
from proxy.engine.repack.rewriting import SlotRewriter
from proxy.engine.workers import Progress
from proxy.errors import PolicyMissing, ProxyError
from proxy.manifest.packs import REPACK, Pack, SlotUser
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId

IDLE_SECONDS = 300.0
PAGES = 100  # that one step looks at, if it finds nothing to do
AT_ONCE = 16  # packs of one step: those that are hardly in use come to one new pack together
EARLY = 3 / 4  # of the time that dead bytes may stay: then a pack is due. A store that is down, and the collector, need the rest
DAY_MS = 24 * 3600 * 1000
SETTLED_MS = 3600 * 1000  # by then what is overwritten soon has been
FIRST = ExtentId(0)  # below every extent


@dataclass(slots=True)
class _Turn:
    """What one step has done."""

    packs: int = 0
    requests: int = 0
    size_bytes: int = 0
    trouble: str = ""

    def note(self, trouble: object) -> None:
        self.trouble = self.trouble or str(trouble)


@dataclass(slots=True)
class _Pass:
    """How far a pass has come in each of the three indexes; None: to the end."""

    dead: tuple[int, ExtentId] | None = (0, FIRST)
    half: ExtentId | None = FIRST
    small: tuple[str, ExtentId] | None = ("", FIRST)
    trouble: str = ""

    @property
    def is_over(self) -> bool:
        return self.dead is None and self.half is None and self.small is None


class Repacker:
    """Rewrites packs."""

    name = REPACK
    everywhere = False

    def __init__(
        self,
        manifest: Manifest,
        clock: Clock,
        policies: Mapping[str, Policy],
        rewriter: SlotRewriter,
        *,
        within_days: float,
        requests_per_day: int,
    ) -> None:
        self._manifest = manifest
        self._clock = clock
        self._policies = policies
        self._rewriter = rewriter
        self._within_ms = int(within_days * DAY_MS)
        self.idle_seconds = min(IDLE_SECONDS, self._within_ms * (1 - EARLY) / 2 / 1000)  # so that what is due is not due for long
        self._allowance = Allowance(manifest, clock, name=REPACK, per_day=requests_per_day)
        self._pass = _Pass()

    async def step(self) -> Progress:
        """Rewrite some packs: what is due first."""
        turn = _Turn()
        packs, optional = await self._next()
        if packs:
            await self._rewrite(packs, turn)
            if optional:
                await self._allowance.spend(turn.requests)
        turn.note(self._pass.trouble)
        is_over = not packs and (self._pass.is_over or not await self._allowance.left())
        self._pass = _Pass() if is_over else replace(self._pass, trouble=turn.trouble)
        return Progress(idle=is_over, done=turn.packs, requests=turn.requests, size_bytes=turn.size_bytes, trouble=turn.trouble)

    async def _next(self) -> tuple[Sequence[Pack], bool]:
        """Return the next packs of the pass, and whether they are rewritten to save space or requests; none: the pass is over."""
        if packs := await self._next_dead():
            return packs, False
        if not await self._allowance.left():
            return (), True
        return await self._next_half() or await self._next_small(), True

    async def _next_dead(self) -> Sequence[Pack]:
        if self._pass.dead is None:
            return ()
        due_ms = self._clock.now_ms() - int(self._within_ms * EARLY)
        packs = await self._manifest.dead_packs(before_ms=due_ms, after=self._pass.dead, limit=AT_ONCE)
        self._pass.dead = (packs[-1].dead_since_ms or 0, packs[-1].extent_id) if packs else None
        return packs

    async def _next_half(self) -> Sequence[Pack]:
        for _ in range(PAGES):
            if self._pass.half is None:
                break
            page = await self._manifest.half_dead_packs(after=self._pass.half, limit=AT_ONCE)
            self._pass.half = page[-1].extent_id if page else None
            if packs := self._settled(page):
                return packs
        return ()

    async def _next_small(self) -> Sequence[Pack]:
        for _ in range(PAGES):  # there may be many kinds that are not worth it: then the step ends, and the next one goes on
            if self._pass.small is None:
                break
            page = await self._manifest.small_packs(after=self._pass.small, limit=MAX_PACK_SLOTS)
            fill = first_fill(page) if page else ()
            self._pass.small = (fill[-1].kind, fill[-1].extent_id) if fill else None
            if packs := worth_merging(self._settled(fill)):
                return packs
        return ()

    def _settled(self, packs: Sequence[Pack]) -> Sequence[Pack]:
        until_ms = self._clock.now_ms() - SETTLED_MS
        return [pack for pack in packs if pack.made_ms <= until_ms]

    async def _rewrite(self, packs: Sequence[Pack], turn: _Turn) -> None:
        counted = await self._manifest.load_counted([pack.extent_id for pack in packs])
        found = [await gather_slots(self._manifest, one.extent) for one in counted]
        for bundle in bundles_of(found, lambda user: self._wanted(user, turn)):
            try:
                rewritten = await self._rewriter.rewrite(bundle, self._policies[bundle.target.policy])
            except ProxyError as error:
                turn.note(error)
                continue
            turn.packs += len(bundle.packs) if rewritten.layouts else 0
            turn.requests += rewritten.requests
            turn.size_bytes += rewritten.size_bytes
            turn.note(rewritten.trouble)

    def _wanted(self, user: SlotUser, turn: _Turn) -> tuple[str, Scheme] | None:
        """Each use goes where a write of today would: so a bucket that is being moved need not move it once more."""
        policy = self._policies.get(user.policy)
        if policy is None:
            turn.note(PolicyMissing(f"the policy {user.policy} of packs with deleted objects is not configured any more"))
            return None
        return policy.name, policy.scheme_of(user.storage_class)
