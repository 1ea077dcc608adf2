"""What the manifest knows for good, asked with a deadline."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.config import Config
from proxy.engine.journal.scrubbing import load_copy_report
from proxy.engine.repair.audit import load_placement
from proxy.engine.scrub.reports import load_report
from proxy.engine.scrub.workers import DEEP, LIGHT
from proxy.engine.walking.tally import load_tally
from proxy.errors import ProxyError
from proxy.lanes import Lanes
from proxy.manifest.damage import DamageCount
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Job
from proxy.manifest.scrub import ScrubReport
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.tally import Tally
from proxy.openings import open_root_key
from proxy.paths import is_there
from proxy.status.campaigns import GOING_ON, campaign_facts
from proxy.status.facts import CampaignFacts, JournalFacts, LossFacts, ManifestFacts, PackFacts, PlacementFacts, ScrubFacts, TallyFacts

LONGEST_LOOK_SECONDS = 2.0
ANYWHERE = ""  # the store of garbage that may lie in any


class Known(NamedTuple):
    """What the manifest knows."""

    facts: ManifestFacts
    identity: str = ""
    stores: frozenset[str] = frozenset()
    damage: DamageCount = DamageCount(by_store={}, by_redundancy={})
    losses: tuple[LossFacts, ...] = ()
    garbage: Mapping[str, int] = {}
    jobs: tuple[Job, ...] = ()
    tally: Tally | None = None
    placement: PlacementFacts = PlacementFacts()
    packs: PackFacts = PackFacts()
    scrubs: tuple[ScrubFacts, ...] = ()
    journal: JournalFacts | None = None
    campaigns: tuple[CampaignFacts, ...] = ()
    left: frozenset[str] = frozenset()  # stores that a campaign has emptied


async def ask_manifest(config: Config, clock: Clock, seconds: float) -> Known:
    """Read the manifest. One that is not there, damaged or hanging is no error, and none is made."""
    path = Path(config.manifest.path)
    facts = ManifestFacts(path=str(path))
    try:
        async with asyncio.timeout(2 * seconds):
            facts = await _measured(path)
            async with open_sqlite(path, clock, timeout_seconds=seconds) as manifest:
                return await _read_manifest(config, manifest, facts, clock)
    except TimeoutError:
        return Known(replace(facts, trouble=f"no answer in {2 * seconds:g} s: its disk may hang"))
    except FileNotFoundError:
        return Known(replace(facts, trouble=f"{path} does not exist"))
    except (ProxyError, OSError) as error:
        return Known(replace(facts, trouble=str(error)))


async def _read_manifest(config: Config, manifest: Manifest, facts: ManifestFacts, clock: Clock) -> Known:
    epoch = await manifest.find_epoch()
    key_trouble = ""
    try:
        await open_root_key(replace(config, root_key=replace(config.root_key, create=False)), manifest)
    except ProxyError as error:
        key_trouble = str(error)
    campaigns = await manifest.list_campaigns()
    return Known(
        facts=replace(facts, fence=epoch.fence, epoch=epoch.number, root_key_trouble=key_trouble),
        identity=epoch.identity,
        stores=await manifest.known_stores(),
        damage=await manifest.count_damage(),
        losses=await _losses(manifest),
        garbage=await manifest.count_garbage(),
        jobs=await manifest.list_jobs(),
        tally=await load_tally(manifest),
        placement=await _placement(manifest),
        packs=PackFacts(dead_since_ms=await manifest.oldest_dead_ms(), within_days=config.packs.repack_within_days),
        scrubs=tuple([facts async for facts in _scrubs(config, manifest)]),
        journal=await _journal(config, manifest, clock) if config.journal.enabled else None,
        campaigns=tuple(campaign_facts(campaign) for campaign in campaigns if campaign.state in GOING_ON),
        left=frozenset(campaign.store for campaign in campaigns if campaign.leaves and campaign.state == "done"),
    )


async def _losses(manifest: Manifest) -> tuple[LossFacts, ...]:
    return tuple(
        LossFacts(store=losses.store, found=losses.found, shards=losses.shards, paused=losses.state == "paused")
        for losses in await manifest.list_losses()
    )


async def _placement(manifest: Manifest) -> PlacementFacts:
    report = await load_placement(manifest)
    return PlacementFacts() if report is None else PlacementFacts(outdated=dict(report.outdated), orphaned=dict(report.orphaned))


async def _scrubs(config: Config, manifest: Manifest) -> AsyncIterator[ScrubFacts]:
    for kind, name, days in (("light", LIGHT, config.scrub.light_days), ("deep", DEEP, config.scrub.deep_days)):
        if days:
            report, job = await load_report(manifest, name) or ScrubReport(), await manifest.find_job(name)
            yield ScrubFacts(
                kind=kind,
                days=days,
                ended_ms=report.ended_ms or None,
                shards=report.shards,
                damaged=report.damaged,
                remaining=job.remaining,
            )


async def _journal(config: Config, manifest: Manifest, clock: Clock) -> JournalFacts:
    """Look twice: a change of this very moment is not late."""
    before = await manifest.journal_position()
    if before.rows > 0:
        await asyncio.sleep(min(2 * config.journal.interval_ms / 1000, LONGEST_LOOK_SECONDS))
    position, checkpoints = await manifest.journal_position(), await manifest.checkpoint_state(before_ms=0)
    waiting = max(before.noted - position.sequence, 0)
    report = await load_copy_report(manifest)
    return JournalFacts(
        waiting=waiting,
        lag_ms=clock.now_ms() - position.stored_ms if waiting else 0,
        number=position.number,
        checkpoint_ms=checkpoints.last.made_ms if checkpoints.last else None,
        since_checkpoint=checkpoints.journal_segments,
        gap=checkpoints.gap,
        compared_ms=report.compared_ms or None,
        damaged=report.shards_by_kind(),
        urgent=report.urgent,
        spare=report.spare,
    )


def tally_facts(tally: Tally) -> TallyFacts:
    return TallyFacts(
        ended_ms=tally.ended_ms, segments=tally.segments, plaintext_bytes=tally.plaintext_bytes, redundancy=dict(tally.by_redundancy)
    )


async def _measured(path: Path) -> ManifestFacts:
    lanes = Lanes(1, name="measure-manifest")  # which nobody waits for at the end: the disk may hang
    try:
        return await lanes.run(lambda _: _measure(path))
    finally:
        lanes.close()


def _measure(path: Path) -> ManifestFacts:
    """Return the sizes of the file and of its log, and the room on its disk. `OSError` if it is not there: status makes none."""
    log = path.with_name(f"{path.name}-wal")
    return ManifestFacts(
        path=str(path),
        size_bytes=path.stat().st_size,
        log_bytes=log.stat().st_size if is_there(log) else 0,
        free_bytes=shutil.disk_usage(path.parent).free,
    )
