"""Inventories: the worker that lists buckets by schedule, and stores the lists as objects.

A step makes one file of at most 100,000 rows, or of 16 MiB, and keeps in the manifest how far the list has come: a process that dies goes
on there, and files have names that come from the day, so what is made again takes the place of itself. The manifest of a list comes last:
whoever finds it finds all files. A list is no snapshot, as on AWS: it is made while the bucket changes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from hashlib import md5
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.engine import Engine
from proxy.engine.outgoing.inventory_files import ListFile, new_file
from proxy.engine.outgoing.parquet import parquet_schema
from proxy.engine.workers import Progress
from proxy.engine.writing.whole_body import WholeBody
from proxy.errors import ProxyError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import NULL_VERSION, Bucket, BucketId, BucketName, ObjectAttributes, ObjectKey, Record, Tenant, Version
from proxy.s3.inventory import (
    SETTING,
    Entry,
    Inventory,
    acl_column,
    csv_schema,
    due_day,
    folder_of,
    manifest_of,
    moment_name,
    read_inventory,
)  # fmt: skip
from proxy.s3.policy.lists import object_acl

logger = logging.getLogger(__name__)

FILE_ROWS = 100_000
FILE_BYTES = 16 * 1024 * 1024
PAGE_ROWS = 1000
IDLE_SECONDS = 300.0
T = TypeVar("T")


class ListState(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far an inventory has come. `done_day` is the day of the last whole list; the rest is of the one under way."""

    done_day: int = 0
    day: int = 0
    started_ms: int = 0
    after_key: str = ""
    after_order: int = 0
    files: tuple[tuple[str, int, str], ...] = ()  # key, size, MD5 in hex


_states = msgspec.msgpack.Decoder(ListState)
_encode = msgspec.msgpack.Encoder().encode


class InventoryMaker:
    """The worker that makes inventories."""

    name = "inventories"
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(self, manifest: Manifest, engine: Engine, clock: Clock, threads: Executor) -> None:
        self._manifest = manifest
        self._engine = engine
        self._clock = clock
        self._threads = threads

    async def step(self) -> Progress:
        troubles: list[str] = []
        async for bucket, owner, inventory in self._configured():
            day = due_day(inventory, self._clock.now_ms())
            state = await self._load(bucket, inventory)
            if state.done_day == day:  # a later one is of a clock that was ahead, and must not be the last for years
                continue
            try:
                rows = await self._make_file(bucket, owner, inventory, state, day)
            except ProxyError as error:
                troubles.append(f"{bucket.name}, {inventory.id}: {error}")
                continue
            return Progress(idle=False, done=rows, trouble="; ".join(troubles))
        return Progress(idle=True, trouble="; ".join(troubles))

    async def _configured(self) -> AsyncIterator[tuple[Bucket, Tenant, Inventory]]:
        after = BucketId(0)
        while bucket := await self._manifest.next_bucket_with(SETTING, after=after):
            after = bucket.id
            owner = await self._manifest.find_tenant(bucket.tenant_id)
            for document in json.loads(bucket.settings[SETTING]).values():
                inventory = read_inventory(document)
                if owner is not None and inventory.enabled:
                    yield bucket, owner, inventory

    async def _load(self, bucket: Bucket, inventory: Inventory) -> ListState:
        value = await self._manifest.load_state(_state_name(bucket, inventory))
        return ListState() if value is None else _states.decode(value)

    async def _make_file(self, bucket: Bucket, owner: Tenant, inventory: Inventory, state: ListState, day: int) -> int:
        """Make the next file of a list, and with the last one the manifest; return how many rows it has."""
        if state.day != day:
            state = ListState(done_day=state.done_day, day=day, started_ms=self._clock.now_ms())
        destination = await self._destination(inventory, owner)
        file = new_file(inventory)
        rows, state, ended = await self._collect(file, bucket, owner, inventory, state)
        state = await self._store_file(bucket, owner, inventory, destination, state, file)
        if ended:
            await self._store_manifest(bucket, owner, inventory, destination, state)
            state = ListState(done_day=day)
        await self._manifest.save_state(_state_name(bucket, inventory), _encode(state))
        return rows

    async def _destination(self, inventory: Inventory, owner: Tenant) -> Bucket:
        bucket = await self._engine.find_bucket(BucketName(inventory.destination))
        if bucket is None or bucket.tenant_id != owner.id:
            raise ProxyError(f"bucket {inventory.destination}, where it should go, is gone or not of the same owner")
        return bucket

    async def _collect(
        self, file: ListFile, bucket: Bucket, owner: Tenant, inventory: Inventory, state: ListState
    ) -> tuple[int, ListState, bool]:
        """Add the next rows to a file; return how many, where the list stands behind them, and whether it has ended."""
        rows, size = 0, 0
        while rows < FILE_ROWS and size < FILE_BYTES:
            page = await self._manifest.walk_versions(
                bucket.id, prefix=inventory.only_prefix, after=(state.after_key, state.after_order), limit=PAGE_ROWS
            )
            entries = [_entry(bucket, owner, version) for version in page if inventory.all_versions or _is_current(version)]
            rows += len(entries)
            size = await self._in_thread(partial(file.add, entries))
            if len(page) < PAGE_ROWS:
                return rows, state, True
            state = replace(state, after_key=page[-1].key, after_order=-page[-1].sequence)
        return rows, state, False

    async def _store_file(
        self, bucket: Bucket, owner: Tenant, inventory: Inventory, destination: Bucket, state: ListState, file: ListFile
    ) -> ListState:
        data = await self._in_thread(file.finish)
        key = f"{folder_of(inventory, bucket.name)}/data/{state.day}-{len(state.files):06}.{file.suffix}"
        await self._put(destination, owner, key, data, file.content_type)
        return replace(state, files=(*state.files, (key, len(data), md5(data, usedforsecurity=False).hexdigest())))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _store_manifest(self, bucket: Bucket, owner: Tenant, inventory: Inventory, destination: Bucket, state: ListState) -> None:
        schema = csv_schema(inventory.columns) if inventory.format == "CSV" else parquet_schema(inventory.columns)
        document = manifest_of(inventory, bucket.name, created_ms=state.started_ms, schema=schema, files=state.files)
        folder = folder_of(inventory, bucket.name)
        at = moment_name(state.started_ms)
        links = "".join(f"s3://{inventory.destination}/{key}\n" for key, _, _ in state.files)
        await self._put(destination, owner, f"{folder}/hive/dt={at[:10]}-{at[11:13]}-00/symlink.txt", links.encode(), "text/plain")
        digest = md5(document, usedforsecurity=False).hexdigest()
        await self._put(destination, owner, f"{folder}/{at}/manifest.json", document, "application/json")
        await self._put(destination, owner, f"{folder}/{at}/manifest.checksum", digest.encode(), "text/plain")

    async def _put(self, bucket: Bucket, owner: Tenant, key: str, data: bytes, content_type: str) -> None:
        attributes = ObjectAttributes(headers={"ContentType": content_type})
        await self._engine.put_object(bucket, owner, ObjectKey(key), WholeBody(data), attributes)


def _state_name(bucket: Bucket, inventory: Inventory) -> str:
    return f"inventory/{bucket.id}/{inventory.id}"


def _is_current(version: Version) -> bool:
    return version.is_latest and not version.is_delete_marker


def _entry(bucket: Bucket, owner: Tenant, version: Version) -> Entry:
    attributes, retention = version.attributes, version.attributes.retention
    acl = object_acl(attributes.acl, bucket.settings, owner.canonical_id)
    shown_id = "" if bucket.versioning == "Unversioned" and version.id == NULL_VERSION else version.id
    facts: dict[str, str | int | bool | datetime | None] = {
        "VersionId": shown_id,
        "IsLatest": version.is_latest,
        "IsDeleteMarker": version.is_delete_marker,
        "LastModifiedDate": _moment(version.modified_ms),
    }
    if not version.is_delete_marker:
        facts |= {
            "Size": version.size,
            "StorageClass": attributes.storage_class,
            "ETag": version.etag,
            "IsMultipartUploaded": version.parts_count > 0,
            "ReplicationStatus": attributes.replication,
            "EncryptionStatus": _encryption(attributes),
            "ObjectLockRetainUntilDate": None if retention is None else _moment(retention.until_ms),
            "ObjectLockMode": None if retention is None else retention.mode,
            "ObjectLockLegalHoldStatus": attributes.legal_hold,
            "BucketKeyStatus": "ENABLED" if attributes.encryption is not None and attributes.encryption.bucket_key else "DISABLED",
            "ChecksumAlgorithm": None if version.checksum is None else version.checksum.algorithm,
            "ObjectAccessControlList": acl_column(acl),
            "ObjectOwner": acl.owner,
        }
    return Entry(bucket.name, version.key, facts)


def _encryption(attributes: ObjectAttributes) -> str:
    asked = attributes.encryption
    if asked is None:
        return "SSE-S3"
    return "SSE-C" if asked.customer_check else "SSE-KMS"


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
