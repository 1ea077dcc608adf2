"""The decision: one pure function over who asks, what for, on which resource, and what has been granted.

The problem: a request is judged by documents of several people: the bucket's owner (bucket policy, lists, public access block), whoever
made the key or the session, and ownership itself. Each may be absent, and most are.

The idea: three rounds, in AWS's order. Whatever denies explicitly decides. Then whatever limits the principal (the policy of its key, those
of its session) must allow: such a limit gives nothing by itself. Then something must give: to a principal of the owner's account, being of
it, or for a session its role's policies; to everybody else, the bucket's policy or its lists. Nothing is allowed by default.

Most requests are of the owner's root key, on a bucket without a policy. `decide` answers these before it looks at anything else.

What the object itself says (its tags, its list, its owner) is loaded only where it counts: a question without the object raises
`ObjectNeeded` there, and is asked again with it.

Source: IAM User Guide, "Policy evaluation logic" and "Cross-account policy evaluation logic"; S3 User Guide, "How Amazon S3 authorizes a
request"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from proxy.s3.errors import S3Error
from proxy.s3.naming import BUCKET_ARN
from proxy.s3.policy.acl import Acl
from proxy.s3.policy.actions import Action
from proxy.s3.policy.principal import Principal

Effect = Literal["Allow", "Deny"]


class ObjectNeeded(Exception):
    """The decision depends on the object, and the question came without it."""


class UploadNeeded(Exception):
    """The decision depends on what the multipart upload began with, and the context came without it."""


class UploadGone(Exception):
    """A condition is about what the multipart upload began with, and there is no such upload."""


class Resource(NamedTuple):
    """What is asked for. Without a bucket it is the service itself, without a key the bucket."""

    bucket: str | None = None
    key: str | None = None
    named: str = ""  # the ARN of what is neither

    @property
    def arn(self) -> str:
        if self.named:
            return self.named
        if self.bucket is None:
            return "*"
        return f"{BUCKET_ARN}{self.bucket}" if self.key is None else f"{BUCKET_ARN}{self.bucket}/{self.key}"


class ObjectFacts(NamedTuple):
    """What a stored object says about access to it. Without an ACL it is the bucket's owner's, and nobody else's."""

    tags: Mapping[str, str] = {}
    acl: Acl | None = None


NO_OBJECT = ObjectFacts()  # there is none of this key


class Context(Protocol):
    """The condition keys of a request."""

    def values(self, key: str, question: Question) -> Sequence[str] | None:
        """Return the values of a key, which is in lower case; None if the request has no such key. Raises `ObjectNeeded`."""
        ...


class NoContext:
    """Of a request that says nothing."""

    def values(self, key: str, question: Question) -> None:
        """See `Context`."""


class Question(NamedTuple):
    """What is to be decided. `thing`: the object that the resource names, None if it was not loaded."""

    principal: Principal
    action: Action
    resource: Resource
    context: Context = NoContext()
    thing: ObjectFacts | None = None
    version_id: str | None = None
    account_id: str = ""  # of the resource's owner

    def object(self) -> ObjectFacts:
        """Return the object. Raises `ObjectNeeded`."""
        if self.thing is None:
            raise ObjectNeeded
        return self.thing


class Finding(NamedTuple):
    """What one policy says to a question. `by` names the statement.

    `direct`: it names the principal itself, or everybody, and not just the account.
    """

    effect: Effect | None = None
    by: str = ""
    direct: bool = False


class Policy(Protocol):
    """A policy document, validated."""

    def judge(self, question: Question) -> Finding:
        """Return what it says: an explicit denial before anything else. Raises `ObjectNeeded`."""
        ...


class Lists(Protocol):
    """Access control lists: those of a bucket, and of its objects, as far as ownership and the public access block let them count."""

    def judge(self, question: Question, owner_id: str) -> str | None:
        """Return the grant that allows this, in words; None if none does. Raises `ObjectNeeded`."""
        ...

    def foreign_owner(self, question: Question) -> str | None:
        """Return the account, by canonical id, whose object this is about, if that is not the bucket's owner. Raises `ObjectNeeded`."""
        ...


class Grants(NamedTuple):
    """What was granted, and what limits it.

    `owner_id`: the tenant whose bucket it is, or will be when it is made. `limits`: policies of a key or a session, each with the name of
    its kind; all must allow. `role`: the policies of a session's role, None for who is no such session. `lists`: None where access control
    lists do not count. `restricted`: a policy that is public counts for principals of the owner's account alone (RestrictPublicBuckets).
    `initiated`: the principal's account began the multipart upload that the request is about.
    """

    owner_id: str | None = None
    bucket_policy: Policy | None = None
    limits: tuple[tuple[str, Policy], ...] = ()
    role: tuple[Policy, ...] | None = None
    lists: Lists | None = None
    restricted: bool = False
    initiated: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but ownership."""
        return self.bucket_policy is None and not self.limits and self.role is None and self.lists is None


class Decision(NamedTuple):
    """The answer, and what decided. `because` completes AWS's message about a denial."""

    allowed: bool
    by: str
    because: str = ""


BY_OWNER = Decision(allowed=True, by="the account owns the bucket")
BY_INITIATOR = Decision(allowed=True, by="the account began the upload")
BY_OBJECT_OWNER = Decision(allowed=True, by="the account owns the object")
# S3 User Guide, "Multipart upload API and permissions": by default the bucket's owner may do this, and who began the upload.
_OF_INITIATOR = frozenset({"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"})
# The root of the account that owns a bucket cannot lock itself out: S3 User Guide, "Bucket policies", PutBucketPolicy.
_NEVER_LOCKED = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})


def authorise(question: Question, grants: Grants) -> None:
    """Raise AccessDenied unless the principal may do this. Raises `ObjectNeeded`."""
    decision = decide(question, grants)
    if not decision.allowed:
        raise S3Error("AccessDenied", _told(question, grants, decision))


def may_all(principal: Principal, grants: Grants) -> bool:
    """Return whether the principal may do everything that can be asked for under these grants, as `decide` would say each time."""
    return _owns(principal, grants) and grants.is_plain


def decide(question: Question, grants: Grants) -> Decision:
    """Return whether the principal may do this, and what decides. Raises `ObjectNeeded`."""
    if may_all(question.principal, grants):
        return BY_OWNER
    owns = _owns(question.principal, grants)
    if owns and question.principal.is_root and question.action in _NEVER_LOCKED and not grants.limits:
        return Decision(allowed=True, by="the root of the account that owns the bucket is never locked out of its policy")
    return _denied_by_limit(question, grants) or _judged(question, grants, owns=owns)


def _owns(principal: Principal, grants: Grants) -> bool:
    return principal.tenant_id is not None and principal.tenant_id == grants.owner_id


def _denied_by_limit(question: Question, grants: Grants) -> Decision | None:
    for kind, policy in grants.limits:
        found = policy.judge(question)
        if found.effect == "Deny":
            return _denied(kind, found)
        if found.effect is None:
            return _not_allowed(kind, question)
    return None


def _judged(question: Question, grants: Grants, *, owns: bool) -> Decision:
    bucket = Finding() if grants.bucket_policy is None else grants.bucket_policy.judge(question)
    roles = () if grants.role is None else tuple(policy.judge(question) for policy in grants.role)
    for kind, found in (("bucket policy", bucket), *(("role policy", one) for one in roles)):
        if found.effect == "Deny":
            return _denied(kind, found)
    if grants.restricted and not owns:
        bucket = Finding()
    ownership, object_owner = BY_OWNER, None if grants.lists is None else grants.lists.foreign_owner(question)
    if object_owner is not None:  # its owner decides, and a bucket's policy gives only what is the bucket owner's
        bucket, ownership, owns = Finding(), BY_OBJECT_OWNER, question.principal.canonical_id == object_owner
    by_role = next((found for found in roles if found.effect == "Allow"), None)
    given = _given(question, grants, bucket)
    if not owns:  # both accounts must agree: the bucket's, and that of who asks
        return given if given.allowed is False or grants.role is None or by_role is not None else _not_allowed("role policy", question)
    if grants.role is None:
        return given if given.allowed else ownership
    if by_role is not None:
        return Decision(allowed=True, by=f"role policy, {by_role.by}")
    # A grant to the account as a whole only lets the account give it on.
    return given if given.allowed and bucket.direct else _not_allowed("role policy", question)


def _given(question: Question, grants: Grants, bucket: Finding) -> Decision:
    """Return whether the bucket's policy or its lists give this, or the account's having begun the upload that it is about."""
    if grants.initiated and question.action in _OF_INITIATOR:
        return BY_INITIATOR
    if bucket.effect == "Allow":
        return Decision(allowed=True, by=f"bucket policy, {bucket.by}")
    listed = None if grants.lists is None else grants.lists.judge(question, grants.owner_id or "")
    return _not_allowed("bucket policy", question) if listed is None else Decision(allowed=True, by=f"access control list, {listed}")


_KINDS = {"bucket policy": "resource-based", "key policy": "identity-based", "role policy": "identity-based", "session policy": "session"}


def _denied(kind: str, found: Finding) -> Decision:
    article = "an" if _KINDS[kind].startswith("i") else "a"
    return Decision(allowed=False, by=f"{kind}, {found.by}", because=f"with an explicit deny in {article} {_KINDS[kind]} policy")


def _not_allowed(kind: str, question: Question) -> Decision:
    because = f"because no {_KINDS[kind]} policy allows the {question.action} action"
    return Decision(allowed=False, by=f"no statement of the {kind} allows it", because=because)


def _told(question: Question, grants: Grants, decision: Decision) -> str | None:
    """Return AWS's words to a principal of the owner's account; strangers learn nothing.

    Source: S3 User Guide, "Troubleshoot access denied (403 Forbidden) errors", "Access denied message examples"
    """
    if not _owns(question.principal, grants):
        return None
    asker = question.principal.arn
    return f'User: {asker} is not authorized to perform: {question.action} on resource: "{question.resource.arn}" {decision.because}'
