"""Making a plan: a walk over what is stored that moves nothing, and adds up what a campaign would move.

It is walked in pages, so a plan takes as little memory as a step. What is stored changes meanwhile and afterwards: a plan is an estimate,
and the campaign decides anew for each segment.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.estimate import Tally, seconds_at, sizes_made
from proxy.engine.campaigns.facts import check_facts, facts_of, with_leaving
from proxy.engine.campaigns.moves import Situation
from proxy.engine.campaigns.packed import decisions, is_packed, packs_of, wants_of
from proxy.engine.campaigns.wants import wanted
from proxy.engine.placing.classify import keeps_promises
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy, place, without
from proxy.engine.repack.bundles import bundles_of
from proxy.errors import BucketMissing, CampaignRefused, ConfigError
from proxy.manifest.campaigns import LEAVING_VERBS, START, Campaign, CampaignId, Estimate, Position, Used, Verb
from proxy.manifest.plans.extents import CountedExtent
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import BucketName, Extent, ExtentId, Segment
from proxy.stores.protocol import StoreInfo

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Pace:
    """What background work may do in a second."""

    requests_per_second: float
    bytes_per_second: float


class _Met:
    """Ids that were met, a bit each: of a hundred million packs, some 20 MB."""

    def __init__(self) -> None:
        self._bits: dict[int, int] = {}

    def add(self, extent_id: ExtentId) -> bool:
        """Tell whether it was met for the first time."""
        chunk, bit = divmod(extent_id, 1024)
        before = self._bits.get(chunk, 0)
        self._bits[chunk] = before | 1 << bit
        return self._bits[chunk] != before


@dataclass(slots=True)
class _Sums:
    """What is added up: as the stores are, and as if the one that is left were dead."""

    alive: Tally
    dead: Tally
    shared: set[ExtentId] = field(default_factory=set)  # stored anew once, though several use them
    packs: _Met = field(default_factory=_Met)  # that were counted: a walk by key meets each again and again


class Planner:
    """Plans campaigns with the configuration of this process."""

    def __init__(self, *, manifest: Manifest, fleet: Fleet, policies: Mapping[str, Policy], clock: Clock, pace: Pace) -> None:
        self._manifest = manifest
        self._fleet = fleet
        self._policies = policies
        self._clock = clock
        self._pace = pace

    async def drain(self, store: str) -> Campaign:
        """Plan to leave a store. `CampaignRefused` if a policy cannot do without it."""
        await self._check_store(store)
        return await self._planned(self._new("drain", store=store))

    async def replace(self, store: str, new_store: str) -> Campaign:
        """Plan to move all that a store has to another."""
        await self._check_store(store)
        if new_store == store:
            raise ConfigError(f'"{store}" cannot replace itself: name another store')
        if new_store not in self._fleet:
            raise ConfigError(f'there is no other store "{new_store}" in the configuration: add it, and restart the servers')
        for policy in self._policies.values():
            names = {str(info.name) for info in policy.stores}
            if store in names and new_store not in names:
                raise CampaignRefused(f"policy {policy.name} uses {store} and not {new_store}: add it to policies.{policy.name}.stores")
        return await self._planned(self._new("replace", store=store, new_store=new_store))

    async def rebalance(self) -> Campaign:
        """Plan to spread what is stored as new writes would be."""
        return await self._planned(self._new("rebalance"))

    async def move_policy(self, bucket_name: str, policy: str) -> Campaign:
        """Plan to bring a bucket, and all it holds, under a policy as it is configured now."""
        if policy not in self._policies:
            raise ConfigError(f'there is no policy "{policy}"; one of: {", ".join(sorted(self._policies))}')
        bucket = await self._manifest.find_bucket(BucketName(bucket_name))
        if bucket is None:
            raise BucketMissing(f"there is no bucket {bucket_name}")
        leaving = await self._manifest.leaving_stores()
        campaign = replace(self._new("policy"), bucket_id=bucket.id, bucket=bucket.name, policy=policy)
        sums = _Sums(Tally(self._infos), Tally(self._infos))
        await self._count_bucket(campaign, self._policies_without(leaving)[policy], sums)
        return await self._kept(campaign, sums, leaving)

    async def check(self, campaign: Campaign) -> None:
        """CampaignRefused if a plan does not hold any more."""
        leaving = await self._manifest.leaving_stores()
        check_facts(campaign.facts, with_leaving(facts_of(self._policies, self._infos), leaving))

    def _new(self, verb: Verb, *, store: str = "", new_store: str = "") -> Campaign:
        name = "-".join(part for part in (verb, store, secrets.token_hex(3)) if part)
        return Campaign(id=CampaignId(name), verb=verb, store=store, new_store=new_store, planned_ms=self._clock.now_ms())

    @property
    def _infos(self) -> dict[str, StoreInfo]:
        return {name: store.info for name, store in self._fleet.stores.items()}

    async def _check_store(self, store: str) -> None:
        if store not in self._fleet and store not in await self._manifest.known_stores():
            raise ConfigError(f'there is no store "{store}"; one of: {", ".join(sorted(self._fleet.stores))}')

    # What moves shards

    async def _planned(self, campaign: Campaign) -> Campaign:
        leaving = await self._manifest.leaving_stores()
        policies = self._policies_without({campaign.store, *leaving} - {""})
        sums = _Sums(Tally(self._infos), Tally(self._infos))
        position = ExtentId(0)
        while extents := await self._manifest.walk_extents(after=position, limit=PAGE):
            for extent in extents:
                self._count_extent(campaign, policies.get(extent.layout.policy), extent, sums)
            position = extents[-1].id
        return await self._kept(campaign, sums, leaving)

    def _policies_without(self, stores: Set[str]) -> dict[str, Policy]:
        try:
            return {name: _without(policy, stores) for name, policy in self._policies.items()}
        except ConfigError as error:
            raise CampaignRefused(f"nothing is planned: without {' and '.join(sorted(stores))}, {error}") from error

    def _count_extent(self, campaign: Campaign, policy: Policy | None, extent: Extent, sums: _Sums) -> None:
        for segment in extent.layout.segments:
            if policy is None:
                sums.alive.wait()
            else:
                self._count_segment(campaign, policy, extent, segment, sums)

    def _count_segment(self, campaign: Campaign, policy: Policy, extent: Extent, segment: Segment, sums: _Sums) -> None:
        scheme = Scheme(extent.layout.k, extent.layout.m)
        usable = self._fleet.configured(policy)
        moves = wanted(campaign, Situation(policy=policy, scheme=scheme, segment=segment, usable=usable, infos=self._infos))
        if moves.waiting:
            sums.alive.wait()
            sums.dead.wait()
        copied = [move for move in moves.moves if move.index not in segment.missing and move.source in self._fleet]
        sums.alive.copy(scheme, segment, copied)
        sums.alive.rebuild(scheme, segment, [move for move in moves.moves if move not in copied])
        sums.dead.rebuild(scheme, segment, list(moves.moves), lost=[campaign.store])

    async def _kept(self, campaign: Campaign, sums: _Sums, leaving: frozenset[str]) -> Campaign:
        estimate = sums.alive.estimate()
        planned = replace(
            campaign,
            facts=with_leaving(facts_of(self._policies, self._infos), leaving),
            estimate=estimate,
            if_dead=sums.dead.estimate() if campaign.verb in LEAVING_VERBS else None,
            seconds=self.seconds(estimate),
        )
        await self._manifest.add_campaign(planned)
        return planned

    # What moves a bucket

    async def _count_bucket(self, campaign: Campaign, policy: Policy, sums: _Sums) -> None:
        position = START
        while True:
            users = await self._manifest.walk_users(campaign.bucket_id, after=position, limit=PAGE)
            await self._count_packed(campaign, policy, users, sums)
            for used in users:
                for start in () if is_packed(used) else range(0, len(used.extents), PAGE):
                    ids = [ref.id for ref in used.extents[start : start + PAGE]]
                    for counted in await self._manifest.load_counted(ids):
                        self._count_user(campaign, policy, policy.scheme_of(used.storage_class), counted, sums)
                position = used.position
            if not users and position.parts_done:
                return
            if not users:
                position = Position(parts_done=True)

    async def _count_packed(self, campaign: Campaign, policy: Policy, users: Sequence[Used], sums: _Sums) -> None:
        ids = [extent_id for extent_id in packs_of(users) if sums.packs.add(extent_id)]
        extents = [counted.extent for counted in await self._manifest.load_counted(ids)]
        async for made in decisions(self._manifest, extents, campaign.bucket_id, policy):
            for decision in made:
                extent = decision.pack.extent
                for segment in extent.layout.segments if decision.adopt or extent.layout.policy == policy.name else ():
                    self._count_segment(campaign, policy, extent, segment, sums)
            for bundle in bundles_of([decision.anew for decision in made], wants_of(policy)):
                scheme, segment_id = bundle.target.scheme, bundle.packs[0].extent.layout.segments[0].id
                targets = place(policy, scheme, segment_id, self._fleet.configured(policy))
                sums.alive.repack(bundle.packs, scheme, [(size, targets) for size in sizes_made(bundle)])

    def _count_user(self, campaign: Campaign, policy: Policy, scheme: Scheme, counted: CountedExtent, sums: _Sums) -> None:
        extent, layout = counted.extent, counted.extent.layout
        if keeps_promises(policy, scheme, layout) or extent.id in sums.shared:
            return
        same_scheme = (layout.k, layout.m) == (scheme.k, scheme.m)
        if same_scheme and (layout.policy == policy.name or counted.references == 1):
            for segment in layout.segments:
                self._count_segment(campaign, policy, extent, segment, sums)
            return
        if counted.references > 1:
            sums.shared.add(extent.id)
        targets = place(policy, scheme, layout.segments[0].id, self._fleet.configured(policy))
        sums.alive.rewrite(layout, scheme, policy.segment_size, targets)

    def seconds(self, estimate: Estimate) -> float:
        """Return how long it takes at the throttle."""
        return seconds_at(estimate, requests_per_second=self._pace.requests_per_second, bytes_per_second=self._pace.bytes_per_second)


def _without(policy: Policy, stores: Set[str]) -> Policy:
    return without(policy, stores) if any(info.name in stores for info in policy.stores) else policy
