"""Contexts of requests whose condition keys somebody states, beside what the request says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.s3.policy.catalogue import goes_with
from proxy.s3.policy.context import RequestContext
from proxy.s3.policy.decision import Question

# Those that follow from the principal, the resource and the time.
_KNOWN = frozenset(
    {
        "aws:currenttime", "aws:epochtime", "aws:principalarn", "aws:principalaccount", "aws:principaltype", "aws:principalisawsservice",
        "aws:viaawsservice", "aws:userid", "aws:username", "aws:resourceaccount", "s3:resourceaccount", "s3:versionid",
    }
)  # fmt: skip


class TrustContext(RequestContext):
    """Condition keys of who wants to become a role: what the request says, and what a provider says of a web identity."""

    __slots__ = ("_said",)

    def say(self, said: Mapping[str, Sequence[str]]) -> TrustContext:
        """Take values by key, in lower case."""
        self._said = said
        return self

    def values(self, key: str, question: Question) -> Sequence[str] | None:
        """See `Context`."""
        return self._said[key] if key in self._said else super().values(key, question)


class StatedContext(RequestContext):
    """Condition keys as somebody states them, for a request that is not made. What the principal and the time say is known."""

    __slots__ = ("_given", "not_given")

    def __init__(self, given: Mapping[str, Sequence[str]], *, now_ms: int) -> None:
        """Take values by key, in lower case."""
        super().__init__("", (), {}, now_ms=now_ms)
        self._given = given
        self.not_given: set[str] = set()

    def values(self, key: str, question: Question) -> Sequence[str] | None:
        """See `Context`. Keys that are not stated are noted in `not_given`."""
        if key in self._given:
            return self._given[key] if goes_with(key, question.action) else None
        if key in _KNOWN or key.startswith("s3:existingobjecttag/"):
            return super().values(key, question)
        if goes_with(key, question.action):
            self.not_given.add(key)
        return None
