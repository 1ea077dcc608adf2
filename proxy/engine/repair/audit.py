"""The audit of placement: an observer of the walk that finds shards which the policy, as configured now, would not have where they are.

A configuration changes while segments stay. A store that is taken out of it, a jurisdiction that is forbidden, a provider that is bought, a
failure that is promised anew: each makes shards of yesterday wrong today. They are queued for repair, which looks again before it moves
any. What repair cannot mend is counted: segments of a scheme that the policy has given up, and segments of a policy that is gone. They
are coded anew, or put under another policy, by `shardgate policy move`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from proxy.clock import Clock
from proxy.codec.geometry import Scheme
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.engine.repair.plan import wrong_places
from proxy.manifest.damage import Damage
from proxy.manifest.plans.damage import generation_of
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, Record, Segment

PLACEMENT = "placement"
BATCH = 500  # reports in one step of the manifest


class PlacementReport(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What the last whole pass has found that repair cannot mend: segments, by policy."""

    ended_ms: int = 0
    outdated: Mapping[str, int] = {}  # of a scheme that the policy does not have any more
    orphaned: Mapping[str, int] = {}  # of a policy that is not configured any more


_reports = msgspec.msgpack.Decoder(PlacementReport)


async def load_placement(manifest: Manifest) -> PlacementReport | None:
    """Return what the last whole pass has found; None before the first has ended."""
    kept = await manifest.load_state(PLACEMENT)
    return None if kept is None else _reports.decode(kept)


class PlacementObserver:
    """Holds every segment against its policy."""

    name = PLACEMENT

    def __init__(self, manifest: Manifest, clock: Clock, policies: Mapping[str, Policy], fleet: Fleet) -> None:
        self._manifest = manifest
        self._clock = clock
        self._policies = policies
        self._fleet = fleet
        self.begin(None)

    def begin(self, kept: bytes | None) -> None:
        report = PlacementReport() if kept is None else _reports.decode(kept)
        self._outdated, self._orphaned = Counter(report.outdated), Counter(report.orphaned)

    async def see(self, extents: Sequence[Extent]) -> None:
        found = [damage for extent in extents for damage in self._wrong(extent)]
        for start in range(0, len(found), BATCH):
            news = await self._manifest.unknown_damage(found[start : start + BATCH])
            if news:
                await self._manifest.report_damage(news, now_ms=self._clock.now_ms())

    def keep(self) -> bytes:
        return msgspec.msgpack.encode(self._report(0))

    async def finish(self) -> None:
        await self._manifest.save_state(PLACEMENT, msgspec.msgpack.encode(self._report(self._clock.now_ms())))

    def _wrong(self, extent: Extent) -> list[Damage]:
        layout = extent.layout
        policy, scheme = self._policies.get(layout.policy), Scheme(layout.k, layout.m)
        if policy is None:
            self._orphaned[layout.policy] += len(layout.segments)
            return []
        if scheme not in {policy.scheme, *policy.storage_classes.values()}:
            self._outdated[layout.policy] += len(layout.segments)
        return [damage for segment in layout.segments for damage in self._misplaced(extent, segment, policy, scheme)]

    def _misplaced(self, extent: Extent, segment: Segment, policy: Policy, scheme: Scheme) -> list[Damage]:
        return [
            Damage(
                extent_id=extent.id,
                segment_id=segment.id,
                shard_index=index,
                kind=kind,
                store=segment.stores[index],
                generation=generation_of(segment, index),
            )
            for index, kind in wrong_places(policy, scheme, segment.stores, self._fleet.stores).items()
        ]

    def _report(self, ended_ms: int) -> PlacementReport:
        return PlacementReport(ended_ms=ended_ms, outdated=self._outdated, orphaned=self._orphaned)
