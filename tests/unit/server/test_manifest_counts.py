from __future__ import annotations

from proxy.manifest.damage import DamageCount
from proxy.manifest.scrub import ScrubReport
from proxy.manifest.tally import Tally
from proxy.server.manifest_counts import ManifestCounts

NOTHING = DamageCount(by_store={}, by_redundancy={})


def lines(tally: Tally | None = None, **scrubs: ScrubReport | None) -> set[str]:
    counts = ManifestCounts(damage=NOTHING, garbage={}, jobs=(), tally=tally, scrubs=scrubs)
    return {line for line in counts.exposition().decode().splitlines() if not line.startswith("#")}


def test_before_anything_was_counted_or_scrubbed_nothing_is_told_of_it() -> None:
    assert lines(light=None, deep=None) == {"shardgate_oldest_damage_seconds 0.0"}


def test_a_tally_is_told_by_redundancy_and_by_store_with_its_time() -> None:
    told = lines(Tally(ended_ms=5000, by_redundancy={2: 7, -1: 1}, by_store={"elm": 90}))
    assert told > {
        'shardgate_segments{redundancy="2"} 7.0',
        'shardgate_segments{redundancy="-1"} 1.0',
        'shardgate_stored_bytes{store="elm"} 90.0',
        "shardgate_counted_seconds 5.0",
    }


def test_the_last_passes_are_told_with_what_they_have_found_and_what_they_could_not_see() -> None:
    light = ScrubReport(ended_ms=2000, found={"missing": 2, "truncated": 1}, unlisted={"elm": "down"}, orphans={"fir": 4})
    deep = ScrubReport(ended_ms=3000, unreachable={"elm": 3, "fir": 1})
    assert lines(light=light, deep=deep) > {
        'shardgate_scrub_ended_seconds{scrub="light"} 2.0',
        'shardgate_scrub_ended_seconds{scrub="deep"} 3.0',
        'shardgate_scrub_damaged_shards{scrub="light"} 3.0',
        'shardgate_scrub_damaged_shards{scrub="deep"} 0.0',
        'shardgate_scrub_unseen_stores{scrub="light"} 1.0',
        'shardgate_scrub_unseen_stores{scrub="deep"} 2.0',
        'shardgate_orphans{store="fir"} 4.0',
    }
