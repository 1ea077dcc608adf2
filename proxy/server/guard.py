"""The guard of one request and one bucket: asks the decision, and fetches what that needs of the object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import NO_OBJECT, Context, Grants, NoContext, ObjectFacts, ObjectNeeded, Question, Resource, authorise
from proxy.s3.policy.principal import ANONYMOUS, Principal

LoadObject = Callable[[str, str | None], Awaitable[ObjectFacts]]  # of a key, and a version of it


async def no_object(_key: str, _version_id: str | None) -> ObjectFacts:
    """Stand for a bucket without objects."""
    return NO_OBJECT


class Guard:
    """Lets one principal do what the grants of one bucket allow."""

    __slots__ = ("_context", "_grants", "_load", "_principal")

    def __init__(self, principal: Principal, grants: Grants, context: Context, load: LoadObject) -> None:
        self._principal = principal
        self._grants = grants
        self._context = context
        self._load = load

    async def check(self, action: Action, resource: Resource, version_id: str | None = None) -> None:
        """Raise AccessDenied unless this may be done. The object is loaded only if the decision depends on it."""
        question = Question(self._principal, action, resource, self._context, None, version_id)
        try:
            authorise(question, self._grants)
        except ObjectNeeded:
            thing = NO_OBJECT if resource.key is None else await self._load(resource.key, version_id)
            authorise(question._replace(thing=thing), self._grants)


CLOSED = Guard(ANONYMOUS, Grants(), NoContext(), no_object)  # lets nobody do anything
