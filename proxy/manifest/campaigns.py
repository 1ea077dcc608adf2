"""Campaigns: what an operator wants moved, as frozen records, and what each order does to one. Pure, so that adapters decide alike.

A campaign is planned first: nothing moves, and nothing else changes. Applied, it is carried out by whichever process takes the job, until
its walk has once come round and found nothing left to do. Its record holds all there is to know, so a restart or another process goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NewType

from msgspec.structs import replace

from proxy.errors import CampaignRefused
from proxy.manifest.records import BucketId, ExtentId, ExtentRef, Layout, ObjectKey, Record, UploadId, VersionId

CampaignId = NewType("CampaignId", str)
Verb = Literal["drain", "replace", "rebalance", "policy"]
State = Literal["planned", "running", "paused", "done", "cancelled"]
Order = Literal["apply", "pause", "resume", "cancel"]

LEAVING_VERBS = frozenset({"drain", "replace"})
LEAVING_STATES = frozenset({"running", "paused", "done"})


class Bill(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of one store, and what that costs in US dollars."""

    store: str
    gets: int = 0
    puts: int = 0
    deletes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    egress_usd: float = 0.0
    requests_usd: float = 0.0
    early_deletion_usd: float = 0.0  # at most: as if what is deleted had been stored just now

    @property
    def usd(self) -> float:
        return self.egress_usd + self.requests_usd + self.early_deletion_usd


class Estimate(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What moves, and what that takes. The same for what was planned and for what was done."""

    segments: int = 0
    copied: int = 0  # shards: each read once and put as it is
    rebuilt: int = 0  # shards: coded anew from k others
    rewritten: int = 0  # segments: read and stored anew, under another scheme or for one of several buckets that share them
    waiting: int = 0  # segments that cannot move yet, or not within the rules
    bills: tuple[Bill, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Return the bytes read and written."""
        return sum(bill.read_bytes + bill.written_bytes for bill in self.bills)

    @property
    def requests(self) -> int:
        """Return the gets and puts. Deletes come later, and are the collector's."""
        return sum(bill.gets + bill.puts for bill in self.bills)

    @property
    def usd(self) -> float:
        return sum(bill.usd for bill in self.bills)


NOTHING = Estimate()


class Position(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far a walk has come: over all extents by id, or over the parts and then the versions of a bucket."""

    extent_id: ExtentId = ExtentId(0)
    parts_done: bool = False
    upload_id: UploadId = UploadId("")
    part_number: int = 0
    key: ObjectKey = ObjectKey("")
    sequence: int = 0  # 0: before the key's newest version


START = Position()


class Campaign(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One campaign, from its plan to its end."""

    id: CampaignId
    verb: Verb
    store: str = ""  # that is left
    new_store: str = ""  # that takes its place
    bucket_id: BucketId = BucketId(0)
    bucket: str = ""
    policy: str = ""  # that the bucket gets
    facts: dict[str, str] = {}  # the configuration that it was planned with: see `proxy.engine.campaigns.facts`
    estimate: Estimate = NOTHING
    if_dead: Estimate | None = None  # the same, if the store that is left cannot be read
    seconds: float = 0.0  # at the throttle, at least
    planned_ms: int
    state: State = "planned"
    begun_ms: int = 0
    ended_ms: int = 0
    position: Position = START
    rounds: int = 0  # walks that came to the end
    round_begun_ms: int = 0
    left_in_round: int = 0  # segments that this round has met and could not bring to rest, or has moved
    actual: Estimate = NOTHING
    trouble: str = ""

    @property
    def leaves(self) -> bool:
        """Whether `store` takes no new shards."""
        return self.verb in LEAVING_VERBS and self.state in LEAVING_STATES


class Advance(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What one step of a campaign did."""

    before: Position  # where it began: of two processes that took the same step, one counts
    position: Position
    round_ended: bool = False
    left: int = 0
    done: Estimate = NOTHING
    trouble: str = ""


class ExtentUser(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One version or part that refers to extents."""

    bucket_id: BucketId
    key: ObjectKey
    version_id: VersionId = VersionId("")
    sequence: int = 0
    upload_id: UploadId = UploadId("")  # of a part
    part_number: int = 0


class Exchanged(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a version or part got in exchange for an extent."""

    extents: tuple[ExtentRef, ...]
    layout: Layout


class Used(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version or part as a walk meets it. `position` is where the walk goes on behind it."""

    user: ExtentUser
    storage_class: str
    extents: tuple[ExtentRef, ...]
    position: Position


JOB = "campaigns"  # that carries them out
SETTLE_MS = 30_000  # by then every process has learnt of it: each asks every few seconds
_FROM: dict[Order, frozenset[State]] = {
    "apply": frozenset({"planned"}),
    "pause": frozenset({"running"}),
    "resume": frozenset({"paused"}),
    "cancel": frozenset({"planned", "running", "paused", "done"}),
}
_TO: dict[Order, State] = {"apply": "running", "pause": "paused", "resume": "running", "cancel": "cancelled"}


def obey(campaign: Campaign, order: Order, *, now_ms: int) -> Campaign:
    """Return the campaign after an operator's order. CampaignRefused if it makes no sense now."""
    if campaign.state not in _FROM[order]:
        raise CampaignRefused(f"{campaign.id} is {campaign.state}: there is nothing to {order}")
    if order == "cancel" and campaign.state == "done" and not campaign.leaves:
        raise CampaignRefused(f"{campaign.id} is done: there is nothing to cancel")
    changed = replace(campaign, state=_TO[order], trouble="" if order in {"resume", "cancel"} else campaign.trouble)
    if order == "apply":
        return replace(changed, begun_ms=now_ms, round_begun_ms=now_ms)
    return replace(changed, ended_ms=now_ms) if order == "cancel" else changed


def refuse_beside(campaign: Campaign, others: Iterable[Campaign]) -> None:
    """CampaignRefused if another campaign that goes on wants the opposite, or the same."""
    for other in others:
        if other.id == campaign.id or other.state not in {"running", "paused"}:
            continue
        same_bucket = campaign.verb == other.verb == "policy" and campaign.bucket_id == other.bucket_id
        if (other.store and other.store in {campaign.store, campaign.new_store}) or same_bucket:
            raise CampaignRefused(f"{other.id} is {other.state}: let it finish, or cancel it first")


def advance(campaign: Campaign, step: Advance, *, now_ms: int) -> Campaign | None:
    """Return the campaign after a step; None if the step is not the next one any more, and does not count.

    It is done when a whole round, begun once every process knew of the campaign, has met nothing to move.
    """
    if campaign.state not in {"running", "paused"} or campaign.position != step.before:
        return None
    left = campaign.left_in_round + step.left
    before = "" if step.before == START else campaign.trouble  # what the round before could not do is tried again
    changed = replace(
        campaign,
        position=step.position,
        left_in_round=left,
        actual=added(campaign.actual, step.done),
        trouble=step.trouble or before,
    )
    if not step.round_ended:
        return changed
    changed = replace(changed, rounds=changed.rounds + 1, round_begun_ms=now_ms, left_in_round=0)
    settled = campaign.verb not in LEAVING_VERBS or campaign.round_begun_ms >= campaign.begun_ms + SETTLE_MS
    if left == 0 and settled and campaign.state == "running":
        return replace(changed, state="done", ended_ms=now_ms, trouble="")
    return replace(changed, position=START)


def reopen(campaign: Campaign) -> Campaign | None:
    """Return a campaign with work again: something came in that had begun before it. None if it was given up."""
    if campaign.state not in {"running", "paused", "done"}:
        return None
    state: State = "running" if campaign.state == "done" else campaign.state
    position = START if campaign.state == "done" else campaign.position
    return replace(campaign, state=state, position=position, ended_ms=0, left_in_round=campaign.left_in_round + 1)


def added(one: Estimate, other: Estimate) -> Estimate:
    """Return the sum of two."""
    bills = {bill.store: bill for bill in one.bills}
    for bill in other.bills:
        bills[bill.store] = _sum(bills.get(bill.store, Bill(store=bill.store)), bill)
    return Estimate(
        segments=one.segments + other.segments,
        copied=one.copied + other.copied,
        rebuilt=one.rebuilt + other.rebuilt,
        rewritten=one.rewritten + other.rewritten,
        waiting=one.waiting + other.waiting,
        bills=tuple(bills[store] for store in sorted(bills)),
    )


def _sum(one: Bill, other: Bill) -> Bill:
    return Bill(
        store=one.store,
        gets=one.gets + other.gets,
        puts=one.puts + other.puts,
        deletes=one.deletes + other.deletes,
        read_bytes=one.read_bytes + other.read_bytes,
        written_bytes=one.written_bytes + other.written_bytes,
        egress_usd=one.egress_usd + other.egress_usd,
        requests_usd=one.requests_usd + other.requests_usd,
        early_deletion_usd=one.early_deletion_usd + other.early_deletion_usd,
    )
