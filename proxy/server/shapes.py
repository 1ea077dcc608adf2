"""The shapes of heads that clients sent lately, and what was decided of each.

A shape is made only of a head whose signature was proved, and not more often than ten times a second: to make one takes half a millisecond.
So nobody can fill these, or keep the server busy with them, who could not do worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

from proxy.s3.model import Operation
from proxy.s3.parsing import META, Params, parse_request, take_headers
from proxy.s3.routing import Target
from proxy.s3.shape import Head, Shape

MAX_HEAD_SIZE = 4 * 1024  # of those that are kept
MAX_LIKE = 4  # shapes of as many lines and of the same method
MAX_LINES = 24
LEARN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a request by its shape alone."""

    shape: Shape
    operation: Operation
    hosted: str | None  # the bucket that the host names
    params: Params  # but for those of the path, and of headers that differ from request to request
    differing: tuple[str, ...]  # headers whose values make parameters, by lower-case name

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
        """Tell whether to make a shape of a head that none fits."""
        return len(head) <= MAX_HEAD_SIZE and head.count("\r\n") <= MAX_LINES and self._now() >= self._not_before

    def keep(self, head: str, known: Known) -> None:
        like = self._kept.setdefault(_likeness(head), [])
        like.insert(0, known)
        del like[MAX_LIKE:]
        self._not_before = self._now() + LEARN_SECONDS


def known_of(shape: Shape, operation: Operation, hosted: str | None, headers: Mapping[str, str]) -> Known:
    """Return what a request that was served tells of all in its shape."""
    differing = {name for name in shape.varying if name in operation.headers or name.startswith(META)}
    if any(name.startswith(META) for name in differing):  # they make one parameter
        differing |= {name for name in headers if name.startswith(META)}
    same = {name: value for name, value in headers.items() if name not in differing}
    params = parse_request(operation, Target(None, None), shape.query, same)
    return Known(shape, operation, hosted, params, tuple(name for name in headers if name in differing))


def _likeness(head: str) -> tuple[str, int]:
    return head[:3], head.count("\r\n")
