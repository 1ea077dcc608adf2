"""The worker that carries campaigns out: a walk over all extents, or over what a bucket holds, again and again until nothing is left to do.

A step takes a bounded part of the walk, and saves how far it came together with what it did. What was moved before a crash has moved: the
walk meets it again, and finds nothing to do. So a campaign needs no list of what it has done, and a restart or another process goes on.

At every instant both rules of a segment's policy hold. *Loss*: a shard is put anew before the old one is given up, so there are never fewer
good shards than before. *Disclosure*: the hand of the old shard counts until its store has confirmed the deletion; what would give a hand
too many waits, and has its turn in a later round.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.carrying import Carrier, Done
from proxy.engine.campaigns.estimate import Tally
from proxy.engine.campaigns.facts import check_facts, facts_of, without_leaving
from proxy.engine.campaigns.packed import PackedMover, is_packed
from proxy.engine.campaigns.rewriting import Rewriter
from proxy.engine.journal.checkpointing import request_checkpoint
from proxy.engine.journal.soundness import lies_in
from proxy.engine.placing.classify import keeps_promises
from proxy.engine.placing.placement import Policy
from proxy.engine.workers import Progress
from proxy.errors import CampaignRefused, ExtentMissing, ProxyError
from proxy.manifest.campaigns import JOB, Advance, Campaign, CampaignId, Position, Used
from proxy.manifest.plans.extents import CountedExtent
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketName, Extent, ExtentId, ExtentRef

Item = TypeVar("Item")

IDLE_SECONDS = 10.0
STEP_SECONDS = 5.0  # after which a step ends: so soon an order is obeyed, and progress is seen
PAGE = 200  # extents or users of extents in memory
AT_ONCE = 8  # extents in work: most are small, and wait for stores
PAGES_BEHIND = 10
REFS = 50  # extents of one version that are looked at together: in most rounds, nothing is to be done with them
RUN = 16  # segments that are looked at in one go: some 2 ms


class CampaignWorker:
    """Carries out what is running."""

    name = JOB
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(
        self,
        *,
        manifest: Manifest,
        policies: Mapping[str, Policy],
        carrier: Carrier,
        rewriter: Rewriter,
        packed: PackedMover,
        clock: Clock,
        journal: bool,
    ) -> None:
        """`journal`: whether one is kept, so that it leaves stores, too."""
        self._manifest = manifest
        self._policies = policies
        self._carrier = carrier
        self._rewriter = rewriter
        self._packed = packed
        self._clock = clock
        self._journal = journal
        self._behind: dict[CampaignId, ExtentId] = {}

    async def step(self) -> Progress:
        """Take one step of each campaign that is running."""
        campaigns = await self._manifest.list_campaigns()
        for campaign in campaigns:
            if campaign.state == "done" and campaign.leaves:
                await self._look_behind(campaign)
        turns = [await self._turn(campaign) for campaign in campaigns if campaign.state == "running"]
        return Progress(
            idle=all(turn.idle for turn in turns),
            done=sum(turn.done for turn in turns),
            remaining=sum(turn.remaining or 0 for turn in turns),
            requests=sum(turn.requests for turn in turns),
            size_bytes=sum(turn.size_bytes for turn in turns),
            trouble="; ".join(turn.trouble for turn in turns if turn.trouble),
        )

    async def _turn(self, campaign: Campaign) -> Progress:
        done = Done(Tally(self._carrier.infos))
        try:
            check_facts(without_leaving(campaign.facts), facts_of(self._policies, self._carrier.infos))
        except CampaignRefused as error:
            done.note(f"{campaign.id}: {error}, or restart the servers with the former one")
            step = Advance(before=campaign.position, position=campaign.position, trouble=done.trouble)
        else:
            step = await self._without_journal(campaign, await self._walk(campaign, done))
        changed = await self._manifest.advance_campaign(campaign.id, step, now_ms=self._clock.now_ms())
        remaining = max(campaign.estimate.segments - (campaign if changed is None else changed).actual.segments, 0)
        return Progress(
            idle=not done.moved and (step.round_ended or step.position == campaign.position),
            done=done.moved,
            remaining=remaining if changed is None or changed.state == "running" else 0,
            requests=step.done.requests,
            size_bytes=step.done.size_bytes,
            trouble=done.trouble,
        )

    async def _without_journal(self, campaign: Campaign, step: Advance) -> Advance:
        """At the end of a round: go on for another while a recovery needs something of the journal in a store that is left.

        No walk meets that. It leaves with the next checkpoint, which is asked for here.
        """
        if not (self._journal and campaign.leaves and step.round_ended and not campaign.left_in_round + step.left):
            return step
        if not lies_in(await self._manifest.needed_copies(), campaign.store):
            return step
        if (await self._manifest.checkpoint_state(before_ms=0)).making is None:
            await request_checkpoint(self._manifest)
        return replace(step, left=1, trouble=step.trouble or f"the journal is still in {campaign.store}: a checkpoint is asked for")

    async def _walk(self, campaign: Campaign, done: Done) -> Advance:
        until = self._clock.monotonic() + STEP_SECONDS
        if campaign.verb == "policy":
            position, ended = await self._walk_bucket(campaign, done, until)
        else:
            position, ended = await self._walk_extents(campaign, done, until)
        return Advance(
            before=campaign.position,
            position=position,
            round_ended=ended,
            left=done.left,
            done=done.tally.estimate(),
            trouble=done.trouble,
        )

    # All extents: a store is left, or the shards are spread anew

    async def _walk_extents(self, campaign: Campaign, done: Done, until: float) -> tuple[Position, bool]:
        position = campaign.position.extent_id
        extents = await self._manifest.walk_extents(after=position, limit=PAGE)
        for chunk in _chunks(extents):
            whole = await asyncio.gather(*(self._spread(campaign, extent, done, until) for extent in chunk))
            if not self._may_pass(whole, done):
                return Position(extent_id=position), False
            position = chunk[-1].id
            if self._clock.monotonic() > until:
                return Position(extent_id=position), False
        return Position(extent_id=position), not await self._manifest.walk_extents(after=position, limit=1)

    async def _spread(self, campaign: Campaign, extent: Extent, done: Done, until: float) -> bool:
        """Tell whether there was time for the whole extent: what is cut off is met again."""
        policy = self._policies.get(extent.layout.policy)
        if policy is None:
            done.left += 1
            done.note(f"extent {extent.id} is kept under policy {extent.layout.policy}, which is not configured")
            return True
        return await self._carry_segments(campaign, policy, extent, done, until)

    async def _carry_segments(self, campaign: Campaign, policy: Policy, extent: Extent, done: Done, until: float) -> bool:
        for place, segment in enumerate(extent.layout.segments):
            if self._is_over(until, done):
                return False
            if place % RUN == RUN - 1:  # where nothing has to move there is nothing to wait for, and clients would wait
                await asyncio.sleep(0)
            await self._carrier.carry(campaign, policy, extent, segment, done)
        return True

    def _is_over(self, until: float, done: Done) -> bool:
        """Tell whether a step has worked for long enough. It does something at least, however long the way there was."""
        return self._clock.monotonic() > until and bool(done.left)

    def _may_pass(self, whole: Sequence[bool], done: Done) -> bool:
        """Tell whether the walk may go on behind extents. It stays where the time was too short, unless nothing moves there at all."""
        if all(whole):
            return True
        done.left += 1
        return not done.moved

    # A bucket: its policy is another, or has another scheme

    async def _walk_bucket(self, campaign: Campaign, done: Done, until: float) -> tuple[Position, bool]:
        bucket = await self._manifest.find_bucket(BucketName(campaign.bucket))
        policy = self._policies.get(campaign.policy)
        if bucket is None or bucket.id != campaign.bucket_id or policy is None:
            return campaign.position, True  # it was deleted; a policy that is gone is told by the facts
        position = campaign.position
        users = await self._manifest.walk_users(bucket.id, after=position, limit=PAGE)
        if not self._may_pass([await self._move_packed(campaign, policy, bucket, users, done, until)], done):
            return position, False
        gates: defaultdict[ExtentId, asyncio.Lock] = defaultdict(asyncio.Lock)
        for chunk in _chunks(users):
            whole = await asyncio.gather(*(self._move_user(campaign, policy, bucket, used, done, until, gates) for used in chunk))
            if not self._may_pass(whole, done):
                return position, False
            position = chunk[-1].position
            if self._clock.monotonic() > until:
                return position, False
        if len(users) == PAGE:
            return position, False
        return (position, True) if position.parts_done else (Position(parts_done=True), False)

    async def _move_packed(
        self, campaign: Campaign, policy: Policy, bucket: Bucket, users: Sequence[Used], done: Done, until: float
    ) -> bool:
        return await self._packed.move(
            policy,
            bucket,
            users,
            done,
            carry=lambda extent: self._carry_segments(campaign, policy, extent, done, until),
            is_over=lambda: self._is_over(until, done),
        )

    async def _move_user(
        self,
        campaign: Campaign,
        policy: Policy,
        bucket: Bucket,
        used: Used,
        done: Done,
        until: float,
        gates: Mapping[ExtentId, asyncio.Lock],
    ) -> bool:
        if is_packed(used):
            return True
        scheme = policy.scheme_of(used.storage_class)
        for start in range(0, len(used.extents), REFS):
            for extent_id in await self._not_kept(policy, scheme, used.extents[start : start + REFS]):
                if self._is_over(until, done):
                    return False
                async with gates[extent_id]:  # of two that share it, the second finds what the first has made of it
                    for counted in await self._manifest.load_counted([extent_id]):
                        if not await self._move_extent(campaign, policy, scheme, bucket, used, counted, done, until):
                            return False
        return True

    async def _not_kept(self, policy: Policy, scheme: Scheme, refs: Sequence[ExtentRef]) -> list[ExtentId]:
        """Return those that are not under the policy yet. However many a version has, whoever looks comes to the end of them."""
        counted = await self._manifest.load_counted([ref.id for ref in refs])
        return [one.extent.id for one in counted if not keeps_promises(policy, scheme, one.extent.layout)]

    async def _move_extent(
        self,
        campaign: Campaign,
        policy: Policy,
        scheme: Scheme,
        bucket: Bucket,
        used: Used,
        counted: CountedExtent,
        done: Done,
        until: float,
    ) -> bool:
        """Bring what a version or part uses under the policy: as it is, if it is alone and of the scheme; otherwise stored anew."""
        extent, layout = counted.extent, counted.extent.layout
        same_scheme = (layout.k, layout.m) == (scheme.k, scheme.m)
        if keeps_promises(policy, scheme, layout):
            return True
        if layout.policy == policy.name and same_scheme:
            return await self._carry_segments(campaign, policy, extent, done, until)
        done.left += 1
        if same_scheme and await self._manifest.adopt_extent(used.user, extent.id, policy.name):
            done.moved += 1
            return await self._carry_segments(campaign, policy, extent, done, until)
        now_ms = self._clock.now_ms()
        if await self._manifest.share_successor(used.user, extent.id, policy.name, scheme.k, scheme.m, now_ms=now_ms):
            done.moved += 1
            return True
        try:
            new = await self._rewriter.rewrite(bucket, used.user, extent, policy, scheme)
        except ExtentMissing:  # deleted or replaced meanwhile
            return True
        except ProxyError as error:
            done.note(error)
            return True
        done.moved += 1
        done.tally.rewrite(layout, scheme, policy.segment_size, new.segments[0].stores)
        return True

    # What came after the end

    async def _look_behind(self, campaign: Campaign) -> None:
        """A write that had begun before its store was left may still bring a shard there: its extent has a higher id than any before."""
        for _ in range(PAGES_BEHIND):
            position = self._behind.get(campaign.id, campaign.position.extent_id)
            extents = await self._manifest.walk_extents(after=position, limit=PAGE)
            if _uses(campaign.store, extents):
                await self._manifest.reopen_campaign(campaign.id)
            if not extents:
                return
            self._behind[campaign.id] = extents[-1].id


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))


def _uses(store: str, extents: Sequence[Extent]) -> bool:
    return any(store in segment.stores for extent in extents for segment in extent.layout.segments)
