"""The manifest's copy in the stores: found, read, held together, and only then put into the manifest.

First everything that is needed is read into the notebook, or seen to be there: the newest checkpoint that is whole, and every journal
segment behind it. Where something is missing in the middle, nothing has been changed yet. A checkpoint that cannot be read makes way for an
older one, whose journal is longer.

What was read is authenticated: nobody without the root key seals a copy. So a store can only hide, or show what is old, or make up names
that open nothing. What cannot be read at the end of the journal was never acknowledged, as long as no more stores are silent, or lie, than
the policy lets fail; it is told all the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from proxy.codec.format import CHECKPOINT_PREFIX, JOURNAL_KEY_ID, JOURNAL_PREFIX, RUN_PREFIX, parse_copy_name
from proxy.engine.journal.reading import CopyReader, FoundCopy
from proxy.engine.journal.store import read_checkpoint, read_run
from proxy.engine.recover.chain import Chain, Start, follow
from proxy.engine.recover.notes import Notes, Tell
from proxy.errors import IntegrityError, NotEnoughShards, RecoveryRefused
from proxy.manifest.journal import NO_DIGEST, Checkpoint, Row, decode_segment, digest_of
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Layout, Segment, SegmentId
from proxy.manifest.recovery import Link
from proxy.manifest.sqlite.notebook import Notebook

AT_ONCE = 16  # journal segments that are read side by side
TRIES = 3
ROWS = 1000  # that are put into the manifest in one step
SAMPLE = 3  # copies of a manifest that are tried to tell whether it is of this root key
COPIES = 4  # of one number are read of those that one store alone lists
NUMBERS = 16  # behind the last segment that was read, such copies are looked for
LONE = 64  # such copies of one store are tried where any number will do
REASONS = 20  # that are told: one store can make up a million names


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the copy in the stores comes to. Without a checkpoint it goes on from where the manifest stands, or from nothing."""

    identity: str
    start: Start
    checkpoint: Checkpoint | None
    chain: Chain
    doubts: tuple[str, ...] = ()  # what was seen, and could not be read

    @property
    def end(self) -> Start:
        """Where it ends."""
        last = self.chain.links[-1] if self.chain.links else None
        return self.start if last is None else Start(last.number, last.digest)

    @property
    def epoch(self) -> int:
        """The epoch in which it ends."""
        if self.chain.links:
            return self.chain.links[-1].epoch
        return self.checkpoint.epoch if self.checkpoint else 0

    @property
    def made_ms(self) -> int:
        """When its last entry was written."""
        if self.chain.links:
            return self.chain.links[-1].made_ms
        return self.checkpoint.made_ms if self.checkpoint else 0


class HistoryFinder:
    """Finds and reads the copy, and changes nothing but the notebook."""

    def __init__(self, reader: CopyReader, notes: Notes, tell: Tell, *, silent: Collection[str] = ()) -> None:
        self._reader = reader
        self._notes = notes
        self._tell = tell
        self.silent = frozenset(silent)  # stores that did not list all they have; more, perhaps, once `find` is over
        self._read: set[SegmentId] = set()
        self._unread: dict[SegmentId, tuple[FoundCopy, str]] = {}

    async def find(self, *, identity: str = "", since: Start | None = None) -> History:
        """Return the history of one manifest: since a position if that can be, else all of it. `RecoveryRefused`, `JournalBroken`."""
        journal = await self._find(JOURNAL_PREFIX)
        checkpoints = await self._find(CHECKPOINT_PREFIX)
        identity = identity or await self._only_identity([*checkpoints, *journal])
        segments = [copy for copy in journal if copy.identity == identity]
        self._read = {link.segment_id for link in await self._notes.run(Notebook.links)}
        if since is not None and any(copy.number == since.number + 1 for copy in segments):
            return await self._follow(identity, since, None, segments)
        reasons: list[str] = []
        runs = await self._runs(identity)
        for copy in newest_first([copy for copy in checkpoints if copy.identity == identity]):
            history = await self._from_checkpoint(copy, segments, runs, reasons)
            if history is not None:
                return history
        if not any(copy.number == 1 for copy in segments):
            reasons.append("the journal does not go back to its beginning")
            why = "; ".join(_first(reasons))
            raise RecoveryRefused(f"no whole checkpoint of manifest {identity} can be read: {why}; nothing was changed")
        return await self._follow(identity, Start(0, NO_DIGEST), None, segments)

    async def _find(self, prefix: str, identity: str = "") -> Sequence[FoundCopy]:
        """List copies. A store that does not answer is asked again; what does not answer then is `silent`."""
        for _ in range(TRIES):
            listing = await self._reader.find(prefix, identity=identity)
            if listing.silent <= self.silent:
                break
        self.silent |= listing.silent
        return listing.found

    async def _only_identity(self, copies: Sequence[FoundCopy]) -> str:
        """Return the manifest that these are copies of: of all those in the stores, the one whose copies the root key opens."""
        by_identity = likely_identities(copies)
        ours = [identity for identity, some in by_identity.items() if await self._opens(some)]
        if not ours:
            raise RecoveryRefused(
                f"the stores hold copies of {len(by_identity)} manifests, and this root key opens none of them; tenants, keys and buckets "
                "are nowhere else; is this the right root key, and do enough stores answer? Nothing was changed"
            )
        if len(ours) > 1:
            raise RecoveryRefused(
                f"the stores hold the copies of {len(ours)} manifests of this root key; say which one is meant, with --identity: "
                f"{', '.join(sorted(ours))}"
            )
        return ours[0]

    async def _opens(self, copies: Sequence[FoundCopy]) -> bool:
        """Try the newest and, as those may be made up, the oldest."""
        for copy in (*copies[:SAMPLE], *copies[-SAMPLE:]):
            try:
                await self._reader.read(copy)
            except (NotEnoughShards, IntegrityError):
                continue
            return True
        return False

    async def _runs(self, identity: str) -> dict[bytes, set[int]]:
        """Return which shards of the runs' segments are listed."""
        listed: dict[bytes, set[int]] = defaultdict(set)
        for copy in await self._find(RUN_PREFIX, identity):
            for name in copy.names:
                if (parsed := parse_copy_name(name)) is not None:
                    listed[copy.segment_id].add(parsed.shard_index)
        return listed

    async def _from_checkpoint(
        self, copy: FoundCopy, segments: Sequence[FoundCopy], runs: Mapping[bytes, Collection[int]], reasons: list[str]
    ) -> History | None:
        """Return the history from a checkpoint on; None, and a reason, if the checkpoint is not whole."""
        try:
            checkpoint = await read_checkpoint(self._reader, copy)
        except (NotEnoughShards, IntegrityError) as error:
            reasons.append(f"checkpoint {copy.number}: {error}")
            return None
        needed = [(segment.id, run.layout.k) for run in checkpoint.runs for segment in run.layout.segments]
        if gone := [segment_id for segment_id, k in needed if len(runs.get(segment_id, ())) < k]:
            reasons.append(f"checkpoint {copy.number}: {len(gone)} of {len(needed)} segments of its runs are not in the stores")
            return None
        history = await self._follow(checkpoint.identity, Start(checkpoint.number, checkpoint.digest), checkpoint, segments)
        if history.end.number < checkpoint.until:
            reasons.append(f"checkpoint {copy.number} needs the journal up to {checkpoint.until}, and it ends at {history.end.number}")
            return None
        return history

    async def _follow(self, identity: str, start: Start, checkpoint: Checkpoint | None, segments: Sequence[FoundCopy]) -> History:
        """Read the journal behind a start, and hold it together."""
        wanted = [copy for copy in segments if copy.number > start.number]
        await self._read_likely(start.number, wanted)
        ids = {copy.segment_id for copy in wanted}
        chain = follow(start, [link for link in await self._notes.run(Notebook.links) if link.segment_id in ids])
        end = start.number + len(chain.links)
        doubts = [
            f"journal segment {copy.number} is listed by {', '.join(_stores_of(copy))}, and cannot be read: {reason}"
            for copy, reason in self._unread.values()
            if copy.number > end
        ]
        return History(identity=identity, start=start, checkpoint=checkpoint, chain=chain, doubts=tuple(_first(doubts)))

    async def _read_likely(self, last: int, copies: Sequence[FoundCopy]) -> None:
        """Read what several stores list, and then what one alone does, as far as the journal reaches.

        One alone has all that is left of a segment only under a policy of one data shard; more often it has made it up.
        """
        firm, lone = firm_and_lone(copies)
        await self._read_all(firm)
        while True:
            reached = max((copy.number for copy in copies if copy.segment_id in self._read), default=last)
            near = [copy for copy in lone if copy.number <= reached + NUMBERS]
            if not near:
                return
            lone = [copy for copy in lone if copy.number > reached + NUMBERS]
            await self._read_all(near)

    async def _read_all(self, copies: Sequence[FoundCopy]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        done = 0

        async def read(copy: FoundCopy) -> None:
            nonlocal done
            async with gate:
                await self._read_one(copy)
            done += 1
            self._tell("journal", done, len(copies))

        await asyncio.gather(*(read(copy) for copy in copies if copy.segment_id not in self._read))

    async def _read_one(self, copy: FoundCopy) -> None:
        """Read a journal segment into the notebook, or note why that cannot be."""
        for _ in range(TRIES):
            try:
                link, plaintext = await self._link(copy)
            except (NotEnoughShards, IntegrityError) as error:
                self._unread[SegmentId(copy.segment_id)] = copy, str(error)
                continue
            self._unread.pop(link.segment_id, None)
            self._read.add(link.segment_id)
            await self._notes.run(Notebook.add_link, link, plaintext)
            return

    async def _link(self, copy: FoundCopy) -> tuple[Link, bytes]:
        decoded = await self._reader.decode(copy)
        segment = decode_segment(decoded.plaintext)
        if (segment.identity, segment.number) != (copy.identity, copy.number):
            raise IntegrityError(f"journal segment {segment.number} of manifest {segment.identity} bears the name of {copy.number}")
        scheme = decoded.fixed.scheme
        link = Link(
            number=segment.number,
            segment_id=SegmentId(copy.segment_id),
            digest=digest_of(decoded.plaintext),
            previous=segment.previous,
            epoch=segment.epoch,
            sequence=segment.sequence,
            whole=segment.whole,
            made_ms=segment.made_ms,
            size_bytes=len(decoded.plaintext),
            layout=_layout(copy, scheme.k, scheme.m, len(decoded.plaintext)),
        )
        return link, decoded.plaintext


class HistoryReplay:
    """Puts a history into the manifest, which is fenced. Killed, it begins anew: everything in it may be done twice."""

    def __init__(self, manifest: Manifest, reader: CopyReader, notes: Notes, tell: Tell) -> None:
        self._manifest = manifest
        self._reader = reader
        self._notes = notes
        self._tell = tell
        self._rows = 0

    async def run(self, history: History) -> int:
        """Make the rows what they were at the end of the journal; return how many that took."""
        if history.checkpoint is not None or history.start.number == 0:
            await self._manifest.forget_all()
        total = sum(run.rows for run in history.checkpoint.runs) if history.checkpoint else None
        for run in history.checkpoint.runs if history.checkpoint else ():
            async for rows in read_run(self._reader, history.identity, run):
                await self._apply(rows, total)
        for link in history.chain.links:
            plaintext = await self._notes.run(Notebook.plaintext, link.number, link.segment_id)
            await self._apply(decode_segment(plaintext).rows, None)
        return self._rows

    async def _apply(self, rows: Sequence[Row], total: int | None) -> None:
        for start in range(0, len(rows), ROWS):
            await self._manifest.apply_rows(rows[start : start + ROWS], note=False)
        self._rows += len(rows)
        self._tell("rows", self._rows, total)


def firm_and_lone(copies: Sequence[FoundCopy]) -> tuple[list[FoundCopy], list[FoundCopy]]:
    """Return the copies that several stores list, and those that one alone does: a few of each number from each store. Pure."""
    firm: list[FoundCopy] = []
    lone: list[FoundCopy] = []
    seen: Counter[tuple[str, int, str]] = Counter()
    for copy in copies:
        stores = _stores_of(copy)
        if len(stores) > 1:
            firm.append(copy)
            continue
        place = copy.identity, copy.number, stores[0]
        seen[place] += 1
        if seen[place] <= COPIES:
            lone.append(copy)
    return firm, lone


def newest_first(copies: Sequence[FoundCopy]) -> list[FoundCopy]:
    """Return the copies that several stores list, and behind them some of those that one alone does: it may have made them up. Pure."""
    firm, lone = firm_and_lone(copies)
    taken: Counter[str] = Counter()
    few: list[FoundCopy] = []
    for copy in sorted(lone, key=lambda copy: -copy.number):
        (store,) = _stores_of(copy)
        taken[store] += 1
        if taken[store] <= LONE:
            few.append(copy)
    return [*sorted(firm, key=lambda copy: -copy.number), *few]


def likely_identities(copies: Sequence[FoundCopy]) -> dict[str, list[FoundCopy]]:
    """Return the copies of each manifest, the likeliest first; of manifests that one store alone knows, a few of each. Pure."""
    by_identity: dict[str, list[FoundCopy]] = defaultdict(list)
    stores: dict[str, set[str]] = defaultdict(set)
    for copy in copies:
        by_identity[copy.identity].append(copy)
        stores[copy.identity].update(_stores_of(copy))
    taken: Counter[str] = Counter()
    likely: dict[str, list[FoundCopy]] = {}
    for identity, some in by_identity.items():
        if len(stores[identity]) == 1:
            (store,) = stores[identity]
            taken[store] += 1
            if taken[store] > LONE:
                continue
        likely[identity] = newest_first(some)
    return likely


def _first(reasons: Sequence[str]) -> list[str]:
    return [*reasons[:REASONS], f"and {len(reasons) - REASONS} more"] if len(reasons) > REASONS else list(reasons)


def _stores_of(copy: FoundCopy) -> list[str]:
    return sorted({store for stores in copy.names.values() for store in stores})


def _layout(copy: FoundCopy, k: int, m: int, size: int) -> Layout:
    """Return where the shards of a copy were listed, so that they can be deleted one day. Its data key is not needed for that."""
    stores = {parsed.shard_index: places[0] for name, places in copy.names.items() if (parsed := parse_copy_name(name)) is not None}
    anywhere = next(iter(stores.values()))
    segment = Segment(
        id=SegmentId(copy.segment_id),
        size=size,
        stores=tuple(stores.get(index, anywhere) for index in range(k + m)),
        missing=tuple(index for index in range(k + m) if index not in stores),
    )
    return Layout(size=size, k=k, m=m, tenant_key_id=JOURNAL_KEY_ID, wrapped_key=b"", segments=(segment,))
