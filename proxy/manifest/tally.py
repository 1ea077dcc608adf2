"""What a walk over all extents has counted, as a record."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.manifest.records import Record

TALLY = "tally"  # the state of this name is the last whole tally


class Tally(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What there is, as one pass has seen it: what was written or deleted meanwhile may be counted or not."""

    begun_ms: int = 0
    ended_ms: int = 0  # 0: not yet
    extents: int = 0
    segments: int = 0
    shards: int = 0  # that are there
    plaintext_bytes: int = 0  # of packs, those of the objects that are in use
    packs: int = 0
    packed_bytes: int = 0  # of the objects in them that are in use
    dead_bytes: int = 0  # of those that are not
    by_redundancy: Mapping[int, int] = {}  # segments by how many more shards may be lost; below 0 they cannot be read
    placed: Mapping[str, int] = {}  # shards that a store should hold, whether it does or not
    by_store: Mapping[str, int] = {}  # bytes of live shards, each taken to have the smallest label
