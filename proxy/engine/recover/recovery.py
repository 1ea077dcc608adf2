"""Recovery, from the listings to the lifted fence.

The order. Everything that may turn out to be missing is read first, into a notebook beside the manifest; until then nothing is changed.
Then the manifest is fenced, so that nobody takes a half for the whole, and filled: the checkpoint and the journal behind it, then what only
labels tell of, then the shards as they are listed. At last it goes on as the manifest that was lost, in an epoch above all that were seen:
the fence is lifted, and a journal segment says so. Killed anywhere, the same command goes on: the notebook knows which phases are over, and
each may be done twice.

What counts. The journal is the truth up to its end. A label tells of what came after: see `manifest.plans.recovery`. Nothing is ever
deleted because a recovery did not find it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from proxy.clock import Clock
from proxy.codec.format import JOURNAL_PREFIX, CopyName
from proxy.engine.epoch import EpochKeeper
from proxy.engine.journal.checkpointing import WANTED
from proxy.engine.journal.flush import Flusher
from proxy.engine.journal.reading import CopyReader
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.hands import unit_of
from proxy.engine.placing.placement import Policy
from proxy.engine.recover.chain import Start
from proxy.engine.recover.ending import stored_end
from proxy.engine.recover.history import History, HistoryFinder, HistoryReplay
from proxy.engine.recover.labelled import LabelledRecovery
from proxy.engine.recover.listing import Listed, list_stores
from proxy.engine.recover.notes import Notes, Tell
from proxy.engine.recover.report import JournalReport, Report
from proxy.engine.recover.shards import check_shards
from proxy.errors import RecoveryRefused, StoreError
from proxy.keyring import Keyring
from proxy.manifest.journal import decode_segment
from proxy.manifest.protocol import Manifest
from proxy.manifest.recovery import RECOVERING
from proxy.manifest.sqlite.notebook import Notebook
from proxy.stores.protocol import ShardName

REPORTED = 1000  # findings that a report names
MOST_UNJOURNALED = 100_000  # rows: a copy with more is filled anew
HISTORY = "history"
NOTEBOOK = "recovery-notebook"  # in the manifest while it is being recovered: which notebook goes with it
_kept = msgspec.msgpack.Decoder(tuple[JournalReport, tuple[str, ...]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a recovery works with."""

    manifest: Manifest
    keyring: Keyring
    fleet: Fleet
    policies: Mapping[str, Policy]
    writer: CopyWriter
    flusher: Flusher | None  # None: no journal is kept from now on
    epoch: EpochKeeper
    clock: Clock
    notes: Notes
    threads: Executor
    tell: Tell


class Recovery:
    """One recovery, into one manifest."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reader = CopyReader(parts.fleet.stores, parts.keyring.journal_cipher())

    async def run(self, *, identity: str = "", resume: bool = False) -> Report:
        """Recover; `resume`: into an older copy, which lacks what came after it. `RecoveryRefused` and `JournalBroken` change nothing."""
        parts = self._parts
        started = parts.clock.monotonic()
        await self._check_manifest(resume=resume)
        await self._check_notes()
        alone = {str(policy.stores[0].name) for policy in parts.policies.values() if len(policy.stores) == 1}
        listed = await list_stores(parts.fleet.stores, parts.notes, parts.tell, unbounded=alone)
        silent = {name for name, one in listed.items() if one.failure}
        refuse_if_too_many(parts.policies.values(), {name: one.failure for name, one in listed.items() if one.failure})
        journal, doubts = await self._recover_history(identity, silent, resume=resume)
        place = await self._labelled().run(silent)
        missing = await check_shards(parts.manifest, parts.notes, parts.clock, parts.tell, silent=silent, configured=listed)
        counts = await parts.manifest.count_all()
        await parts.manifest.skip_ids()
        await parts.manifest.save_recovery_state(WANTED, b"1")  # or the next recovery reads again all that this one found
        await parts.manifest.save_recovery_state(NOTEBOOK, None)
        epoch = await parts.epoch.accept(caught_up=True)
        unmarked = await self._mark_end()
        return Report(
            stores=listed,
            journal=journal,
            counts=counts,
            versions_from_labels=place.versions,
            parts_from_labels=place.parts,
            missing_shards=missing,
            finding_counts=await parts.notes.run(Notebook.count_findings),
            findings=await parts.notes.run(Notebook.findings, REPORTED),
            unproved=(*doubts, *unmarked, *(_doubt(name, one) for name, one in listed.items() if one.failure)),
            epoch=epoch.number,
            seconds=parts.clock.monotonic() - started,
        )

    async def _check_manifest(self, *, resume: bool) -> None:
        fence = (await self._parts.manifest.find_epoch()).fence
        if resume and fence == RECOVERING:
            raise RecoveryRefused(f"{RECOVERING}, without --resume")
        if resume and not fence:
            raise RecoveryRefused("the manifest is not behind its stores, as far as they tell: there is nothing to resume")
        if not resume and fence != RECOVERING and not await self._parts.manifest.is_blank():
            if not fence and await has_begun(self._parts.notes):  # which is taken away last
                raise RecoveryRefused("this manifest has been recovered, to the end: start the server now")
            raise RecoveryRefused(
                "manifest.path: this manifest is not empty, and a recovery makes a new one: move the file away, with what lies beside "
                "it; or, if it is an older copy, let it catch up with: shardgate recover --resume"
            )

    async def _check_notes(self) -> None:
        """Begin the notebook anew if it is not this manifest's. One that an earlier recovery left tells of the stores as they were then."""
        parts = self._parts
        if await parts.manifest.load_state(NOTEBOOK) != await parts.notes.run(Notebook.identify):
            await parts.notes.run(Notebook.begin_anew)
            await parts.manifest.save_recovery_state(NOTEBOOK, await parts.notes.run(Notebook.identify))

    async def _recover_history(self, identity: str, silent: Collection[str], *, resume: bool) -> tuple[JournalReport, tuple[str, ...]]:
        """Bring back what the journal tells, unless that is done; return what it told, and what about it is in doubt."""
        parts = self._parts
        done = await parts.notes.run(Notebook.load, HISTORY)
        if done is not None:
            return _kept.decode(done)
        since = None
        if resume:
            position = await parts.manifest.journal_position()
            identity = (await parts.manifest.find_epoch()).identity
            since = Start(position.number, position.digest)
        finder = HistoryFinder(self._reader, parts.notes, parts.tell, silent=silent)
        history = await finder.find(identity=identity, since=since)
        if history.start == since and not await self._is_retold(history):
            history = await finder.find(identity=identity)
        told = {name: f"store {name} did not list its part of the journal" for name in sorted(finder.silent)}
        refuse_if_too_many(parts.policies.values(), told)
        if not resume:
            await parts.manifest.fence(RECOVERING)
        rows = await HistoryReplay(parts.manifest, self._reader, parts.notes, parts.tell).run(history)
        end = await stored_end(history, parts.notes, parts.writer)
        await parts.manifest.continue_journal(end, identity=history.identity, epoch=history.epoch)
        await self._delete_rest(history)
        unheard = (told[name] for name in told if name not in silent)  # of the others it is told that they did not answer at all
        kept = _journal_report(history, rows), (*unheard, *history.doubts, *await self._doubt_end(history))
        await parts.notes.run(Notebook.save, HISTORY, msgspec.msgpack.encode(kept))
        return kept

    async def _is_retold(self, history: History) -> bool:
        """Tell whether a history tells anew of each row that an older copy has changed and no journal segment of its own has.

        If not, the manifest was recovered without that change, and has gone another way. The change would stay, and be in no journal: an
        object that is there now would be gone, or one that was never acknowledged be back.
        """
        left = set(await self._parts.manifest.unjournaled(MOST_UNJOURNALED + 1))
        if len(left) > MOST_UNJOURNALED:
            return False
        for link in history.chain.links:
            if not left:
                break
            plaintext = await self._parts.notes.run(Notebook.plaintext, link.number, link.segment_id)
            left.difference_update(row.place for row in decode_segment(plaintext).rows)
        return not left

    async def _doubt_end(self, history: History) -> tuple[str, ...]:
        """Return what speaks against the end of the journal. Each epoch begins with a journal segment, so the last one has one."""
        seen = await self._parts.epoch.highest_seen(history.identity)
        if seen <= history.epoch:
            return ()
        return (
            f"the stores have seen epoch {seen}, and the journal ends in epoch {history.epoch}: its end is hidden or lost, unless the "
            "manifest was lost within moments of that epoch's beginning",
        )

    async def _mark_end(self) -> tuple[str, ...]:
        """Let the journal go on from the end that was found, so that the next recovery finds the same; return what speaks against that.

        Shards of another attempt at the last segment may still be under way: until a segment follows this one, either could count, and
        clients would have seen what is not there any more.
        """
        flusher = self._parts.flusher
        if flusher is None:
            return ()
        await flusher.mark()
        return (f"that it goes on from there is not in the journal yet: {flusher.trouble}",) if flusher.trouble else ()

    async def _delete_rest(self, history: History) -> None:
        """Delete what was stored behind the last whole segment: the next segments get the same numbers, and would look like a fork."""
        for link in history.chain.rest:
            (segment,) = link.layout.segments
            for index, store in enumerate(segment.stores):
                name = CopyName(JOURNAL_PREFIX, history.identity, link.number, segment.id, index)
                with suppress(StoreError):  # fewer than k shards are left, or the next recovery tells
                    await self._parts.fleet[store].delete(ShardName(str(name)))

    def _labelled(self) -> LabelledRecovery:
        parts = self._parts
        return LabelledRecovery(
            manifest=parts.manifest,
            keyring=parts.keyring,
            fleet=parts.fleet,
            policies=parts.policies,
            clock=parts.clock,
            notes=parts.notes,
            threads=parts.threads,
            tell=parts.tell,
        )


async def has_begun(notes: Notes) -> bool:
    """Tell whether the manifest has been filled, at least in part."""
    return await notes.run(Notebook.load, HISTORY) is not None


def refuse_if_too_many(policies: Collection[Policy], failures: Mapping[str, str]) -> None:
    """Raise `RecoveryRefused` if more stores are silent than a policy lets fail: something acknowledged may be in these alone."""
    for policy in policies:
        silent = [info for info in policy.stores if info.name in failures]
        if silent and not any(len({unit_of(info, unit) for info in silent}) <= count for unit, count in policy.may_fail.rules()):
            told = "; ".join(failures[str(info.name)] for info in silent)
            raise RecoveryRefused(
                f"{len(silent)} stores do not answer, and policy {policy.name} lets only {policy.may_fail} fail at once, so the others may "
                f"lack what was acknowledged; nothing was changed; bring back enough of them: {told}"
            )


def _journal_report(history: History, rows: int) -> JournalReport:
    return JournalReport(
        identity=history.identity,
        checkpoint=history.checkpoint.number if history.checkpoint else None,
        segments=len(history.chain.links),
        number=history.end.number,
        epoch=history.epoch,
        made_ms=history.made_ms,
        rows=rows,
    )


def _doubt(name: str, listed: Listed) -> str:
    return f"store {name} did not answer ({listed.failure}): whether it alone has a newer end of the journal is not known"
