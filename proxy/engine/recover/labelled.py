"""What only labels tell of: read, made into versions and parts, and brought back into a manifest that knows its tenants and buckets.

The manifest is fenced while this runs, so nobody else writes. Each phase goes on where it was when it was killed: the labels from the
notebook's position, what was found from the position that the manifest itself keeps, in the step that brings it back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

import msgspec

from proxy.clock import Clock
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.engine.recover.assembly import assemble
from proxy.engine.recover.labels import LabelReader, Surroundings
from proxy.engine.recover.notes import Notes, Tell
from proxy.engine.recover.tables import Places, TableReader
from proxy.keyring import Keyring, TenantCipher
from proxy.manifest.journal import Key
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, ExtentId, KmsKey, Record, SegmentId, Tenant
from proxy.manifest.recovery import Finding, Found, FoundPack, FoundPart, FoundSlot, FoundVersion, Outcome
from proxy.manifest.sqlite.notebook import Notebook

BATCH = 500
_SHARD = re.compile(r"[0-9a-f]{2}/([0-9a-f]{32})-")
STATE = "recover"  # of the manifest: what was found is brought back up to here
Unit = FoundVersion | FoundPart | FoundSlot
_WHY = {
    "superseded": "something newer is there",
    "unconfirmed": "it was written on a condition, and the journal does not say that the condition held",
    "homeless": "its bucket or its upload is not there any more",
}


class Place(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A place in the order of what was found, and how much of it was brought back up to there."""

    notebook: bytes  # of which recovery: another one begins anew
    written: int = -1
    segment_id: bytes = b""
    versions: int = 0
    parts: int = 0
    findings: tuple[Finding, ...] = ()  # of the last batch: the notebook may not have them yet


_places = msgspec.msgpack.Decoder(Place)


class LabelledRecovery:
    """Recovers what labels tell of."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        keyring: Keyring,
        fleet: Fleet,
        policies: Mapping[str, Policy],
        clock: Clock,
        notes: Notes,
        threads: Executor,
        tell: Tell,
    ) -> None:
        self._manifest = manifest
        self._keyring = keyring
        self._fleet = fleet
        self._policies = policies
        self._clock = clock
        self._notes = notes
        self._threads = threads
        self._tell = tell

    async def run(self, silent: Collection[str]) -> Place:
        """Bring back what is found in the stores that answered; return how much that was."""
        buckets = await self._buckets()
        if await self._notes.run(Notebook.load, "assembled") is None:
            await self._name_segments()
            await self._read_labels(await self._ciphers(), buckets, silent)
            policies = {bucket.name: bucket.policy for bucket in buckets}
            await self._notes.run(Notebook.assemble, partial(assemble, policies=policies))
            await self._notes.run(Notebook.save, "assembled", b"yes")
        await self._read_tables(buckets, silent)
        return await self._apply()

    async def _buckets(self) -> Sequence[Bucket]:
        tenants = await self._manifest.list_tenants()
        return [bucket for tenant in tenants for bucket in await self._manifest.list_buckets(tenant.id, limit=2**62)]

    async def _name_segments(self) -> None:
        """Note what the manifest names already: what is stored, and what is to be deleted."""
        after = ExtentId(0)
        while extents := await self._manifest.walk_extents(after=after, limit=BATCH):
            after = extents[-1].id
            await self._notes.run(Notebook.add_named, [segment.id for extent in extents for segment in extent.layout.segments])
        position: Key = ()
        while rows := await self._manifest.rows_of("garbage", after=position, limit=10 * BATCH):
            position = rows[-1].key
            segments = (segment_of(str(row.key[2])) for row in rows)
            await self._notes.run(Notebook.add_named, [segment for segment in segments if segment is not None])

    async def _ciphers(self) -> Mapping[str, TenantCipher]:
        holders: list[Tenant | KmsKey] = [*await self._manifest.list_tenants(), *await self._manifest.list_kms_keys()]
        return {holder.id: self._keyring.tenant_cipher(holder) for holder in holders}

    async def _read_labels(self, ciphers: Mapping[str, TenantCipher], buckets: Sequence[Bucket], silent: Collection[str]) -> None:
        surroundings = Surroundings(
            ciphers=ciphers,
            silent=silent,
            stores_of={bucket.name: self._stores_of(bucket) for bucket in buckets},
            all_stores=tuple(self._fleet.stores),
            journal_number=(await self._manifest.journal_position()).number,
        )
        await LabelReader(self._fleet.stores, surroundings, self._notes, self._threads, self._tell).run()

    async def _read_tables(self, buckets: Sequence[Bucket], silent: Collection[str]) -> None:
        places = Places(
            policies={bucket.name: bucket.policy for bucket in buckets},
            stores_of={bucket.name: self._stores_of(bucket) for bucket in buckets},
            silent=silent,
        )
        await TableReader(self._fleet, await self._ciphers(), places, self._notes, self._threads, self._tell).run()

    def _stores_of(self, bucket: Bucket) -> Sequence[str]:
        policy = self._policies.get(bucket.policy)
        return tuple(self._fleet.stores) if policy is None else [str(info.name) for info in policy.stores]

    async def _apply(self) -> Place:
        notebook = await self._notes.run(Notebook.identify)
        kept = await self._manifest.load_state(STATE)
        place = Place(notebook=notebook) if kept is None else _places.decode(kept)
        if place.notebook != notebook:
            place = Place(notebook=notebook)
        await self._notes.run(Notebook.add_findings, place.findings)  # a recovery that was killed may not have come to it
        total = await self._notes.run(Notebook.count_found)
        while batch := await self._notes.run(Notebook.found, (place.written, place.segment_id), BATCH):
            place = await self._apply_batch(place, batch)
            self._tell("versions", place.versions + place.parts, total)
        return place

    async def _apply_batch(self, before: Place, batch: Sequence[tuple[tuple[int, bytes], Found]]) -> Place:
        found = [unit for _, one in batch for unit in _units(one)]
        written, segment_id = batch[-1][0]

        def place(outcomes: Sequence[Outcome]) -> Place:
            brought = Counter(type(one) for one, outcome in zip(found, outcomes, strict=True) if outcome == "applied")
            return Place(
                notebook=before.notebook,
                written=written,
                segment_id=segment_id,
                versions=before.versions + brought[FoundVersion] + brought[FoundSlot],
                parts=before.parts + brought[FoundPart],
                findings=_findings(found, outcomes),
            )

        outcomes = await self._manifest.apply_found(
            [one for _, one in batch],
            name=STATE,
            keep=lambda outcomes: msgspec.msgpack.encode(place(outcomes)),
            now_ms=self._clock.now_ms(),
        )
        after = place(outcomes)
        await self._notes.run(Notebook.add_findings, after.findings)
        return after


def _units(found: Found) -> Sequence[Unit]:
    """Return what has an outcome of its own."""
    return found.slots if isinstance(found, FoundPack) else [found]


def _findings(found: Sequence[Unit], outcomes: Sequence[Outcome]) -> tuple[Finding, ...]:
    return tuple(
        Finding(sort=outcome, subject=_subject(one), reason=_WHY[outcome])
        for one, outcome in zip(found, outcomes, strict=True)
        if outcome != "applied"
    )


def _subject(found: Unit) -> str:
    if isinstance(found, FoundVersion | FoundSlot):
        return f"{found.bucket}/{found.draft.key}"
    return f"{found.bucket}/{found.key} (part {found.part.number} of upload {found.upload_id})"


def segment_of(name: str) -> SegmentId | None:
    """Return the segment whose shard has this name, or whose shards have names that begin so; None if it is of the manifest's copy."""
    match = _SHARD.match(name)
    return SegmentId(bytes.fromhex(match[1])) if match else None
