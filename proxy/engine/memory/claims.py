"""Claims: whether all who hold a part of the memory can still get the rest, one after the other. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple


class Claim(NamedTuple):
    """What one request holds of the memory, and how much more it may ask for."""

    held_bytes: int
    missing_bytes: int


def can_all_finish(claims: Iterable[Claim], capacity_bytes: int) -> bool:
    """Tell whether there is an order in which each gets what it still misses from what is free by then, and gives all back.

    What others hold counts as free: they need no more, and give it back. One that finishes leaves no less to the rest than before. So if
    any order works, this one does: the one that misses least comes first.
    """
    ordered = sorted(claims, key=attrgetter("missing_bytes"))
    free = capacity_bytes - sum(claim.held_bytes for claim in ordered)
    for claim in ordered:
        if claim.missing_bytes > free:
            return False
        free += claim.held_bytes
    return True
