"""The guard of one request and one bucket: asks the decision, and fetches what that needs of the object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from proxy.manifest.records import Version
from proxy.s3.errors import S3Error
from proxy.s3.parsing import Params
from proxy.s3.policy.actions import Action
from proxy.s3.policy.context import BodyNeeded
from proxy.s3.policy.decision import (
    NO_OBJECT,
    Context,
    Grants,
    NoContext,
    ObjectFacts,
    ObjectNeeded,
    Question,
    Resource,
    UploadNeeded,
    authorise,
    may_all,
)
from proxy.s3.policy.narrowing import narrowed
from proxy.s3.policy.principal import ANONYMOUS, Principal

LoadObject = Callable[[str, str | None], Awaitable[ObjectFacts]]  # of a key, and a version of it
LoadUpload = Callable[[], Awaitable[Mapping[str, str] | None]]  # what the request's upload began with; None if there is none


class BodyContext(Context, Protocol):
    """A context that takes the request's document once it was read, and what its upload began with."""

    def take_body(self, params: Params) -> None: ...

    def take_upload(self, begun_with: Mapping[str, str] | None) -> None: ...


async def no_object(_key: str, _version_id: str | None) -> ObjectFacts:
    """Stand for a bucket without objects."""
    return NO_OBJECT


async def no_upload() -> None:
    """Stand for a request that is about none."""


def facts_of(version: Version | None) -> ObjectFacts:
    """Return what a version says about access to it."""
    if version is None or version.is_delete_marker:
        return NO_OBJECT
    return ObjectFacts(tags=version.attributes.tags, acl=version.attributes.acl)


class Guard:
    """Lets one principal do what the grants of one bucket allow. `account_id` is the owner's.

    What rests on an object is decided by the object as it was then. Another may have its key by the time the handler finds it, and be meant
    for fewer eyes: so the handler has that one confirmed.
    """

    __slots__ = ("_account_id", "_context", "_grants", "_load", "_load_upload", "_pending", "_principal", "_resting", "allows_all")

    def __init__(
        self,
        principal: Principal,
        grants: Grants,
        context: BodyContext,
        load: LoadObject,
        account_id: str = "",
        *,
        load_upload: LoadUpload = no_upload,
    ) -> None:
        self._principal = principal
        self._grants = grants
        self._context = context
        self._load = load
        self._load_upload = load_upload
        self._account_id = account_id
        self.allows_all = may_all(principal, grants)  # most requests are of a bucket's owner: it is decided once
        self._pending: tuple[tuple[Action, Resource, str | None], ...] = ()
        self._resting: tuple[Question, ...] = ()  # what was allowed by what an object says

    @property
    def context(self) -> BodyContext:
        return self._context

    @property
    def waits_for_body(self) -> bool:
        """Whether something is to be decided by `check_body`."""
        return bool(self._pending)

    @property
    def is_plain(self) -> bool:
        """Whether nothing but ownership counts, which is decided in no time."""
        return self._grants.is_plain

    async def check(self, action: Action, resource: Resource, version_id: str | None = None) -> None:
        """Raise AccessDenied unless this may be done. The object or upload is loaded only if the decision depends on it."""
        if self.allows_all:
            return
        question = await self._allowed(action, resource, version_id)
        if question.thing is not None:
            self._resting += (question,)

    def confirm(self, version: Version, version_id: str | None) -> None:
        """Raise AccessDenied unless what was allowed is allowed with this version, too. `version_id` is the one that was asked for."""
        for question in self._resting:
            if (question.resource.key, question.version_id) == (version.key, version_id) and question.thing != (thing := facts_of(version)):
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

    def narrowed(self, action: Action, bucket: str) -> Guard:
        """Return a guard for many objects of one request and one action: what is the same for all of them is decided once."""
        about = Question(self._principal, action, Resource(bucket), self._context, None, None, self._account_id)
        grants = narrowed(self._grants, about)
        return Guard(self._principal, grants, self._context, self._load, self._account_id, load_upload=self._load_upload)

    def check_elsewhere(self, action: Action, bucket: str, prefix: str) -> None:
        """Raise AccessDenied unless the principal may do this with all keys of a prefix, in a bucket of the same owner.

        It is for what a setting lets the server do later, on the owner's behalf: no key may have that done which it may not do itself. That
        bucket's policy is not asked, as it is not when the server does it: so this is for nobody but the owner's own credentials.
        """
        question = Question(self._principal, action, Resource(bucket, f"{prefix}*"), self._context, NO_OBJECT, None, self._account_id)
        authorise(question, Grants(self._grants.owner_id, limits=self._grants.limits, role=self._grants.role))

    async def may(self, action: Action, resource: Resource) -> bool:
        """Tell whether something would be allowed."""
        try:
            await self._allowed(action, resource, None)
        except (S3Error, BodyNeeded):
            return False
        return True

    async def _allowed(self, action: Action, resource: Resource, version_id: str | None) -> Question:
        """Return the question as it was decided. Raises AccessDenied."""
        question = Question(self._principal, action, resource, self._context, None, version_id, self._account_id)
        while True:  # at most once for the object, and once for the upload
            try:
                authorise(question, self._grants)
            except ObjectNeeded:
                thing = NO_OBJECT if resource.key is None else await self._load(resource.key, version_id)
                question = question._replace(thing=thing)
            except UploadNeeded:
                self._context.take_upload(await self._load_upload())
            else:
                return question


class _Nothing(NoContext):
    def take_body(self, params: Params) -> None:
        """Of a request without one."""

    def take_upload(self, begun_with: Mapping[str, str] | None) -> None:
        """Of a request without one."""


NOTHING = _Nothing()
CLOSED = Guard(ANONYMOUS, Grants(), NOTHING, no_object)  # lets nobody do anything
