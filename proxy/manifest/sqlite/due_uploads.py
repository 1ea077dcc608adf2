"""Lifecycle rules: incomplete uploads that are too old."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.errors import BucketMissing
from proxy.manifest.lifecycle import DueUploads, UploadPlace
from proxy.manifest.records import BucketId, ObjectKey, UploadId
from proxy.manifest.sqlite.due import rules_of
from proxy.manifest.sqlite.rows import Connection
from proxy.manifest.sqlite.uploads import abort_upload
from proxy.s3.lifecycle.deciding import abort_at
from proxy.s3.lifecycle.rules import Configuration

_SCAN = (
    "SELECT key, initiated, id FROM upload WHERE bucket = ?1 AND (key, initiated, id) > (?2, ?3, ?4) ORDER BY key, initiated, id LIMIT ?5"
)


def walk_uploads(connection: Connection, bucket_id: BucketId, after: UploadPlace, now_ms: int, max_rows: int) -> DueUploads:
    try:
        _, configuration = rules_of(connection, bucket_id)
    except BucketMissing:
        configuration = None
    if configuration is None:
        return DueUploads(due=(), place=after, rows=0, ended=True)
    start = (bucket_id, after.key.encode(), after.initiated_ms, after.upload_id, max_rows)
    rows = connection.execute(_SCAN, start).fetchall()
    due = tuple(UploadId(row[2]) for row in rows if _is_over(configuration, row[0].decode(), row[1], now_ms))
    place = UploadPlace(key=ObjectKey(rows[-1][0].decode()), initiated_ms=rows[-1][1], upload_id=UploadId(rows[-1][2])) if rows else after
    return DueUploads(due=due, place=place, rows=len(rows), ended=len(rows) < max_rows)


def abort_due(connection: Connection, bucket_id: BucketId, upload_ids: Sequence[UploadId], now_ms: int) -> int:
    _, configuration = rules_of(connection, bucket_id)
    aborted = 0
    for upload_id in upload_ids if configuration is not None else ():
        row = connection.execute("SELECT key, initiated FROM upload WHERE id = ? AND bucket = ?", (upload_id, bucket_id)).fetchone()
        if row is not None and configuration is not None and _is_over(configuration, row[0].decode(), row[1], now_ms):
            abort_upload(connection, upload_id, now_ms)
            aborted += 1
    return aborted


def _is_over(configuration: Configuration, key: str, initiated_ms: int, now_ms: int) -> bool:
    found = abort_at(configuration, key, initiated_ms)
    return found is not None and found[0] <= now_ms
