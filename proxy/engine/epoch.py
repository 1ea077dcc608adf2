"""The epoch: how an old copy of the manifest is noticed before it does harm.

The problem. A server that starts on an older copy of the manifest, beside newer stores, does not know what was written since. In this copy,
ids that were leased and used meanwhile look unused: their leases expire, every store is searched for them, and what is found is deleted.

The idea. The manifest has an identity and a number, and each store keeps both as a small object, the **marker**, called
`epoch/<number, 20 digits>-<identity>-<proof>-<mark>`. The number moves at each start of a server, after each backup, and each minute
in which something was changed. A manifest whose number is lower than a store's is an old copy. It is fenced: it is read, and nothing is
written or collected.

The order. First the manifest moves, durably; then the markers are put; then older ones are deleted. So no store is ever ahead of the
manifest that is in use, wherever this breaks off: a crash in between leaves markers that are behind, and so does a store that was down. A
comparison reads the markers first and the manifest after, so that another process that moves it meanwhile raises no alarm. Numbers are
given by the manifest, one process at a time, so two starts never put the same one; which of their markers comes last does not matter, the
highest counts.

What it does not notice. A copy made after the number last moved is as new as the number tells, but may lack the changes of the last minute.
The journal knows of each change, and is compared, too, where one is kept (`proxy.engine.journal.fence`). In any case, a copy is made with
`shardgate manifest backup`.
A store that did not answer at the start may be the only one that is ahead; the next move, a minute later, compares again.

Lies. One provider must not be able to stop the service with a number that it makes up. So a marker bears a proof, derived from the root
key, and one of ours without it means nothing, but is told. A provider can show an older marker again, which says less than the manifest
knows, or hide those it has: then the other stores must notice the old copy.

What else they tell. The mark says which store the marker was put into: see `proxy.engine.placing.swapped`. A store that has no marker of
ours any more has lost that, and nobody knows what else: it is scrubbed at once. So the markers are looked at now and then when nothing
moves, too.

Another's markers. A store may have belonged to another manifest before, or be shared with one: its markers are left alone, and mean nothing
as long as ours are found as well. If all stores answer, and there are only another's, this manifest does not belong to these stores.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hmac import compare_digest
from typing import NamedTuple, Protocol

from msgspec import Struct

from proxy.clock import Clock
from proxy.engine.placing.swapped import find_swapped, swapped_in_words
from proxy.engine.scrub.wanted import ask_scrub
from proxy.engine.workers import Progress
from proxy.errors import ConfigError, ManifestFenced, StoreError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Epoch
from proxy.stores.protocol import ShardName, Store

logger = logging.getLogger(__name__)

PREFIX = "epoch/"
WINDOW_SECONDS = 60.0  # a copy of a running server that lacks more than this is noticed
MAX_NUMBER = 2**63 - 1  # what a database holds
LOOK_SECONDS = 600.0  # at the markers, while nothing is changed
ASK_AGAIN_SECONDS = 3600.0  # a store that hides its markers must not be scrubbed all the time
LEAP = 2**32  # of accepting: a store that was down, or hides what it has, may know of a higher number, but not of one so much higher
STEP = 1000  # in its place for a manifest that has caught up with the journal: what no other store has heard of is some minutes at most
NAMES = 1000  # of a store are looked at: it has one or two, unless it means harm
_MARKER = re.compile(r"epoch/([0-9]{20})-([0-9a-f]{32})-([0-9a-f]{32})-([0-9a-f]{32})")
REMEDY = (
    "nothing is written or collected, so that nothing newer is deleted; put the newest manifest back, or let this one catch up with its "
    "journal: shardgate recover --resume; if there is neither, run: shardgate manifest accept"
)


class Prover(Protocol):
    """Gives the proof of an epoch: the keyring."""

    def prove_epoch(self, number: int, identity: str) -> str: ...
    def mark_store(self, identity: str, store: str) -> str: ...


class Fence(Protocol):
    """Knows another reason: the journal."""

    async def reason(self) -> str:
        """Return why the manifest must not be written, or ""."""
        ...


class Marker(NamedTuple):
    """What a store says of a manifest. Only whoever has that manifest's root key can tell whether the proof is right."""

    number: int
    identity: str
    proof: str = ""
    mark: str = ""


class Markers(Struct, frozen=True, kw_only=True):
    """The markers of each store that answered, and whether all did."""

    by_store: Mapping[str, Sequence[Marker]]
    complete: bool

    def highest(self, identity: str) -> int:
        return max((marker.number for markers in self.by_store.values() for marker in markers if marker.identity == identity), default=0)


def marker_name(prover: Prover, epoch: Epoch, store: str) -> ShardName:
    proof, mark = prover.prove_epoch(epoch.number, epoch.identity), prover.mark_store(epoch.identity, store)
    return ShardName(f"{PREFIX}{epoch.number:020d}-{epoch.identity}-{proof}-{mark}")


def parse_marker(name: str) -> Marker | None:
    match = _MARKER.fullmatch(name)
    return Marker(int(match[1]), match[2], match[3], match[4]) if match else None


def without_forged(markers: Markers, identity: str, prover: Prover) -> tuple[Markers, tuple[str, ...]]:
    """Leave out what is made up: markers of this manifest without their proof. Return the stores that have such, too."""

    def is_forged(marker: Marker) -> bool:
        if marker.identity != identity:
            return False
        return marker.number > MAX_NUMBER or not compare_digest(marker.proof, prover.prove_epoch(marker.number, identity))

    genuine = {name: [marker for marker in found if not is_forged(marker)] for name, found in markers.by_store.items()}
    liars = tuple(sorted(name for name, found in markers.by_store.items() if len(genuine[name]) < len(found)))
    return Markers(by_store=genuine, complete=markers.complete), liars


def reason_to_fence(epoch: Epoch, markers: Markers) -> str:
    """Return why this manifest must not be written, or "". Pure; `epoch` was read after `markers`."""
    ahead = sorted(
        name
        for name, found in markers.by_store.items()
        if any(marker.identity == epoch.identity and marker.number > epoch.number for marker in found)
    )
    if ahead:
        return (
            f"this manifest is an older copy: it is at epoch {epoch.number}, and the stores {', '.join(ahead)} have seen epoch "
            f"{markers.highest(epoch.identity)}; {REMEDY}"
        )
    others = sorted(name for name, found in markers.by_store.items() if found)
    if others and markers.complete and not markers.highest(epoch.identity):
        return f"this manifest does not belong to these stores: {', '.join(others)} know another one; {REMEDY}"
    return ""


async def read_markers(stores: Mapping[str, Store], *, timeout_seconds: float) -> Markers:
    """Ask all stores at once. One that does not answer in time proves nothing."""
    answers = await asyncio.gather(*(_markers_of(store, timeout_seconds) for store in stores.values()))
    found = {name: answer for name, answer in zip(stores, answers, strict=True) if answer is not None}
    return Markers(by_store=found, complete=len(found) == len(stores))


async def _markers_of(store: Store, timeout_seconds: float) -> list[Marker] | None:
    try:
        async with asyncio.timeout(timeout_seconds):
            names = await _names(store)
    except (StoreError, TimeoutError):
        return None
    return [marker for name in names if (marker := parse_marker(name)) is not None]


async def _names(store: Store) -> list[ShardName]:
    names: list[ShardName] = []
    async for name, _ in store.list(PREFIX):
        names.append(name)
        if len(names) == NAMES:
            break
    return names


class EpochKeeper:
    """Compares the manifest with its stores, and the worker that moves the epoch while changes are made."""

    name = "epoch"
    everywhere = True  # each process knows of its own changes; one that moves the epoch does so for all

    def __init__(
        self,
        manifest: Manifest,
        stores: Mapping[str, Store],
        prover: Prover,
        clock: Clock,
        *,
        timeout_seconds: float,
        journal: Fence | None = None,
    ) -> None:
        self._manifest = manifest
        self._stores = stores
        self._prover = prover
        self._clock = clock
        self._liars: tuple[str, ...] = ()  # stores of which it was said that they make markers up
        self._timeout_seconds = timeout_seconds
        self._journal = journal
        self._compared_at = clock.monotonic()
        self._asked_at: dict[str, float] = {}  # when a scrub of these stores was asked for
        self._behind: set[str] = set()  # stores whose marker could not be put
        self.idle_seconds = WINDOW_SECONDS / 2

    async def compare(self) -> str:
        """Fence the manifest if it is behind; return why it is fenced, or "". Raises `ConfigError` if stores have changed places."""
        self._compared_at = self._clock.monotonic()
        markers = await read_markers(self._stores, timeout_seconds=self._timeout_seconds)
        epoch = await self._manifest.find_epoch()
        markers = self._believed(markers, epoch.identity)
        self._refuse_swapped(markers, epoch.identity)
        reason = epoch.fence or reason_to_fence(epoch, markers) or await self._reason_of_journal()
        if reason and not epoch.fence:
            await self._manifest.fence(reason)
        if reason:
            logger.error("%s", reason)
        elif epoch.number:  # else no server has marked the stores yet
            await self._ask_for_scrub(markers, epoch)
        return reason

    def _refuse_swapped(self, markers: Markers, identity: str) -> None:
        ours = {name: [marker for marker in found if marker.identity == identity] for name, found in markers.by_store.items()}
        names = {self._prover.mark_store(identity, name): name for name in self._stores}
        if swapped := find_swapped(ours, names):
            raise ConfigError(swapped_in_words(swapped))

    async def _ask_for_scrub(self, markers: Markers, epoch: Epoch) -> None:
        """A known store without a marker of ours has lost it, unless it never took one."""
        if 0 <= self._clock.now_ms() - epoch.moved_ms < self._timeout_seconds * 1000:
            return  # of several workers that start for the first time, one has moved the number, and still puts the markers
        bare = {name for name, found in markers.by_store.items() if not any(marker.identity == epoch.identity for marker in found)}
        now = self._clock.monotonic()
        lost = {name for name in bare - self._behind if now - self._asked_at.get(name, -math.inf) >= ASK_AGAIN_SECONDS}
        if lost and (lost := lost & await self._manifest.known_stores()):
            logger.error("the stores %s have lost what says how far their manifest has come: they are scrubbed", ", ".join(sorted(lost)))
            self._asked_at |= dict.fromkeys(lost, now)
            await ask_scrub(self._manifest, lost)

    async def _reason_of_journal(self) -> str:
        reason = await self._journal.reason() if self._journal is not None else ""
        return f"{reason}; {REMEDY}" if reason else ""

    async def move(self) -> Epoch:
        """Go on to the next number. Raises `ManifestFenced`."""
        if reason := await self.compare():
            raise ManifestFenced(reason)
        epoch = await self._manifest.move_epoch(now_ms=self._clock.now_ms())
        await self._announce(epoch, self._stores)
        return epoch

    async def accept(self, *, caught_up: bool = False) -> Epoch:
        """Take this manifest for the one there is, whatever the stores say, now or later: nothing newer can be found by it any more.

        Unless it has `caught_up` with the journal in the stores, its own goes on far behind that one, and begins with a checkpoint. If it
        has, it is the newest there is, and its number need not leave much room below: none if all stores have answered.

        The leases that were alive in this copy are forgotten, and their ids not collected: newer objects may bear them. Garbage is kept,
        for it cannot hit what is newer. It was dead when the copy was made, and what is dead stays dead: an extent that nothing refers to
        is not in the manifest any more, so no copy can share it; a commit under a revoked lease is refused; ids are drawn anew for each
        attempt, and no name is used twice. What was deleted by this copy from now on is another matter: an object that it still shows may
        share extents with a newer copy it knows nothing of.
        """
        markers = await read_markers(self._stores, timeout_seconds=self._timeout_seconds)
        identity = (await self._manifest.find_epoch()).identity
        believed = self._believed(markers, identity)
        leap = LEAP if not caught_up else 0 if believed.complete else STEP
        epoch = await self._manifest.accept_epoch(above=believed.highest(identity) + leap, now_ms=self._clock.now_ms())
        if not caught_up:
            await self._manifest.forget_changes(leap=LEAP)
        await self._announce(epoch, self._stores)
        return epoch

    async def highest_seen(self, identity: str) -> int:
        """Return the highest epoch of a manifest that the stores have seen; 0 if none has. What is made up does not count."""
        markers = await read_markers(self._stores, timeout_seconds=self._timeout_seconds)
        return self._believed(markers, identity).highest(identity)

    async def step(self) -> Progress:
        """Move on if this process has changed something that no number covers yet; else tell the stores that missed the last one."""
        epoch = await self._manifest.find_epoch()
        if epoch.fence:
            raise ManifestFenced(epoch.fence)
        if self._is_due(epoch):
            await self.move()
            return self._progress(1)
        if self._clock.monotonic() - self._compared_at >= LOOK_SECONDS:
            await self.compare()
        if self._behind:
            await self._announce(epoch, {name: self._stores[name] for name in self._behind})
        return self._progress(0)

    def _is_due(self, epoch: Epoch) -> bool:
        """Tell whether this process has changed something since the number moved, not just now. A clock that was set back tells nothing."""
        changed_ms, age_ms = self._manifest.changed_ms, self._clock.now_ms() - epoch.moved_ms
        if age_ms < 0:
            return changed_ms > 0
        return 0 < changed_ms >= epoch.moved_ms and age_ms >= self.idle_seconds * 1000

    def _believed(self, markers: Markers, identity: str) -> Markers:
        believed, liars = without_forged(markers, identity, self._prover)
        if liars and liars != self._liars:
            logger.error("the stores %s show markers of this manifest that no server has written: they are ignored", ", ".join(liars))
        self._liars = liars
        return believed

    def _progress(self, done: int) -> Progress:
        trouble = f"not all stores have heard of the last epoch: {', '.join(sorted(self._behind))} not yet" if self._behind else ""
        return Progress(idle=True, done=done, trouble=trouble)

    async def _announce(self, epoch: Epoch, stores: Mapping[str, Store]) -> None:
        told = await asyncio.gather(*(self._tell(name, store, epoch) for name, store in stores.items()))
        for name, heard in zip(stores, told, strict=True):
            (self._behind.discard if heard else self._behind.add)(name)

    async def _tell(self, name: str, store: Store, epoch: Epoch) -> bool:
        """Put the marker of this number, then delete the older ones; return whether it is there."""
        text = f"epoch {epoch.number} of manifest {epoch.identity}\n".encode()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await store.put(marker_name(self._prover, epoch, name), [text])
        except (StoreError, TimeoutError):
            return False
        with suppress(StoreError, TimeoutError):  # what is left does no harm, and goes the next time
            async with asyncio.timeout(self._timeout_seconds):
                await _delete_older(store, epoch)
        return True


async def _delete_older(store: Store, epoch: Epoch) -> None:
    for name in await _names(store):
        marker = parse_marker(name)
        if marker is not None and marker.identity == epoch.identity and marker.number < epoch.number:
            await store.delete(name)
