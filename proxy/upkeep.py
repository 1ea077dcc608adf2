"""Which background work there is, and what each worker is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from proxy.clock import Clock
from proxy.config import Config
from proxy.engine.campaigns.carrying import Carrier
from proxy.engine.campaigns.packed import PackedMover
from proxy.engine.campaigns.rewriting import Rewriter
from proxy.engine.campaigns.watch import LeavingWatch
from proxy.engine.campaigns.worker import CampaignWorker
from proxy.engine.collect import Collector
from proxy.engine.damage import DamageReporter
from proxy.engine.epoch import EpochKeeper
from proxy.engine.journal.checkpoint import CheckpointMaker
from proxy.engine.journal.checkpointing import CheckpointWorker
from proxy.engine.journal.scrub import CopyScrub
from proxy.engine.journal.scrubbing import JournalScrubber
from proxy.engine.journal.tidy import Tidier
from proxy.engine.journal.worker import JournalWorker, NoJournal
from proxy.engine.lifecycle.expiring import Expirations
from proxy.engine.lifecycle.moving import Transitions
from proxy.engine.lifecycle.worker import LifecycleWorker
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.moving.means import Means
from proxy.engine.moving.moving import ShardMover
from proxy.engine.outgoing.telling import Teller
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.engine.reading.read import Reader
from proxy.engine.repack.rewriting import SlotRewriter
from proxy.engine.repack.worker import Repacker
from proxy.engine.repair.audit import PlacementObserver
from proxy.engine.repair.brake import Brake
from proxy.engine.repair.segment import SegmentRepair
from proxy.engine.repair.worker import Repairer
from proxy.engine.scrub.asked import AskedScrubber
from proxy.engine.scrub.findings import Report, to_repair
from proxy.engine.scrub.inspector import Inspector
from proxy.engine.scrub.passes import Tools
from proxy.engine.scrub.workers import DeepScrubber, LightScrubber
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.throttle import Throttle
from proxy.engine.trusted_time import TrustedTimeKeeper
from proxy.engine.walking.audit import Auditor
from proxy.engine.walking.tally import TallyObserver
from proxy.engine.workers import Worker
from proxy.engine.writing.filling import CodingThreads
from proxy.engine.writing.intents import IntentLedger, LeaseRenewal
from proxy.engine.writing.quorum import ShardPutter
from proxy.engine.writing.stragglers import Stragglers
from proxy.journaling import Journal
from proxy.keyring import Keyring
from proxy.manifest.lifecycle import EXPIRING, MOVING
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite.listings import Listings
from proxy.targets.protocol import Target

REST = 3.0  # a light scrub takes a quarter of one core while it compares, and none most of the day


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What workers are made of."""

    config: Config
    clock: Clock
    manifest: Manifest
    keyring: Keyring
    policies: Mapping[str, Policy]
    fleet: Fleet
    threads: Executor  # for coding, sealing, opening
    coding: CodingThreads  # for bodies
    ledger: IntentLedger
    epoch: EpochKeeper
    reader: Reader
    putter: ShardPutter
    stragglers: Stragglers
    reporter: DamageReporter
    tasks: BackgroundTasks
    throttle: Throttle  # all workers of this process share its pace: each takes a `share` of its own
    memory: BackgroundMemory
    journal: Journal | None  # None: none is kept
    targets: Mapping[str, Target]


def make_workers(parts: Parts) -> tuple[Worker, ...]:
    """Return the workers of a process that serves."""
    return (
        LeaseRenewal(parts.ledger, lease_seconds=parts.config.limits.intent_seconds),
        parts.epoch,
        _collector(parts),
        LeavingWatch(parts.manifest, parts.fleet),
        TrustedTimeKeeper(parts.manifest, parts.clock),
        make_campaigns(parts),
        *_lifecycle(parts),
        _repacker(parts),
        _repairer(parts),
        _auditor(parts),
        *_scrubbers(parts),
        *_journal(parts),
        *_tellers(parts),
    )


def _tellers(parts: Parts) -> Iterator[Worker]:
    """Return what tells events, if there is anybody to be told."""
    configured = parts.config.notifications
    if configured.targets:
        seconds = configured.keep_days * 24 * 3600
        yield Teller(parts.manifest, parts.clock, parts.targets, region=parts.config.region, keep_seconds=seconds)


def inspector(parts: Parts, throttle: Throttle | None = None) -> Inspector:
    """Return one of its own for each scrub: it counts its requests. Without a `throttle` it takes a share of its own."""
    throttle = throttle or parts.throttle.share()
    return Inspector(parts.manifest, parts.keyring, parts.fleet, throttle, parts.memory, parts.threads)


def comparing(parts: Parts, report: Report, *, rest: float = 0.0) -> Tools:
    """Return what the stores' listings are compared with the manifest by. `rest`: see `Tools`."""
    path, throttle = Path(parts.config.manifest.path), parts.throttle.share()
    return Tools(
        manifest=parts.manifest,
        clock=parts.clock,
        stores=parts.fleet.stores,
        inspector=inspector(parts, throttle),
        throttle=throttle,
        threads=parts.threads,
        scratch=lambda: Listings(path),
        report=report,
        rest=rest,
    )


def make_mover(parts: Parts, throttle: Throttle) -> ShardMover:
    """Return what moves shards for one worker; `throttle` is that worker's share."""
    return ShardMover(
        manifest=parts.manifest,
        keyring=parts.keyring,
        fleet=parts.fleet,
        clock=parts.clock,
        threads=parts.threads,
        throttle=throttle,
        memory=parts.memory,
        reporter=parts.reporter,
        tasks=parts.tasks,
    )


def make_campaigns(parts: Parts) -> CampaignWorker:
    """Return what carries campaigns out; a command may run it, too."""
    throttle = parts.throttle.share()
    return CampaignWorker(
        manifest=parts.manifest,
        policies=parts.policies,
        carrier=Carrier(parts.manifest, parts.fleet, make_mover(parts, throttle)),
        rewriter=_rewriter(parts, throttle),
        packed=PackedMover(parts.manifest, make_slot_rewriter(parts, throttle)),
        clock=parts.clock,
        journal=parts.journal is not None,
    )


def _lifecycle(parts: Parts) -> Iterator[Worker]:
    manifest, clock = parts.manifest, parts.clock
    yield LifecycleWorker(EXPIRING, manifest, clock, Expirations(manifest, clock, parts.throttle.share()))
    throttle = parts.throttle.share()
    transitions = Transitions(manifest, parts.policies, _rewriter(parts, throttle), make_slot_rewriter(parts, throttle), clock)
    yield LifecycleWorker(MOVING, manifest, clock, transitions)


def _rewriter(parts: Parts, throttle: Throttle) -> Rewriter:
    return Rewriter(_means(parts, throttle), parts.reader)


def make_slot_rewriter(parts: Parts, throttle: Throttle) -> SlotRewriter:
    """Return what stores slots of packs anew for one worker; `throttle` is that worker's share."""
    return SlotRewriter(_means(parts, throttle))


def _means(parts: Parts, throttle: Throttle) -> Means:
    limits = parts.config.limits
    return Means(
        manifest=parts.manifest,
        keyring=parts.keyring,
        fleet=parts.fleet,
        clock=parts.clock,
        threads=parts.threads,
        coding=parts.coding,
        ledger=parts.ledger,
        putter=parts.putter,
        stragglers=parts.stragglers,
        reporter=parts.reporter,
        tasks=parts.tasks,
        throttle=throttle,
        memory=parts.memory,
        wait_seconds=limits.memory_wait_seconds + limits.put_timeout_seconds,
        journaled=parts.journal is not None,
    )


def _repacker(parts: Parts) -> Repacker:
    packs = parts.config.packs
    return Repacker(
        parts.manifest,
        parts.clock,
        parts.policies,
        make_slot_rewriter(parts, parts.throttle.share()),
        within_days=packs.repack_within_days,
        requests_per_day=packs.repack_requests_per_day,
    )


def _collector(parts: Parts) -> Collector:
    limits = parts.config.limits
    return Collector(
        parts.manifest,
        parts.fleet,
        parts.ledger,
        parts.clock,
        parts.throttle.share(),
        parts.memory,
        delay_seconds=limits.collect_after_seconds,
        idle_seconds=limits.collect_interval_seconds,
        journaled=parts.journal is not None,
    )


def _auditor(parts: Parts) -> Auditor:
    tally = TallyObserver(parts.manifest, parts.clock, parts.fleet.stores)
    return Auditor(parts.manifest, parts.clock, [tally, PlacementObserver(parts.manifest, parts.clock, parts.policies, parts.fleet)])


def _repairer(parts: Parts) -> Repairer:
    share = parts.throttle.share()
    repair = SegmentRepair(
        manifest=parts.manifest,
        policies=parts.policies,
        fleet=parts.fleet,
        clock=parts.clock,
        mover=make_mover(parts, share),
        inspector=inspector(parts, share),
        throttle=share,
    )
    settings = parts.config.repair
    brake = Brake(parts.manifest, parts.clock, parts.fleet.stores, shards=settings.brake_shards, share=settings.brake_share)
    return Repairer(parts.manifest, parts.clock, repair, brake)


def _scrubbers(parts: Parts) -> Iterator[Worker]:
    days = parts.config.scrub
    yield AskedScrubber(parts.manifest, comparing(parts, to_repair(parts.manifest, parts.clock), rest=REST))
    if days.light_days:
        tools = comparing(parts, to_repair(parts.manifest, parts.clock), rest=REST)
        yield LightScrubber(parts.manifest, parts.clock, tools, days=days.light_days)
    if days.deep_days:
        yield DeepScrubber(parts.manifest, parts.clock, inspector(parts), parts.fleet, days=days.deep_days)


def _journal(parts: Parts) -> tuple[Worker, ...]:
    if parts.journal is None:
        return (NoJournal(parts.manifest),)
    interval_seconds = parts.config.journal.interval_ms / 1000
    return (
        JournalWorker(parts.journal.flusher, parts.clock, interval_seconds=interval_seconds),
        _checkpoints(parts, parts.journal),
        _journal_scrubber(parts, parts.journal),
    )


def scrub_of_copies(parts: Parts, journal: Journal) -> CopyScrub:
    """Return what compares the manifest's copy with the stores; a command may use it, too."""
    return CopyScrub(
        parts.manifest,
        journal.writer,
        journal.cipher,
        parts.fleet.stores,
        parts.clock,
        parts.throttle.share(),
        parts.memory,
        parts.threads,
    )


def _journal_scrubber(parts: Parts, journal: Journal) -> JournalScrubber:
    days = parts.config.scrub
    scrub = scrub_of_copies(parts, journal)
    return JournalScrubber(parts.manifest, journal.writer, scrub, parts.clock, light_days=days.light_days, deep_days=days.deep_days)


def _checkpoints(parts: Parts, journal: Journal) -> CheckpointWorker:
    settings, throttle = parts.config.journal, parts.throttle.share()
    return CheckpointWorker(
        parts.manifest,
        journal.writer,
        journal.flusher,
        parts.fleet.stores,
        parts.clock,
        maker=CheckpointMaker(parts.manifest, journal.writer, journal.flusher, parts.clock, throttle, parts.memory),
        tidier=Tidier(parts.manifest, parts.fleet.stores, parts.clock, throttle),
        share=settings.checkpoint_share,
        min_bytes=settings.checkpoint_min_mib * 1024 * 1024,
        keep_seconds=settings.keep_seconds,
    )
