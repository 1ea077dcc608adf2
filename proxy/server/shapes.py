"""The shapes of heads that clients sent lately, and what was decided of each.

A shape is made only of a head whose signature was proved, and not more often than ten times a second: to make one takes half a millisecond.
So who can fill these, or keep the server busy with them, could do worse anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from proxy.manifest.records import Caller
from proxy.s3.model import Operation
from proxy.s3.parsing import META, Params, parse_request, take_headers
from proxy.s3.policy.grants import UNRESTRICTED
from proxy.s3.routing import Target
from proxy.s3.shape import MAX_SHAPED_SIZE, Head, Shape
from proxy.server.access import Access
from proxy.server.handlers.plain_writes import says_nothing_more
from proxy.server.identity.auth import Sender
from proxy.server.looks import ASKING_MORE, READS

MAX_LIKE = 4  # shapes of as many lines and of the same method
MAX_LINES = 24
LEARN_SECONDS = 0.1


class Entry(NamedTuple):
    """What was decided of a sender who was let in to a bucket of his own, where nothing but that counts."""

    caller: Caller
    access: Access
    pays: bool

    def is_for(self, sender: Sender) -> bool:
        """Tell whether it was decided by the same. What has not changed is the same object: it is read once."""
        caller, other = self.caller, sender.caller
        return (
            caller.bucket is other.bucket
            and caller.owner is other.owner
            and caller.access_key is other.access_key
            and caller.tenant is other.tenant
            and is_unrestricted(sender)
        )


def is_unrestricted(sender: Sender) -> bool:
    """Tell whether a sender is what his access key says, and no more and no less."""
    return sender.session is None and sender.restrictions is UNRESTRICTED


@dataclass(slots=True)
class Known:
    """What is known of a request by its shape alone, and who was let in with the last one."""

    shape: Shape
    operation: Operation
    hosted: str | None  # the bucket that the host names
    params: Params  # but for those of the path, and of headers that differ from request to request
    differing: tuple[str, ...]  # headers whose values make parameters, by lower-case name
    is_plain_read: bool  # a GET or HEAD of an object that asks for nothing else, and has no body
    is_plain_write: bool = False  # a PUT of an object that says nothing of it but its type
    is_plain_delete: bool = False  # a DELETE of an object, whatever its version, without conditions
    entry: Entry | None = None

    @property
    def is_plain(self) -> bool:
        """Whether its answer may take no task."""
        return self.is_plain_read or self.is_plain_write or self.is_plain_delete

    def read(self, target: Target, headers: Mapping[str, str]) -> Params:
        """As `parse_request`."""
        params = self.params.copy()
        params["Bucket"], params["Key"] = target
        if self.differing:
            take_headers(self.operation, {name: headers[name] for name in self.differing}, params)
        return params


class Shapes:
    """The shapes of one process. What came last is looked at first."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._kept: dict[tuple[str, int], list[Known]] = {}
        self._not_before = 0.0

    def find(self, head: str) -> tuple[Known, Head] | None:
        """Return what is known of a head, and what it says."""
        like = self._kept.get(_likeness(head), [])
        for place, known in enumerate(like):
            if (found := known.shape.read(head)) is not None:
                if place:
                    like.insert(0, like.pop(place))
                return known, found
        return None

    def wants(self, head: str) -> bool:
        """Tell whether to make a shape of a head that none fits. It is told for one head at a time, and not for the next ones."""
        now = self._now()
        if len(head) > MAX_SHAPED_SIZE or head.count("\r\n") > MAX_LINES or now < self._not_before:
            return False
        self._not_before = now + LEARN_SECONDS
        return True

    def keep(self, head: str, known: Known) -> None:
        like = self._kept.setdefault(_likeness(head), [])
        like.insert(0, known)
        del like[MAX_LIKE:]


def known_of(shape: Shape, operation: Operation, hosted: str | None, headers: Mapping[str, str]) -> Known:
    """Return what a request that was served tells of all in its shape."""
    differing = {name for name in shape.varying if name in operation.headers or name.startswith(META)}
    if any(name.startswith(META) for name in differing):  # they make one parameter
        differing |= {name for name in headers if name.startswith(META)}
    same = {name: value for name, value in headers.items() if name not in differing}
    params = parse_request(operation, Target(None, None), shape.query, same)
    asks_more = params or differing or not headers.keys().isdisjoint(ASKING_MORE)
    return Known(
        shape,
        operation,
        hosted,
        params,
        tuple(name for name in headers if name in differing),
        is_plain_read=operation.name in READS and not asks_more,
        is_plain_write=operation.name == "PutObject" and says_nothing_more(headers),
        is_plain_delete=operation.name == "DeleteObject" and not (params or differing),
    )


def _likeness(head: str) -> tuple[str, int]:
    return head[:3], head.count("\r\n")
