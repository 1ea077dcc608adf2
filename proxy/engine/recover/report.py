"""What a recovery did, and what it could not do or prove."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.engine.recover.listing import Listed
from proxy.manifest.records import Record
from proxy.manifest.recovery import Finding


class JournalReport(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Where the journal stood."""

    identity: str
    checkpoint: int | None  # the number of the checkpoint that was used
    segments: int  # that were replayed
    number: int  # of the last one
    epoch: int
    made_ms: int  # when the last one was written
    rows: int


class Report(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What came back, from where, and what did not. `findings` are the first of as many as `finding_counts` says."""

    stores: Mapping[str, Listed]
    journal: JournalReport
    counts: Mapping[str, int]  # rows that are in the manifest now, by table
    versions_from_labels: int
    parts_from_labels: int
    missing_shards: int
    finding_counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    unproved: tuple[str, ...]  # why something newer than what came back cannot be excluded
    epoch: int
    seconds: float
