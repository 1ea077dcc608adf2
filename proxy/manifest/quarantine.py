"""Orphans in quarantine, as records: shards that nothing explains, on record until it is safe to delete them."""

from __future__ import annotations

from proxy.manifest.records import Record


class Orphan(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A shard that a store lists, and that no extent, no lease, no move and no queued garbage explains."""

    store: str
    name: str
    size_bytes: int


class Quarantined(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An orphan on record. `since_ms`: when it was first found; `seen_by`: the id of the last pass that saw it."""

    orphan: Orphan
    since_ms: int
    seen_by: int
