"""Deleting objects: one version for good, or the latest by S3's rules of versioning; one key or a thousand."""

from __future__ import annotations

import asyncio
from datetime import datetime

from proxy.engine.verbs.deleting import Deletion
from proxy.errors import ProxyError
from proxy.manifest.drafts import NO_CONDITIONS, Conditions
from proxy.manifest.records import ObjectKey, Version, VersionId
from proxy.s3.errors import S3Error
from proxy.s3.naming import check_key
from proxy.s3.object_lock import bypasses_governance
from proxy.s3.parsing import Params
from proxy.s3.policy.actions import BYPASS_GOVERNANCE, Action, deletion_action
from proxy.s3.policy.decision import Resource
from proxy.server.call import Call, rows
from proxy.server.errors import translate
from proxy.server.guard import Guard
from proxy.server.handlers.grants import owner_of_marker
from proxy.server.handlers.integrity import need_integrity_header
from proxy.server.handlers.versions import check_version_id, is_version_id

MAX_KEYS = 1000
_REMOVED = "ObjectRemoved:Delete"


async def delete_object(call: Call) -> dict[str, object]:
    """Remove the version named for good; without one, remove or hide the latest."""
    named = call.text("VersionId")
    conditions = _conditions(call.text("IfMatch"), call.moment("IfMatchLastModifiedTime"), call.integer("IfMatchSize"))
    if named is not None:
        _check_unconditional(conditions)
        version_id = check_version_id(named)
        bypass, cause = bypasses_governance(call.headers), call.cause(_REMOVED)
        removed = await call.services.engine.delete_version(call.bucket, call.key, version_id, bypass_governance=bypass, cause=cause)
        return {"VersionId": version_id, "DeleteMarker": (removed is not None and removed.is_delete_marker) or None}
    cause, owner = call.cause(_REMOVED), owner_of_marker(call)
    marker = await call.services.engine.delete_latest(call.bucket, call.key, conditions=conditions, cause=cause, owner=owner)
    return marker_fields(marker)


def marker_fields(marker: Version | None) -> dict[str, object]:
    """Return what the answer to a deletion tells of the marker that it has made, if it has."""
    return {} if marker is None else {"VersionId": marker.id, "DeleteMarker": True}


async def delete_objects(call: Call) -> dict[str, object]:
    """Delete up to 1,000 keys, each on its own: one that fails does not stop the rest."""
    need_integrity_header(call.headers)
    document = call.document("Delete")
    wanted = rows(document, "Objects")
    if not 1 <= len(wanted) <= MAX_KEYS:
        raise S3Error("MalformedXML")
    outcomes = await _delete_each(call, wanted)
    errors = [outcome for outcome in outcomes if "Code" in outcome]
    deleted = [] if document.get("Quiet") is True else [outcome for outcome in outcomes if "Code" not in outcome]
    return {"Deleted": deleted, "Errors": errors}


async def _delete_each(call: Call, wanted: list[Params]) -> list[dict[str, object]]:
    """Return an element of Deleted or, with a Code, of Errors, for each key in the order of the list."""
    read: list[Deletion | S3Error] = []
    rights = _Rights(call)
    for entry in wanted:
        if not call.guard.is_plain:  # a long policy is asked for each key, for milliseconds: others have a turn meanwhile
            await asyncio.sleep(0)
        read.append(await _read_entry(call, rights, entry))
    results = iter(await call.services.engine.delete_many(call.bucket, [entry for entry in read if isinstance(entry, Deletion)]))
    outcomes = [next(results) if isinstance(entry, Deletion) else entry for entry in read]
    return [_told(entry, outcome) for entry, outcome in zip(wanted, outcomes, strict=True)]


class _Rights:
    """Who may delete what, of one list. Of all operations, DeleteObjects alone names in its body what it is about."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._bypasses = bypasses_governance(call.headers)
        self._guards: dict[Action, Guard] = {}

    async def check(self, key: str, version_id: str | None) -> None:
        """Raise AccessDenied for a key that the asker may not delete."""
        await self._check(deletion_action(of_version=version_id is not None), key, version_id)
        if self._bypasses:
            await self._check(BYPASS_GOVERNANCE, key, version_id)

    async def _check(self, action: Action, key: str, version_id: str | None) -> None:
        bucket = self._call.bucket.name
        guard = self._guards.get(action)
        if guard is None:
            guard = self._guards[action] = self._call.guard.narrowed(action, bucket)
        await guard.check(action, Resource(bucket, key), version_id)


async def _read_entry(call: Call, rights: _Rights, entry: Params) -> Deletion | S3Error:
    """Return what to delete, or why it is not: the others are deleted all the same."""
    key, named = str(entry.get("Key", "")), entry.get("VersionId")
    try:
        check_key(key)
        version_id = None if named is None else _listed_version(key, str(named))
        conditions = _listed_conditions(entry)
        if version_id is not None:
            _check_unconditional(conditions)
        await rights.check(key, version_id)
    except S3Error as error:
        return error
    return Deletion(
        key=ObjectKey(key),
        version_id=version_id,
        conditions=conditions,
        bypass_governance=bypasses_governance(call.headers),
        cause=call.cause(_REMOVED),
        owner=owner_of_marker(call),
    )


def _told(entry: Params, outcome: Version | ProxyError | None) -> dict[str, object]:
    named = {"Key": str(entry.get("Key", "")), "VersionId": entry.get("VersionId")}
    if isinstance(outcome, ProxyError):
        answer = translate(outcome, writing=True)
        return {**named, "Code": answer.code, "Message": answer.message}
    if outcome is None or not outcome.is_delete_marker:
        return named
    return {**named, "DeleteMarker": True, "DeleteMarkerVersionId": outcome.id}


def _check_unconditional(conditions: Conditions) -> None:
    """S3 User Guide, "How to perform conditional deletes": a condition is one on the current version; with another named it answers 501."""
    if conditions != NO_CONDITIONS:
        raise S3Error("NotImplemented", Header="If-Match")


def _listed_version(key: str, text: str) -> VersionId:
    """In a list S3 calls an id that never was one a version that does not exist."""
    if not is_version_id(text):
        raise S3Error("NoSuchVersion", Key=key, VersionId=text)
    return VersionId(text)


def _listed_conditions(entry: Params) -> Conditions:
    etag, modified, size = entry.get("ETag"), entry.get("LastModifiedTime"), entry.get("Size")
    return _conditions(
        None if etag is None else str(etag), modified if isinstance(modified, datetime) else None, size if isinstance(size, int) else None
    )


def _conditions(if_match: str | None, modified: datetime | None, size: int | None) -> Conditions:
    """Return the conditions of a deletion. Times compare by the second: clients have them from a Last-Modified header."""
    if if_match is None and modified is None and size is None:
        return NO_CONDITIONS
    return Conditions(
        if_match=None if if_match is None else if_match.strip().strip('"'),
        if_modified_at=None if modified is None else int(modified.timestamp()),
        if_size=size,
    )
