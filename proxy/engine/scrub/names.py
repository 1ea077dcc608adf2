"""What a name in a store is, as far as the name alone tells."""

from __future__ import annotations

from typing import Literal

from proxy.codec.format import is_shard_name, parse_copy_name
from proxy.engine.epoch import parse_marker

NameKind = Literal["shard", "own", "another manifest's", "foreign"]


def kind_of_name(name: str, *, identity: str) -> NameKind:
    """Sort a name. Beside shards, this manifest (of `identity`) has its own markers and journal; another's say that the store is shared."""
    if is_shard_name(name):
        return "shard"
    found = parse_marker(name) or parse_copy_name(name)
    if found is None:
        return "foreign"
    return "own" if found.identity == identity else "another manifest's"
