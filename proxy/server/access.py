"""Access: which bucket a request is about, which one a copy reads from, and whether the sender may do that.

All of it is settled here, once, before the body is read and the handler called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from proxy.clock import Clock
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketName, Caller, ObjectKey, Readable, Upload, UploadId, VersionId
from proxy.s3.acceleration import check_accelerated
from proxy.s3.copy_source import parse_copy_source
from proxy.s3.errors import S3Error
from proxy.s3.model import Operation
from proxy.s3.policy.actions import required_actions, source_action
from proxy.s3.policy.context import Peer, RequestContext
from proxy.s3.policy.decision import Grants, ObjectFacts, Resource
from proxy.s3.policy.grants import GOVERNING, UNRESTRICTED, Holder, bucket_grants, own_grants
from proxy.s3.policy.judges import Judges
from proxy.s3.policy.principal import Principal, is_account_id
from proxy.s3.routing import Target
from proxy.server.call import Origin, OwnedBucket
from proxy.server.guard import NOTHING, Guard, LoadObject, facts_of, no_object
from proxy.server.identity.auth import Sender
from proxy.server.wire.peers import Connection, Peers

_COPIES = frozenset({"CopyObject", "UploadPartCopy"})
_CREATING = frozenset({"PutObject", "PostObject", "CopyObject", "CreateMultipartUpload"})
_OF_INITIATOR = frozenset({"AbortMultipartUpload", "ListParts"})
_WITHOUT_BUCKET = frozenset({"ListBuckets", "CreateBucket"})  # the one has none, the other has none yet
_COPY_SOURCE = "x-amz-copy-source"
MAX_OWNERS = 10_000  # guards that are kept; some 300 bytes each


class Access(NamedTuple):
    """What a sender was let in to. `held` is None where there is no bucket yet, `origin` where nothing is copied.

    `guard` decides on what the request names in its body: `check_body` must be called once that is read.
    """

    held: OwnedBucket | None
    origin: Origin | None
    guard: Guard

    @property
    def decided(self) -> OwnedBucket | None:
        """The bucket, if there is one, and nothing is left to be decided by what the body says."""
        return None if self.guard.waits_for_body else self.held


class _Asked(NamedTuple):
    """What is asked for, and over which connection."""

    operation: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    connection: Connection | None


class Gate:
    """Lets requests in to their buckets."""

    def __init__(self, manifest: Manifest, clock: Clock, peers: Peers, *, accelerates: Callable[[str], bool] = lambda _host: False) -> None:
        """`accelerates` tells whether a host is the accelerated name of a bucket."""
        self._manifest = manifest
        self._clock = clock
        self._peers = peers
        self._accelerates = accelerates
        self._judges = Judges()
        self._owners: dict[Principal, Guard] = {}

    async def admit(
        self,
        operation: Operation,
        target: Target,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        sender: Sender,
        connection: Connection | None = None,
    ) -> Access:
        """Return the buckets. AccessDenied, NoSuchBucket; InvalidArgument for a copy source that is none."""
        held = None if operation.name in _WITHOUT_BUCKET else _found(sender.caller, target.bucket)
        version_id = next((value for name, value in query if name == "versionId"), None) if query else None
        guard = self._owners_guard(sender, held)
        if guard is None or operation.name in _COPIES:
            asked = _Asked(operation.name, query, headers, connection)
            initiated = operation.name in _OF_INITIATOR and held is not None and await self._began(sender, held.bucket, target, query)
            guard = self._guard(sender, held, asked, target.key or "", initiated=initiated)
        if not guard.allows_all:
            await _check(guard, operation, target, headers, version_id)
        if held is not None and (expected := headers.get("x-amz-expected-bucket-owner")) is not None:
            _check_expected_owner(held, expected)
        if self._accelerates(headers.get("host", "")):
            check_accelerated(operation.name, {} if held is None else held.bucket.settings)
        origin = await self._admit_origin(asked, sender) if operation.name in _COPIES else None
        return Access(held, origin, guard)

    async def _admit_origin(self, asked: _Asked, sender: Sender) -> Origin:
        if _COPY_SOURCE not in asked.headers:  # only a presigned URL has in its query what stands for a header
            raise S3Error("InvalidRequest", "Where the signature is in a header, x-amz-copy-source is a header, too")
        source = parse_copy_source(asked.headers[_COPY_SOURCE])
        held = _found(await self._manifest.find_caller(None, BucketName(source.bucket)), source.bucket)
        action = source_action(of_version=source.version_id is not None)
        guard = self._guard(sender, held, asked, source.key)
        await guard.check(action, Resource(source.bucket, source.key), source.version_id)
        if (expected := asked.headers.get("x-amz-source-expected-bucket-owner")) is not None:
            _check_expected_owner(held, expected)
        return Origin(source=source, held=held, guard=guard)

    def _owners_guard(self, sender: Sender, held: OwnedBucket | None) -> Guard | None:
        """Return the guard of a bucket's own account, where nothing but ownership counts. It is kept: most requests are of that kind."""
        principal = sender.principal
        if held is None or principal.tenant_id != held.owner.id or sender.restrictions is not UNRESTRICTED:
            return None
        settings = held.bucket.settings
        if settings and not settings.keys().isdisjoint(GOVERNING):
            return None
        guard = self._owners.get(principal)
        if guard is None:
            if len(self._owners) >= MAX_OWNERS:
                self._owners.clear()
            guard = self._owners[principal] = Guard(principal, Grants(held.owner.id), NOTHING, no_object, held.owner.account_id)
        return guard

    def _guard(self, sender: Sender, held: OwnedBucket | None, asked: _Asked, key: str, *, initiated: bool = False) -> Guard:
        principal, context = sender.principal, self._context(asked, sender)
        if held is None:  # of what is a tenant's own, or will be
            grants = own_grants(self._judges, principal.tenant_id, sender.restrictions)
            return Guard(principal, grants, context, no_object, principal.account_id)
        holder = Holder(held.bucket.name, held.bucket.settings, held.owner.id, held.owner.canonical_id)
        grants = bucket_grants(self._judges, holder, sender.restrictions, creates=asked.operation in _CREATING, initiated=initiated)
        load, load_upload = self._loader(held.bucket, sender.caller.found), partial(self._begun_with, held.bucket, key, asked.query)
        return Guard(principal, grants, context, load, held.owner.account_id, load_upload=load_upload)

    def _context(self, asked: _Asked, sender: Sender) -> RequestContext:
        peer = Peer if asked.connection is None else partial(self._peers.peer, asked.connection, asked.headers)
        return RequestContext(
            asked.operation, asked.query, asked.headers, claim=sender.claim, now_ms=self._clock.now_ms(), peer=peer, session=sender.session
        )

    async def _began(self, sender: Sender, bucket: Bucket, target: Target, query: Sequence[tuple[str, str]]) -> bool:
        """Tell whether the sender's account began the upload in somebody else's bucket that the request is about."""
        if sender.principal.tenant_id in {None, bucket.tenant_id}:
            return False
        upload = await self._find_upload(bucket, target.key or "", query)
        return upload is not None and upload.tenant_id == sender.principal.tenant_id

    async def _begun_with(self, bucket: Bucket, key: str, query: Sequence[tuple[str, str]]) -> Mapping[str, str] | None:
        upload = await self._find_upload(bucket, key, query)
        return None if upload is None else upload.begun_with

    async def _find_upload(self, bucket: Bucket, key: str, query: Sequence[tuple[str, str]]) -> Upload | None:
        """Return the upload of a request; of an id that is given twice the last counts, as for the handler."""
        return await self._manifest.find_upload(bucket.id, ObjectKey(key), UploadId(dict(query).get("uploadId", "")))

    def _loader(self, bucket: Bucket, found: Readable | None) -> LoadObject:
        async def load(key: str, version_id: str | None) -> ObjectFacts:
            if found is not None and version_id is None and key == found.version.key:  # what is judged is what is read
                return facts_of(found.version)
            wanted = None if version_id is None else VersionId(version_id)
            return facts_of(await self._manifest.find_version(bucket.id, ObjectKey(key), wanted))

        return load


async def _check(guard: Guard, operation: Operation, target: Target, headers: Mapping[str, str], version_id: str | None) -> None:
    resource = Resource(target.bucket, target.key)
    for action in required_actions(operation.name, headers, of_version=version_id is not None):
        await guard.check_head(action, resource, version_id)


def _found(caller: Caller, name: str | None) -> OwnedBucket:
    if caller.bucket is not None and caller.owner is not None:
        return OwnedBucket(bucket=caller.bucket, owner=caller.owner)
    raise S3Error("NoSuchBucket", BucketName=name or "")


def _check_expected_owner(held: OwnedBucket, expected: str) -> None:
    if not is_account_id(expected):
        raise S3Error("InvalidBucketOwnerAWSAccountID")
    if expected != held.owner.account_id:
        raise S3Error("AccessDenied")
