"""Which small packs are worth merging. Decided purely.

A lone writer makes a pack of each object. Its n shards are n upstream objects, each with padding and a footer, and each is asked for, moved
and deleted by itself. Merged, hundreds of such objects take as many shards as one did.

Each merging costs requests, and the bytes are read and written again. So a pack is merged only with others that are, together, several
times its size: however slowly packs come in, a byte is merged a few times before its pack is large enough to be left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from proxy.codec.format import MAX_PACK_SIZE, MAX_PACK_SLOTS
from proxy.manifest.packs import Pack

FEWEST = 8  # packs that one takes the place of
GROWTH = 4  # times the live bytes of the largest of them


def first_fill(packs: Sequence[Pack]) -> tuple[Pack, ...]:
    """Return the first of the packs, as they come by kind, that are of one kind and fill a pack at most."""
    filled: list[Pack] = []
    size = slots = 0
    for pack in takewhile(lambda pack: pack.kind == packs[0].kind, packs):
        size, slots = size + pack.live, slots + pack.slots
        if filled and (size > MAX_PACK_SIZE or slots > MAX_PACK_SLOTS):
            break
        filled.append(pack)
    return tuple(filled)


def worth_merging(packs: Sequence[Pack]) -> tuple[Pack, ...]:
    """Return those of some packs that are to become one; none if that would be too little."""
    chosen = sorted(packs, key=lambda pack: pack.live)
    while len(chosen) >= FEWEST and sum(pack.live for pack in chosen) < GROWTH * chosen[-1].live:
        chosen.pop()
    return tuple(chosen) if len(chosen) >= FEWEST else ()
