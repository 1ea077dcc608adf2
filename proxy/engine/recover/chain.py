"""Which of the journal segments in the stores are the journal. Decided purely.

Each names the one before by its digest. Several may bear one number: a process died after it had stored one, and the next attempt has the
same number. Who is named by a next one counts; at the end it is the one of the highest rank, which holds all that was acknowledged.

Nothing is guessed: where a number is missing between two others, or two of one number are each followed by others, `JournalBroken` is
raised. Only at the end can nothing be missed: what is not there leaves no trace. So the end is held against the epoch that the stores
have seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from proxy.errors import JournalBroken
from proxy.manifest.recovery import Link


class Start(NamedTuple):
    """What the first segment of a chain must follow."""

    number: int
    digest: bytes


class Chain(NamedTuple):
    """The journal from a start on, up to its last whole segment; and what was stored behind that, of which nothing was acknowledged."""

    links: tuple[Link, ...]
    rest: tuple[Link, ...] = ()


def follow(start: Start, found: Sequence[Link]) -> Chain:
    """Return the journal that begins behind `start`. Raises `JournalBroken`."""
    levels = _levels(start, found)
    last = start.number + len(levels)
    if beyond := sorted({link.number for link in found if link.number > last}):
        raise JournalBroken(
            f"the journal has a gap: no segment {last + 1} follows segment {last}, and there are {len(beyond)} segments from number "
            f"{beyond[0]} to {beyond[-1]}"
        )
    path = _path(levels)
    _refuse_strangers(start, found, levels)
    whole = max((place for place, link in enumerate(path, 1) if link.whole), default=0)
    return Chain(tuple(path[:whole]), tuple(path[whole:]))


def _levels(start: Start, found: Sequence[Link]) -> list[list[Link]]:
    """Return, number by number, the segments that can be reached from the start."""
    by_number = defaultdict(list)
    for link in found:
        by_number[link.number].append(link)
    levels: list[list[Link]] = []
    digests = {start.digest}
    while level := [link for link in by_number[start.number + len(levels) + 1] if link.previous in digests]:
        levels.append(level)
        digests = {link.digest for link in level}
    return levels


def _path(levels: Sequence[Sequence[Link]]) -> list[Link]:
    """Return the one way from the start to the end: backwards, since who is named by a next one counts."""
    path: list[Link] = []
    named: set[bytes] = set()
    for level in reversed(levels):
        counting = [link for link in level if link.digest in named] if named else list(level)
        if named and len({link.digest for link in counting}) > 1:
            raise JournalBroken(_fork(counting))
        path.append(max(counting, key=lambda link: link.rank))
        named = {link.previous for link in level}
    return path[::-1]


def _refuse_strangers(start: Start, found: Sequence[Link], levels: Sequence[Sequence[Link]]) -> None:
    """A segment that follows none of those before it is of another journal: a second manifest has written to these stores."""
    reached = {link.segment_id for level in levels for link in level}
    for link in found:
        if link.number > start.number and link.segment_id not in reached:
            raise JournalBroken(
                f"the journal has a fork: segment {link.number} of epoch {link.epoch} does not follow the segment {link.number - 1} that "
                "is there; two manifests have written to these stores"
            )


def _fork(counting: Sequence[Link]) -> str:
    epochs = ", ".join(str(link.epoch) for link in sorted(counting, key=lambda link: link.epoch))
    return (
        f"the journal has a fork: there are {len(counting)} segments {counting[0].number}, of the epochs {epochs}, and each is followed by "
        "others; two manifests have written to these stores"
    )
