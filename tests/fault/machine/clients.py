"""Clients: what they ask of a proxy, and how both question and answer are put down in the history."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from proxy.errors import (
    BudgetExhausted,
    ExtentMissing,
    IntentRevoked,
    ManifestFenced,
    NotEnoughShards,
    PreconditionUnmet,
    ProxyError,
    VersionMissing,
)  # fmt: skip
from proxy.manifest.drafts import AttributeChange, CompletedPart, Conditions
from proxy.manifest.records import Bucket, ObjectAttributes, ObjectKey, Readable, Version, VersionId
from proxy.services import Services
from tests.fault.machine.history import Entry, Event, History, Kind, Place, Refused, Tags
from tests.laboratory import BytesBody
from tests.listed import listed

if TYPE_CHECKING:
    from tests.fault.machine.process import Process
    from tests.fault.machine.world import World

KEYS = ("a", "b", "c/d")  # of each bucket
PARTS = ", in parts"  # in the name of a body that was uploaded so
TRIES = 5  # of a read whose object is replaced before it begins, as the server's handlers do
_DID_NOTHING = (NotEnoughShards, BudgetExhausted, IntentRevoked, ManifestFenced)


class Contents:
    """Every body that was ever sent, by name, and the name of each by its ETag."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._names: dict[str, str] = {}

    def add(self, name: str, body: bytes, *etags: str) -> str:
        """Know a body; whoever copies it in whole, and moves its data, gives it the MD5 of its content as its ETag."""
        self._bodies[name] = body
        self._names |= dict.fromkeys((hashlib.md5(body).hexdigest(), *etags), name)
        return name

    def make(self, name: str, size: int) -> str:
        """Make a body that is unlike all others, unless it is empty."""
        return self.add(name if size else "nothing", Random(name).randbytes(size))

    def __getitem__(self, name: str) -> bytes:
        return self._bodies[name]

    def etag(self, name: str) -> str:
        return hashlib.md5(self._bodies[name]).hexdigest()

    def named(self, etag: str) -> str:
        return self._names.get(etag, f"unknown, ETag {etag}")

    def entry(self, version: Version) -> Entry:
        body = None if version.is_delete_marker else self.named(version.etag)
        return Entry(str(version.id), body, tuple(sorted(version.attributes.tags.items())))


class Clients:
    """What clients of one process do. Each call is one operation from its question to its answer, or for ever."""

    def __init__(self, world: World, process: Process) -> None:
        assert process.services is not None
        self._world = world
        self._history: History = world.history
        self._contents: Contents = world.contents
        self._life = process.life
        self._services: Services = process.services
        self._engine = process.services.engine

    async def put(
        self,
        place: Place,
        size: int,
        *,
        tags: Tags = (),
        storage_class: str = "STANDARD",
        if_absent: bool = False,
        if_body: str | None = None,
    ) -> None:
        name = self._contents.make(self._world.new_name(place.key), size)
        bucket = await self._bucket(place.bucket)
        event = self._history.begin(place, "put", body=name, tags=tags, if_absent=if_absent, if_body=if_body)
        conditions = Conditions(if_match=if_body and self._contents.etag(if_body), if_none_match="*" if if_absent else None)
        attributes = ObjectAttributes(tags=dict(tags), storage_class=storage_class)
        await self._written(
            event,
            lambda: self._engine.put_object(
                bucket, self._world.tenant, ObjectKey(place.key), BytesBody(self._contents[name]), attributes, conditions=conditions
            ),
        )  # fmt: skip

    async def upload(self, place: Place, sizes: Sequence[int], *, replaced: int | None, aborted: bool) -> None:
        """Upload parts, one of them twice, and complete them, or give up."""
        bucket, tenant, engine = await self._bucket(place.bucket), self._world.tenant, self._engine
        name = self._world.new_name(f"{place.key}{PARTS}")
        bodies = {number: Random(f"{name} {number}").randbytes(size) for number, size in enumerate(sizes, start=1)}
        try:
            upload = await engine.begin_upload(bucket, tenant, ObjectKey(place.key), ObjectAttributes())
            if replaced is not None:
                await engine.upload_part(bucket, tenant, upload, replaced, BytesBody(b"to be replaced"))
            parts = [await engine.upload_part(bucket, tenant, upload, number, BytesBody(body)) for number, body in bodies.items()]
            if aborted:
                await engine.abort_upload(upload)
                return
        except ProxyError:
            return  # an upload that was left: it stays until somebody aborts it
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        self._contents.add(name, b"".join(bodies.values()), f"{hashlib.md5(digests).hexdigest()}-{len(parts)}")
        listed = [CompletedPart(number=part.number, etag=part.etag) for part in parts]
        event = self._history.begin(place, "put", body=name)
        await self._written(event, lambda: engine.complete_upload(bucket, upload, listed))

    async def copy(self, source: Place, target: Place) -> None:
        """Copy the latest version of one key to another: it is read at one instant, and written at a later one."""
        taken, given = await self._bucket(source.bucket), await self._bucket(target.bucket)
        looked = self._history.begin(source, "get")
        try:
            version = await self._engine.find_version(taken, ObjectKey(source.key))
        except ProxyError:
            return self._history.drop(looked)
        if version is None or version.is_delete_marker:
            return self._history.end(looked, Refused())
        entry = self._contents.entry(version)
        self._history.end(looked, entry)
        event = self._history.begin(target, "put", body=entry.body, tags=entry.tags)
        return await self._written(
            event,
            lambda: self._engine.copy_object(
                version, taken, self._world.tenant, given, self._world.tenant, ObjectKey(target.key), version.attributes
            ),
            gone=True,
        )  # fmt: skip

    async def delete(self, place: Place) -> None:
        bucket = await self._bucket(place.bucket)
        event = self._history.begin(place, "delete")
        await self._asked(
            event,
            lambda: self._engine.delete_latest(bucket, ObjectKey(place.key)),
            lambda marker: None if marker is None else marker.id,
        )

    async def delete_version(self, place: Place, version_id: str) -> None:
        bucket = await self._bucket(place.bucket)
        event = self._history.begin(place, "delete version", version_id=version_id)
        await self._asked(
            event,
            lambda: self._engine.delete_version(bucket, ObjectKey(place.key), VersionId(version_id)),
            lambda removed: Refused() if removed is None else self._contents.entry(removed),
        )

    async def tag(self, place: Place, tags: Tags) -> None:
        bucket = await self._bucket(place.bucket)
        event = self._history.begin(place, "tag", tags=tags)
        try:
            await self._services.manifest.change_attributes(bucket.id, ObjectKey(place.key), None, AttributeChange(tags=dict(tags)))
        except VersionMissing:
            self._history.end(event, Refused())
        except ProxyError:
            pass
        else:
            self._history.end(event, tags)

    async def get(self, place: Place, *, version_id: str | None = None, part: tuple[float, float] = (0.0, 1.0)) -> bool:
        """Read an object, or a part of it; return whether that worked."""
        event = self._history.begin(place, "get", version_id=version_id)
        try:
            found = await self._read(place, version_id, part)
        except ProxyError as error:
            self._world.note(f"{place} was not read: {error}")
            self._history.drop(event)
            return False
        self._history.end(event, Refused() if found is None else found)
        return True

    async def see(self, name: str) -> None:
        """List the latest version of each key of a bucket."""
        bucket = await self._bucket(name)
        events = self._about_all(name, "see")
        try:
            page = await self._engine.list_objects(bucket, prefix="", delimiter="", after="", limit=1000)
        except ProxyError:
            return [self._history.drop(event) for event in events] and None
        seen = {entry.key: Entry(None, self._contents.named(entry.etag)) for entry in listed(page)}
        for event in events:
            self._history.end(event, seen.get(event.place.key, Refused()))
        return None

    async def list(self, name: str) -> None:
        """List all versions of a bucket."""
        bucket = await self._bucket(name)
        events = self._about_all(name, "list")
        try:
            page = await self._engine.list_versions(bucket, prefix="", delimiter="", after_key="", after_version="", limit=1000)
        except ProxyError:
            return [self._history.drop(event) for event in events] and None
        for event in events:
            of_key = [version for version in page.versions if version.key == event.place.key]
            self._history.end(
                event,
                tuple(Entry(str(v.id), None if v.is_delete_marker else self._contents.named(v.etag)) for v in of_key),
            )
        return None

    async def _written(self, event: Event, call: Callable[[], Awaitable[Version]], *, gone: bool = False) -> None:
        try:
            version = await call()
        except PreconditionUnmet:
            self._history.end(event, Refused())
        except _DID_NOTHING:
            if not self._life.dead:  # of whom nobody gets an answer
                self._history.fail(event)
        except ExtentMissing:
            if not gone:  # only what a copy shares or reads may be gone
                raise
            self._history.drop(event)
        except ProxyError as error:
            self._world.note(f"#{event.number} has no answer: {error}")
        else:
            self._history.end(event, str(version.id))

    async def _asked(self, event: Event, call: Callable[[], Awaitable[Version | None]], told: Callable[[Version | None], object]) -> None:
        try:
            answer = await call()
        except ManifestFenced:
            self._history.drop(event)
        except ProxyError as error:
            self._world.note(f"#{event.number} has no answer: {error}")
        else:
            self._history.end(event, told(answer))

    async def _read(self, place: Place, version_id: str | None, part: tuple[float, float]) -> Entry | None:
        for left in reversed(range(TRIES)):
            wanted = None if version_id is None else VersionId(version_id)
            found = await self._engine.find_readable(await self._bucket(place.bucket), ObjectKey(place.key), wanted)
            if found is None or found.version.is_delete_marker:
                return None
            try:
                return await self._opened(found, part)
            except ExtentMissing:
                if not left:
                    raise
        raise AssertionError("unreachable")

    async def _opened(self, found: Readable, part: tuple[float, float]) -> Entry:
        version, entry = found.version, self._contents.entry(found.version)
        start = int(part[0] * version.size)
        length = int(part[1] * (version.size - start))
        pieces = await self._engine.open_read(version, self._world.tenant, start, length, extents=found.extents)
        data = b"".join([bytes(piece) async for piece in pieces])
        if entry.body is None or data != self._contents[entry.body][start : start + length]:
            self._world.wrong(f"{version.key}: {length} bytes from {start} are not those of {entry.body}: torn, or another object's")
        return entry

    async def _bucket(self, name: str) -> Bucket:
        """Look a bucket up, as the server does for each request."""
        if self._life.dead:
            await self._world.turns.never()
        return self._world.manifest.bucket(name)

    def _about_all(self, bucket: str, kind: Kind) -> list[Event]:
        """Begin one event a key, at the same moment as far as anybody can tell."""
        return [self._history.begin(Place(bucket, key), kind) for key in KEYS]
