"""Events: what happened to an object, kept until everybody who wants to hear of it has.

A **cause** says why a step changes an object: what it is called, who asked, and by which request. A step that is given one writes an
**event** in the same transaction, once for each target that the bucket's notification configuration names. So no event is lost between
a commit and its delivery, and none is told of a change that was rolled back.
"""

from __future__ import annotations

from proxy.manifest.records import Record


class Cause(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Why an object is changed. `name` is S3's without the prefix, as "ObjectCreated:Put"; of a deletion, as if no marker were made."""

    name: str
    owner: str  # the canonical id of the bucket's owner
    principal: str = ""  # who asked; "" for nobody in particular
    source_ip: str = ""
    request_id: str = ""
    host_id: str = ""


class Event(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What happened to one version of one key."""

    bucket: str
    key: str
    version_id: str = ""  # "" in a bucket that never had versioning
    size: int = 0
    etag: str = ""
    at_ms: int
    cause: Cause


class Delivery(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An event that one target is still to be told of. `sequence` rises from event to event, in the `epoch` that it was written in."""

    epoch: int
    sequence: int
    target: str
    configuration: str  # the id of the rule that asked for it
    event: Event


class Backlog(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What waits for one target."""

    target: str
    count: int
    oldest_ms: int
