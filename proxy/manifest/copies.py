"""What is known of the manifest's copy in the stores: what a recovery needs of it, and what a scrub has found wrong with that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from proxy.manifest.records import Layout, Record

STATE = "scrub-journal-last"  # state: the report of the last comparison
KINDS = ("missing", "forged", "misplaced", "unreachable", "clumped", "policy")  # what may be wrong: see `DamagedCopy`


class StoredCopy(Record, frozen=True, kw_only=True):
    """A journal segment, a checkpoint or a run that a recovery would read now, and how it is stored."""

    prefix: str
    number: int  # that its names bear
    layout: Layout


class NeededCopies(Record, frozen=True, kw_only=True, omit_defaults=True):
    """All that a recovery would read now: the newest checkpoint with its runs, and the journal from it on."""

    checkpoint: int = 0  # its number; 0: there is none
    made_ms: int = 0  # when it was made
    copies: tuple[StoredCopy, ...] = ()
    is_known: bool = True  # False after a recovery: what came before is in the stores, but no record says where


class BadShard(Record, frozen=True, kw_only=True):
    """A shard that was opened, and is not what was put. No listing shows it, so it is remembered."""

    segment_id: bytes
    shard_index: int
    store: str
    kind: Literal["truncated", "forged"]


class DamagedCopy(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A segment of a copy that is not stored as it would be now."""

    prefix: str
    number: int
    segment_id: bytes
    urgent: bool = False  # a promise of the policy does not hold any more
    spare: int  # how many more shards may be lost; below 0, it cannot be read
    kinds: Mapping[str, int] = {}  # shards by what is wrong; `policy`, once, if the policy would store it in another way now
    stores: tuple[str, ...] = ()  # where those shards are, or should be


class CopyReport(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What the last comparison has found; of deep scrubs, what they found since."""

    compared_ms: int = 0
    basis: str = ""  # what it was compared with: the checkpoint, the policy, the stores
    segments: int = 0
    shards: int = 0
    requests: int = 0
    damaged: tuple[DamagedCopy, ...] = ()
    since_ms: int = 0  # since when something is damaged
    silent: Mapping[str, str] = {}  # store → why nothing is said of it
    bad: tuple[BadShard, ...] = ()
    opened_ms: int = 0  # when the last deep scrub has ended
    opening: bytes | None = None  # the segment behind which the one under way goes on

    @property
    def urgent(self) -> int:
        return sum(copy.urgent for copy in self.damaged)

    @property
    def spare(self) -> int:
        """Return the least redundancy that is left of what is damaged."""
        return min((copy.spare for copy in self.damaged), default=0)

    def shards_by_kind(self) -> dict[str, int]:
        kinds = sorted({kind for copy in self.damaged for kind in copy.kinds})
        return {kind: sum(copy.kinds.get(kind, 0) for copy in self.damaged) for kind in kinds}


_reports = msgspec.msgpack.Decoder(CopyReport)


def decode_report(kept: bytes | None) -> CopyReport | None:
    return None if kept is None else _reports.decode(kept)


def encode_report(report: CopyReport) -> bytes:
    return msgspec.msgpack.encode(report)


def in_words(kinds: Mapping[str, int]) -> str:
    """Say what is wrong, as in "3 missing, 1 forged"."""
    return ", ".join("not stored as its policy is now" if kind == "policy" else f"{count:,} {kind}" for kind, count in kinds.items())
