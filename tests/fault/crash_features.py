"""What can be interrupted beside writes and repairs: for each feature how it is prepared, what is done, and what can be seen of it.

Used by the process that is killed (`tests.fault.crash_child`) and by the test that looks at what it left.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from proxy.config import Config, NotificationsConfig
from proxy.config.sections import TargetConfig
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import JOBS
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import Bucket, BucketName, ObjectAttributes, ObjectKey, Retention, Role, VersionId
from proxy.s3.access_log import LogTarget
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import SETTING as LIFECYCLE
from proxy.s3.lifecycle.rules import encode_configuration
from proxy.s3.notification import SETTING as NOTIFICATION
from proxy.s3.object_lock import encode_default
from proxy.tenancy import add_kms_key
from tests.laboratory import BytesBody, Laboratory
from tests.listed import listed
from tests.unit.s3 import test_inventory, test_replication

DAY = 24 * 3600
NOW_MS = 1_750_000_000_000
UNTIL_MS = NOW_MS + 365 * DAY * 1000
DATA = b"feature" * 50_000
LINE = "one line\n"
TELLS = "log"

Act = Callable[[Laboratory], Awaitable[None]]


async def nothing(_: Laboratory) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One kind of change. `seen` is `before` until it has happened, and `after` once `finish` is through, whatever was killed."""

    prepare: Act = nothing
    act: Act
    seen: Callable[[Laboratory], Awaitable[object]]
    before: object
    after: object
    finish: Act = nothing


def adjust(config: Config) -> Config:
    """Return the configuration of a laboratory that has all features: a file is told of events."""
    target = TargetConfig(kind="file", path=str(events_path(Path(config.data))))
    return replace(config, notifications=NotificationsConfig(keep_days=100.0, targets={TELLS: target}))


def events_path(data: Path) -> Path:
    return data / "events"


# Settings and rights


async def _lock_bucket(lab: Laboratory) -> None:
    await _keep_versions(lab)
    await lab.services.engine.put_bucket_setting(lab.bucket, OBJECT_LOCK, encode_default(None))


async def _keep_versions(lab: Laboratory) -> None:
    await lab.services.engine.set_versioning(lab.bucket, "Enabled")
    lab.bucket = await _bucket(lab, "bucket")


async def _lock(lab: Laboratory) -> None:
    change = AttributeChange(retention=Retention(mode="COMPLIANCE", until_ms=UNTIL_MS))
    await lab.services.engine.change_attributes(lab.bucket, ObjectKey("k"), await _version_id(lab), change)


async def _is_locked(lab: Laboratory) -> object:
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    return version is not None and version.attributes.retention is not None


async def _version_id(lab: Laboratory) -> VersionId:
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    return version.id


def _setting(name: str) -> Feature:
    async def act(lab: Laboratory) -> None:
        await lab.services.engine.put_bucket_setting(lab.bucket, name, "{}")

    async def seen(lab: Laboratory) -> object:
        return name in (await _bucket(lab, "bucket")).settings

    return Feature(act=act, seen=seen, before=False, after=True)


async def _put_role(lab: Laboratory) -> None:
    role = Role(tenant_id=lab.tenant.id, name="r", trust="{}", policy="{}", created_ms=NOW_MS)
    await lab.services.manifest.put_role(role)


async def _roles(lab: Laboratory) -> object:
    return [role.name for role in await lab.services.manifest.list_roles(lab.tenant.id)]


async def _put_kms_key(lab: Laboratory) -> None:
    await add_kms_key(lab.services.manifest, lab.services.keyring, lab.clock, lab.tenant, alias="a")


async def _kms_keys(lab: Laboratory) -> object:
    """A key that is there opens what it wraps: it is stored whole or not at all."""
    keys = await lab.services.manifest.list_kms_keys(lab.tenant.id)
    for key in keys:
        cipher = lab.services.keyring.tenant_cipher(key)
        assert cipher.unwrap(cipher.wrap(bytes(32))) == bytes(32)
    return [key.alias for key in keys]


# Lifecycle


def _rule(**parts: object) -> Act:
    async def prepare(lab: Laboratory) -> None:
        await _put(lab, "k", DATA)
        rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "k"}, **parts}
        configuration = read_configuration({"Rules": [rule]}, minimum_size=None, storage_classes=("ONEZONE_IA",))
        await lab.services.engine.put_bucket_setting(lab.bucket, LIFECYCLE, encode_configuration(configuration))
        lab.clock.advance(32 * DAY)

    return prepare


async def _run_lifecycle(lab: Laboratory) -> None:
    for job in JOBS:
        while not (await lab.worker(job).step()).idle:
            pass
    await lab.settled()


async def _is_there(lab: Laboratory) -> object:
    return await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k")) is not None


async def _scheme(lab: Laboratory) -> object:
    assert await lab.get("k") == DATA
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    return extent.layout.k, extent.layout.m


# What is delivered elsewhere


async def _ask_for_events(lab: Laboratory) -> None:
    rules = {"QueueConfigurations": [{"Id": "all", "QueueArn": f"arn:aws:sqs:::{TELLS}", "Events": ["s3:ObjectCreated:*"]}]}
    await lab.services.engine.put_bucket_setting(lab.bucket, NOTIFICATION, json.dumps(rules))
    lab.bucket = await _bucket(lab, "bucket")


async def _put_and_tell(lab: Laboratory) -> None:
    cause = Cause(name="ObjectCreated:Put", owner=lab.tenant.id)
    await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("told"), BytesBody(DATA), ObjectAttributes(), cause=cause)
    await lab.settled()
    await _tell(lab)


async def _tell(lab: Laboratory) -> None:
    while not (await lab.worker("notifications").step()).idle:
        pass


async def _was_told(lab: Laboratory) -> object:
    """Tell whether the object is there; if it is, somebody was told, or will be, and each time by one and the same id."""
    path = events_path(Path(lab.services.config.data))
    told = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    sequencers = {record["s3"]["object"]["sequencer"] for event in told for record in event["Records"]}
    waiting = await lab.services.manifest.due_events(TELLS, limit=10)
    there = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("told")) is not None
    assert there == bool(told or waiting)
    assert len(sequencers) <= 1
    return "told" if told and not waiting else "waits" if there else "not there"


async def _make_copy_bucket(lab: Laboratory) -> None:
    copy = Bucket(name=BucketName("copy"), tenant_id=lab.tenant.id, policy="standard", created_ms=NOW_MS)
    for bucket in (lab.bucket, await lab.services.engine.create_bucket(copy)):
        await lab.services.engine.set_versioning(bucket, "Enabled")
    rules = test_replication.document(test_replication.rule(markers=True))
    await lab.services.engine.put_bucket_setting(lab.bucket, "replication", json.dumps(rules))
    lab.bucket = await _bucket(lab, "bucket")
    await _put(lab, "k", DATA)


async def _replicate(lab: Laboratory) -> None:
    while not (await lab.worker("replication").step()).idle:
        pass
    await lab.settled()


async def _copies(lab: Laboratory) -> object:
    """Return how many copies there are; each is whole."""
    bucket = await _bucket(lab, "copy")
    page = await lab.services.manifest.list_versions(bucket.id, prefix="", delimiter="", after_key="", after_version="", limit=10)
    for version in page.versions:
        assert await _content(lab, "copy", version.key) == DATA
    return len(page.versions)


async def _ask_for_inventory(lab: Laboratory) -> None:
    await _make_bucket(lab, "lists")
    wanted = {"id": test_inventory.document(Destination=test_inventory.destination())}
    await lab.services.engine.put_bucket_setting(lab.bucket, "inventory", json.dumps(wanted))


async def _make_inventories(lab: Laboratory) -> None:
    while not (await lab.worker("inventories").step()).idle:
        pass
    await lab.settled()


async def _lists(lab: Laboratory) -> object:
    """Tell whether there is a list. Whoever finds one finds all its files, whole."""
    keys = await _keys(lab, "lists")
    for key in (key for key in keys if key.endswith("manifest.json")):
        for file in json.loads(await _content(lab, "lists", key))["files"]:
            assert len(await _content(lab, "lists", file["key"])) == file["size"]
    return any(key.endswith("manifest.json") for key in keys)


async def _note_line(lab: Laboratory) -> None:
    await _make_bucket(lab, "logs")
    lab.services.access_log.note(lab.bucket, lab.tenant, LogTarget("logs"), LINE, NOW_MS)


async def _store_lines(lab: Laboratory) -> None:
    await lab.services.access_log.flush()
    await lab.settled()


async def _lines(lab: Laboratory) -> object:
    return [await _content(lab, "logs", key) for key in await _keys(lab, "logs")]


async def _note_again(lab: Laboratory) -> None:
    """Lines that waited in memory are lost with it, and that is said; those of later requests come."""
    if not await _keys(lab, "logs"):
        lab.services.access_log.note(lab.bucket, lab.tenant, LogTarget("logs"), LINE, NOW_MS)
        await _store_lines(lab)


# What they share


async def _make_bucket(lab: Laboratory, name: str) -> None:
    made = Bucket(name=BucketName(name), tenant_id=lab.tenant.id, policy="standard", created_ms=NOW_MS)
    await lab.services.engine.create_bucket(made)


async def _bucket(lab: Laboratory, name: str) -> Bucket:
    bucket = await lab.services.manifest.find_bucket(BucketName(name))
    assert bucket is not None
    return bucket


async def _put(lab: Laboratory, key: str, data: bytes) -> None:
    await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey(key), BytesBody(data), ObjectAttributes())
    await lab.settled()


async def _keys(lab: Laboratory, bucket: str) -> list[str]:
    found = await _bucket(lab, bucket)
    page = await lab.services.manifest.list_objects(found.id, prefix="", delimiter="", after="", limit=100)
    return [seen.key for seen in listed(page)]


async def _content(lab: Laboratory, bucket: str, key: str) -> bytes:
    found = await _bucket(lab, bucket)
    version = await lab.services.manifest.find_version(found.id, ObjectKey(key))
    assert version is not None
    pieces = await lab.services.engine.open_read(version, lab.tenant, 0, version.size)
    return b"".join([bytes(piece) async for piece in pieces])


FEATURES: Mapping[str, Feature] = {
    "lock": Feature(prepare=_lock_bucket, act=_lock, seen=_is_locked, before=False, after=True),
    "bucket policy": _setting("policy"),
    "bucket ACL": _setting("acl"),
    "role": Feature(act=_put_role, seen=_roles, before=[], after=["r"]),
    "KMS key": Feature(act=_put_kms_key, seen=_kms_keys, before=[], after=["a"]),
    "expiry": Feature(
        prepare=_rule(Expiration={"Days": 3}), act=_run_lifecycle, seen=_is_there, before=True, after=False, finish=_run_lifecycle
    ),
    "transition": Feature(
        prepare=_rule(Transitions=[{"Days": 30, "StorageClass": "ONEZONE_IA"}]),
        act=_run_lifecycle,
        seen=_scheme,
        before=(4, 2),
        after=(3, 2),
        finish=_run_lifecycle,
    ),
    "event": Feature(prepare=_ask_for_events, act=_put_and_tell, seen=_was_told, before="not there", after="told", finish=_tell),
    "replication": Feature(prepare=_make_copy_bucket, act=_replicate, seen=_copies, before=0, after=1, finish=_replicate),
    "inventory": Feature(
        prepare=_ask_for_inventory, act=_make_inventories, seen=_lists, before=False, after=True, finish=_make_inventories
    ),
    "access log": Feature(prepare=_note_line, act=_store_lines, seen=_lines, before=[], after=[LINE.encode()], finish=_note_again),
}
