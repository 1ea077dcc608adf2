"""Events: written by the step that makes something happen, taken away by the worker that tells them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from proxy.manifest.events import Backlog, Cause, Delivery, Event
from proxy.manifest.records import NULL_VERSION, BucketId, Version
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.rows import Connection, encode
from proxy.s3.notification import SETTING, rules_of

_ADD = "INSERT INTO event (epoch, target, configuration, at, record) VALUES ((SELECT number FROM epoch), ?, ?, ?, ?)"
_events = msgspec.msgpack.Decoder(Event)


def note_event(connection: Connection, bucket_id: BucketId, version: Version | None, cause: Cause | None, now_ms: int) -> None:
    """Write what happened to a version, once for each rule that wants to hear of it. Without a version nothing happened."""
    if cause is None or version is None:
        return
    bucket = need_bucket(connection, bucket_id)
    setting = bucket.settings.get(SETTING)
    wanted = [rule for rule in rules_of(setting) if rule.wants(cause.name, version.key)] if setting else []
    if not wanted:
        return
    event = Event(
        bucket=bucket.name,
        key=version.key,
        version_id="" if bucket.versioning == "Unversioned" and version.id == NULL_VERSION else version.id,
        size=version.size,
        etag=version.etag,
        at_ms=now_ms,
        cause=cause,
    )
    add_event(connection, event, ((rule.target, rule.id) for rule in wanted))


def add_event(connection: Connection, event: Event, listeners: Iterable[tuple[str, str]]) -> None:
    """Queue an event for each (target, id of the configuration)."""
    record = encode(event)
    rows = ((target, configuration, event.at_ms, record) for target, configuration in listeners)
    connection.executemany(_ADD, rows)


def due_events(connection: Connection, target: str, limit: int) -> tuple[Delivery, ...]:
    rows = connection.execute(
        "SELECT epoch, sequence, configuration, record FROM event WHERE target = ? ORDER BY sequence LIMIT ?", (target, limit)
    )
    return tuple(
        Delivery(epoch=epoch, sequence=sequence, target=target, configuration=configuration, event=_events.decode(record))
        for epoch, sequence, configuration, record in rows
    )


def finish_events(connection: Connection, sequences: Sequence[int]) -> None:
    connection.executemany("DELETE FROM event WHERE sequence = ?", ((sequence,) for sequence in sequences))


def drop_events(connection: Connection, before_ms: int, limit: int) -> int:
    """Forget the oldest events from before a moment, whoever was to hear of them; return how many."""
    cursor = connection.execute(
        "DELETE FROM event WHERE sequence IN (SELECT sequence FROM event ORDER BY sequence LIMIT ?) AND at < ?", (limit, before_ms)
    )
    return cursor.rowcount


def event_backlogs(connection: Connection) -> tuple[Backlog, ...]:
    rows = connection.execute("SELECT target, count(*), min(at) FROM event GROUP BY target ORDER BY target")
    return tuple(Backlog(target=target, count=count, oldest_ms=oldest) for target, count, oldest in rows)


def marker_made(cause: Cause | None) -> Cause | None:
    """Return the cause of a deletion that made a marker."""
    return None if cause is None else replace(cause, name=f"{cause.name.partition(':')[0]}:DeleteMarkerCreated")
