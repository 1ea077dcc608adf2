"""What a scrub has found, as records."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.manifest.records import Record


class ScrubReport(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One pass over all shards: what was looked at, what is damaged, and which shards could not be looked at."""

    begun_ms: int = 0
    ended_ms: int = 0  # 0: it goes on
    shards: int = 0  # looked at
    size_bytes: int = 0  # read
    requests: int = 0
    found: Mapping[str, int] = {}  # shards by kind of damage
    unreachable: Mapping[str, int] = {}  # shards by store that did not answer
    unlisted: Mapping[str, str] = {}  # stores whose listing broke off, and why: nothing is said of them
    orphans: Mapping[str, int] = {}  # shards by store that nothing explains; of a deep scrub none: it lists nothing

    @property
    def damaged(self) -> int:
        return sum(self.found.values())
