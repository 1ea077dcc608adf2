"""The guard of one request and one bucket: asks the decision, and fetches what that needs of the object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from proxy.s3.errors import S3Error
from proxy.s3.parsing import Params
from proxy.s3.policy.actions import Action
from proxy.s3.policy.context import BodyNeeded
from proxy.s3.policy.decision import NO_OBJECT, Context, Grants, NoContext, ObjectFacts, ObjectNeeded, Question, Resource, authorise
from proxy.s3.policy.principal import ANONYMOUS, Principal

LoadObject = Callable[[str, str | None], Awaitable[ObjectFacts]]  # of a key, and a version of it


class BodyContext(Context, Protocol):
    """A context that takes the request's document once it was read."""

    def take_body(self, params: Params) -> None: ...


async def no_object(_key: str, _version_id: str | None) -> ObjectFacts:
    """Stand for a bucket without objects."""
    return NO_OBJECT


class Guard:
    """Lets one principal do what the grants of one bucket allow. `account_id` is the owner's."""

    __slots__ = ("_account_id", "_context", "_grants", "_load", "_pending", "_principal")

    def __init__(self, principal: Principal, grants: Grants, context: BodyContext, load: LoadObject, account_id: str = "") -> None:
        self._principal = principal
        self._grants = grants
        self._context = context
        self._load = load
        self._account_id = account_id
        self._pending: tuple[tuple[Action, Resource, str | None], ...] = ()

    @property
    def context(self) -> BodyContext:
        return self._context

    async def check(self, action: Action, resource: Resource, version_id: str | None = None) -> None:
        """Raise AccessDenied unless this may be done. The object is loaded only if the decision depends on it."""
        question = Question(self._principal, action, resource, self._context, None, version_id, self._account_id)
        try:
            authorise(question, self._grants)
        except ObjectNeeded:
            thing = NO_OBJECT if resource.key is None else await self._load(resource.key, version_id)
            authorise(question._replace(thing=thing), self._grants)

    async def check_head(self, action: Action, resource: Resource, version_id: str | None = None) -> None:
        """As `check`, before the request's document is read. Where the decision depends on that, it waits for `check_body`."""
        try:
            await self.check(action, resource, version_id)
        except BodyNeeded:
            self._pending = (*self._pending, (action, resource, version_id))

    async def check_body(self, params: Params) -> None:
        """Decide what waits for the document. Must be called before anything is done for the request."""
        if self._pending:
            self._context.take_body(params)
            for action, resource, version_id in self._pending:
                await self.check(action, resource, version_id)
            self._pending = ()

    async def may(self, action: Action, resource: Resource) -> bool:
        """Tell whether something would be allowed."""
        try:
            await self.check(action, resource)
        except (S3Error, BodyNeeded):
            return False
        return True


class _Nothing(NoContext):
    def take_body(self, params: Params) -> None:
        """Of a request without one."""


NOTHING = _Nothing()
CLOSED = Guard(ANONYMOUS, Grants(), NOTHING, no_object)  # lets nobody do anything
