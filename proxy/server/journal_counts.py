"""What is told of the journal, for Prometheus and in the answer about health."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily

from proxy.engine.journal.scrubbing import load_copy_report
from proxy.journaling import Journal
from proxy.manifest.copies import KINDS, CopyReport
from proxy.manifest.journal import CheckpointState, JournalPosition
from proxy.manifest.protocol import Manifest

FAILING_SECONDS = 60.0  # shorter is a store that came and went


async def read_journal_counts(manifest: Manifest, journal: Journal) -> JournalCounts:
    """Ask the manifest, and this process."""
    return JournalCounts(
        position=await manifest.journal_position(),
        checkpoints=await manifest.checkpoint_state(before_ms=0),
        behind_seconds=journal.flusher.behind_seconds,
        report=await load_copy_report(manifest),
    )


def journal_trouble(journal: Journal | None) -> str:
    """Return what is to be said of a journal that has been failing for long, or ""."""
    if journal is None or journal.flusher.failing_seconds < FAILING_SECONDS:
        return ""
    flusher = journal.flusher
    return f"the journal has not been stored for {flusher.failing_seconds:.0f} s: {flusher.trouble}"


class JournalCounts:
    """Where the journal stands, told at each scrape."""

    def __init__(self, *, position: JournalPosition, checkpoints: CheckpointState, behind_seconds: float, report: CopyReport) -> None:
        self._position = position
        self._checkpoints = checkpoints
        self._report = report
        self._behind_seconds = behind_seconds if position.rows else 0.0

    def collect(self) -> Iterator[Metric]:
        position, state, last = self._position, self._checkpoints, self._checkpoints.last
        yield GaugeMetricFamily("shardgate_journal_number", "The last journal segment that is stored.", position.number)
        yield GaugeMetricFamily(
            "shardgate_journal_lag_seconds", "How long ago the journal had everything; 0: it has.", self._behind_seconds
        )
        yield GaugeMetricFamily(
            "shardgate_journal_bytes", "The journal behind the last checkpoint: what a recovery replays.", state.journal_bytes
        )
        yield GaugeMetricFamily("shardgate_checkpoint_bytes", "What the last checkpoint restates.", last.size_bytes if last else 0)
        report, kinds = self._report, self._report.shards_by_kind()
        damaged = GaugeMetricFamily(
            "shardgate_journal_damaged", "Shards that a recovery needs and that are not as they should be.", labels=["kind"]
        )
        for kind in KINDS:
            damaged.add_metric([kind], kinds.get(kind, 0))
        yield damaged
        yield GaugeMetricFamily("shardgate_journal_urgent", "Segments of those that do not keep their policy's promise.", report.urgent)
        yield GaugeMetricFamily(
            "shardgate_journal_compared_seconds", "When they were last compared with the stores; 0: never.", report.compared_ms / 1000
        )

    def exposition(self) -> bytes:
        """Return them in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)
