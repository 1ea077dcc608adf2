"""Access: which bucket a request is about, which one a copy reads from, and whether the sender may do that.

All of it is settled here, once, before the body is read and the handler called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from proxy.clock import Clock
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketName, Caller, ObjectKey, VersionId
from proxy.s3.copy_source import parse_copy_source
from proxy.s3.errors import S3Error
from proxy.s3.model import Operation
from proxy.s3.policy.actions import required_actions, source_action
from proxy.s3.policy.context import Peer, RequestContext
from proxy.s3.policy.decision import NO_OBJECT, Grants, ObjectFacts, Policy, Resource
from proxy.s3.policy.evaluate import Judge
from proxy.s3.policy.judges import Judges
from proxy.s3.policy.lists import bucket_lists
from proxy.s3.policy.principal import is_account_id
from proxy.s3.policy.public_access import PUBLIC_ACCESS_BLOCK, public_access_block
from proxy.s3.routing import Target
from proxy.server.auth import Sender
from proxy.server.call import Origin, OwnedBucket
from proxy.server.guard import BodyContext, Guard, LoadObject, no_object

_COPIES = frozenset({"CopyObject", "UploadPartCopy"})
_CREATING = frozenset({"PutObject", "PostObject", "CopyObject", "CreateMultipartUpload"})
_WITHOUT_BUCKET = frozenset({"ListBuckets", "CreateBucket"})  # the one has none, the other has none yet
_COPY_SOURCE = "x-amz-copy-source"
POLICY = "policy"  # among a bucket's settings


class Access(NamedTuple):
    """What a sender was let in to. `held` is None where there is no bucket yet, `origin` where nothing is copied.

    `guard` decides on what the request names in its body: `check_body` must be called once that is read.
    """

    held: OwnedBucket | None
    origin: Origin | None
    guard: Guard


class Gate:
    """Lets requests in to their buckets."""

    def __init__(self, manifest: Manifest, clock: Clock) -> None:
        self._manifest = manifest
        self._clock = clock
        self._judges = Judges()

    async def admit(
        self,
        operation: Operation,
        target: Target,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        sender: Sender,
        peer: Callable[[], Peer] = Peer,
    ) -> Access:
        """Return the buckets. AccessDenied, NoSuchBucket; InvalidArgument for a copy source that is none."""
        held = None if operation.name in _WITHOUT_BUCKET else _found(sender.caller, target.bucket)
        version_id = next((value for name, value in query if name == "versionId"), None) if query else None
        context = RequestContext(operation.name, query, headers, claim=sender.claim, now_ms=self._clock.now_ms(), peer=peer)
        guard = self._guard(sender, held, context, creates=operation.name in _CREATING)
        resource = Resource(target.bucket, target.key)
        for action in required_actions(operation.name, headers, of_version=version_id is not None):
            await guard.check_head(action, resource, version_id)
        if held is not None:
            _check_expected_owner(held, headers.get("x-amz-expected-bucket-owner"))
        origin = await self._admit_origin(headers, sender, context) if operation.name in _COPIES else None
        return Access(held, origin, guard)

    async def _admit_origin(self, headers: Mapping[str, str], sender: Sender, context: BodyContext) -> Origin:
        if _COPY_SOURCE not in headers:  # only a presigned URL has in its query what stands for a header
            raise S3Error("InvalidRequest", "Where the signature is in a header, x-amz-copy-source is a header, too")
        source = parse_copy_source(headers[_COPY_SOURCE])
        held = _found(await self._manifest.find_caller(None, BucketName(source.bucket)), source.bucket)
        action = source_action(of_version=source.version_id is not None)
        guard = self._guard(sender, held, context)
        await guard.check(action, Resource(source.bucket, source.key), source.version_id)
        _check_expected_owner(held, headers.get("x-amz-source-expected-bucket-owner"))
        return Origin(source=source, held=held, guard=guard)

    def _guard(self, sender: Sender, held: OwnedBucket | None, context: BodyContext, *, creates: bool = False) -> Guard:
        principal, limits = sender.principal, self._limits(sender)
        if held is None:  # of what is a tenant's own, or will be
            return Guard(principal, Grants(principal.tenant_id, limits=limits), context, no_object, principal.account_id)
        text = held.bucket.settings.get(POLICY) if held.bucket.settings else None
        policy = None if text is None else self._judges.of_bucket(text, held.bucket.name)
        lists = bucket_lists(held.bucket.settings, held.owner.canonical_id, creates=creates)
        grants = Grants(held.owner.id, policy, limits, lists=lists, restricted=policy is not None and _is_restricted(policy, held.bucket))
        return Guard(principal, grants, context, self._loader(held.bucket), held.owner.account_id)

    def _limits(self, sender: Sender) -> tuple[tuple[str, Policy], ...]:
        key = sender.caller.access_key
        return () if key is None or not key.policy else (("key policy", self._judges.of_identity(key.policy)),)

    def _loader(self, bucket: Bucket) -> LoadObject:
        async def load(key: str, version_id: str | None) -> ObjectFacts:
            version = await self._manifest.find_version(bucket.id, ObjectKey(key), None if version_id is None else VersionId(version_id))
            if version is None or version.is_delete_marker:
                return NO_OBJECT
            return ObjectFacts(tags=version.attributes.tags, acl=version.attributes.acl)

        return load


def _is_restricted(policy: Judge, bucket: Bucket) -> bool:
    return policy.public and public_access_block(bucket.settings.get(PUBLIC_ACCESS_BLOCK)).restrict_public_buckets


def _found(caller: Caller, name: str | None) -> OwnedBucket:
    if caller.bucket is not None and caller.owner is not None:
        return OwnedBucket(bucket=caller.bucket, owner=caller.owner)
    raise S3Error("NoSuchBucket", BucketName=name or "")


def _check_expected_owner(held: OwnedBucket, expected: str | None) -> None:
    if expected is None:
        return
    if not is_account_id(expected):
        raise S3Error("InvalidBucketOwnerAWSAccountID")
    if expected != held.owner.account_id:
        raise S3Error("AccessDenied")
