"""The fence of the journal: is what the stores have of it ahead of this manifest?

The epoch tells a copy that is older than the last move of its number, up to a minute. The journal tells one that lacks a single change that
was journaled: its next segment is in the stores already, or a later checkpoint is.

A segment that follows the manifest's last one proves nothing by itself. It may be our own: a process died, or is about to record it. Such a
one holds only changes that this manifest has noted, and it is the only one: the manifest records each before the next is written. Nor does
one that is not whole: nothing in it was acknowledged. Where the manifest stands is read once more after the stores have been, so that
another process that goes on meanwhile raises no alarm.

Names are only what a store says, so what they promise is read and authenticated. One provider cannot stop the service with made-up names,
and one that hides its own shards hides nothing as long as k others show theirs.

Two manifests that write to the same stores are a fork. Each is compared at its start, whenever its epoch moves, and when its journal meets
another's (`proxy.engine.journal.lookout`). The one whose journal is behind finds a segment that does not follow its own, and stops. What it
has acknowledged since they parted is in its journal, which stays in the stores.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from proxy.codec.format import CHECKPOINT_PREFIX, JOURNAL_PREFIX
from proxy.engine.journal.reading import CopyReader, FoundCopy
from proxy.engine.journal.store import read_checkpoint_number, read_segment
from proxy.errors import IntegrityError, NotEnoughShards
from proxy.manifest.journal import JournalPosition
from proxy.manifest.protocol import Manifest

NUMBERS = 16  # behind the manifest's are looked at: so many parts of one flush that are not whole there never are
COPIES = 4  # of one number are read, those first that most stores list: attempts, and what is made up


class Ahead(Struct, frozen=True, kw_only=True):
    """A whole journal segment that was found behind the manifest's last one."""

    number: int
    previous: bytes
    sequence: int
    epoch: int = 0


class Seen(Struct, frozen=True, kw_only=True):
    """What the stores have that a manifest may not know of."""

    checkpoint: int = 0  # the highest number
    segments: tuple[Ahead, ...] = ()


def reason_to_stop(position: JournalPosition, seen: Seen, *, epoch: int) -> str:
    """Return why this manifest must not be written, or "". Pure; `position` and the manifest's `epoch` were read after the stores."""
    beyond = [segment for segment in seen.segments if segment.number > position.number]
    following = [segment for segment in beyond if segment.number == position.number + 1]
    if any(segment.previous != position.digest for segment in following):
        return (
            f"the journal in the stores has gone another way: its segment {position.number + 1} does not follow the one that this manifest "
            "has stored as the last, so another manifest writes to these stores"
        )
    highest = max(seen.checkpoint, *(segment.number for segment in beyond), 0)
    unknown = any(segment.sequence > position.noted or segment.epoch > epoch for segment in following)
    if seen.checkpoint > position.number or highest > position.number + 1 or unknown:
        return f"this manifest is an older copy: its journal is at segment {position.number}, and the stores have segment {highest}"
    return ""


class JournalFence:
    """Compares the manifest with the journal in its stores."""

    def __init__(self, manifest: Manifest, reader: CopyReader, *, timeout_seconds: float) -> None:
        self._manifest = manifest
        self._reader = reader
        self._timeout_seconds = timeout_seconds

    async def reason(self) -> str:
        """Return why this manifest must not be written, or "". A store that does not answer in time proves nothing."""
        before = await self._manifest.journal_position()
        seen = await self._look((await self._manifest.find_epoch()).identity, before.number)
        if seen == _NOTHING:
            return ""
        epoch = await self._manifest.find_epoch()
        return reason_to_stop(await self._manifest.journal_position(), seen, epoch=epoch.number)

    async def _look(self, identity: str, number: int) -> Seen:
        checkpoint = await self._newest_checkpoint(identity, number)
        segments: list[Ahead] = []
        for following in range(number + 1, number + 1 + NUMBERS):
            found = await self._find(JOURNAL_PREFIX, identity, following)
            read = [segment for copy in _likeliest(found) if (segment := await self._segment(copy)) is not None]
            segments += [ahead for ahead, whole in read if whole]
            if not read or any(ahead.number > number + 1 for ahead in segments):
                break
        return Seen(checkpoint=checkpoint, segments=tuple(segments))

    async def _newest_checkpoint(self, identity: str, number: int) -> int:
        found = [copy for copy in await self._find(CHECKPOINT_PREFIX, identity) if copy.number > number]
        for copy in sorted(_likeliest(found), key=lambda copy: copy.number, reverse=True):
            try:
                return await read_checkpoint_number(self._reader, copy)
            except (NotEnoughShards, IntegrityError):
                continue
        return 0

    async def _segment(self, copy: FoundCopy) -> tuple[Ahead, bool] | None:
        try:
            segment = (await read_segment(self._reader, copy)).segment
        except (NotEnoughShards, IntegrityError):
            return None
        return Ahead(number=segment.number, previous=segment.previous, sequence=segment.sequence, epoch=segment.epoch), segment.whole

    async def _find(self, prefix: str, identity: str, number: int | None = None) -> Sequence[FoundCopy]:
        return (await self._reader.find(prefix, identity=identity, number=number, timeout_seconds=self._timeout_seconds)).found


_NOTHING = Seen()


def _likeliest(found: Sequence[FoundCopy]) -> list[FoundCopy]:
    """Return those that most stores list: what one store alone has made up comes last, and is not read."""
    return sorted(found, key=lambda copy: len({store for stores in copy.names.values() for store in stores}), reverse=True)[:COPIES]
