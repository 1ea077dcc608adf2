"""Findings: what is wrong with a shard, in the words of whoever reads a report, and as the damage that repair works from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.engine.scrub.inspector import Look, Shard
from proxy.manifest.damage import Damage, DamageKind
from proxy.manifest.protocol import Manifest

BATCH = 200  # of a store that has lost everything there are many: clients write in between

Report = Callable[[Sequence["Finding"]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One shard, and what is wrong with it."""

    shard: Shard
    kind: DamageKind
    detail: str

    @classmethod
    def of(cls, shard: Shard, look: Look) -> Finding:
        if look.kind is None:
            raise ValueError(f"nothing is wrong with shard {shard.name}")
        return cls(shard=shard, kind=look.kind, detail=look.detail)

    @property
    def damage(self) -> Damage:
        segment, index = self.shard.segment, self.shard.index
        return Damage(
            extent_id=self.shard.extent.id,
            segment_id=segment.id,
            shard_index=index,
            kind=self.kind,
            store=self.shard.store,
            generation=segment.generations[index] if segment.generations else 0,
        )


def to_repair(manifest: Manifest, clock: Clock) -> Report:
    """Return a report that queues what is found for repair. It may be made twice."""

    async def report(findings: Sequence[Finding]) -> None:
        for start in range(0, len(findings), BATCH):
            batch = [finding.damage for finding in findings[start : start + BATCH]]
            await manifest.report_damage(batch, now_ms=clock.now_ms())

    return report
