"""Access: which bucket a request is about, which one a copy reads from, and whether the sender may do that.

All of it is settled here, once, before the body is read and the handler called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from proxy.manifest.protocol import Manifest
from proxy.manifest.records import BucketName, Caller
from proxy.s3.copy_source import parse_copy_source
from proxy.s3.errors import S3Error
from proxy.s3.model import Operation
from proxy.s3.policy.actions import required_actions, source_action
from proxy.s3.policy.decision import Facts, Principal, Resource, authorise
from proxy.s3.routing import Target
from proxy.server.auth import Sender
from proxy.server.call import Origin, OwnedBucket

_COPIES = frozenset({"CopyObject", "UploadPartCopy"})
_WITHOUT_BUCKET = frozenset({"ListBuckets", "CreateBucket"})  # the one has none, the other has none yet
_COPY_SOURCE = "x-amz-copy-source"


class Access(NamedTuple):
    """What a sender was let in to. `held` is None where there is no bucket yet, `origin` where nothing is copied."""

    held: OwnedBucket | None
    origin: Origin | None


class Gate:
    """Lets requests in to their buckets. A tenant may know which buckets exist; a stranger may not."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    async def admit(
        self, operation: Operation, target: Target, query: Sequence[tuple[str, str]], headers: Mapping[str, str], sender: Sender
    ) -> Access:
        """Return the buckets. AccessDenied, NoSuchBucket; InvalidArgument for a copy source that is none."""
        held = None if operation.name in _WITHOUT_BUCKET else _found(sender.caller, target.bucket, sender.principal)
        of_version = any(name == "versionId" for name, _ in query)
        facts = Facts(owner_id=sender.principal.tenant_id if held is None else held.owner.id)
        for action in required_actions(operation.name, headers, of_version=of_version):
            authorise(sender.principal, action, Resource(target.bucket, target.key), facts)
        if held is not None:
            _check_expected_owner(held, headers.get("x-amz-expected-bucket-owner"))
        return Access(held, await self._admit_origin(headers, sender.principal) if operation.name in _COPIES else None)

    async def _admit_origin(self, headers: Mapping[str, str], principal: Principal) -> Origin:
        if _COPY_SOURCE not in headers:  # only a presigned URL has in its query what stands for a header
            raise S3Error("InvalidRequest", "Where the signature is in a header, x-amz-copy-source is a header, too")
        source = parse_copy_source(headers[_COPY_SOURCE])
        held = _found(await self._manifest.find_caller(None, BucketName(source.bucket)), source.bucket, principal)
        action = source_action(of_version=source.version_id is not None)
        authorise(principal, action, Resource(source.bucket, source.key), Facts(owner_id=held.owner.id))
        _check_expected_owner(held, headers.get("x-amz-source-expected-bucket-owner"))
        return Origin(source=source, held=held)


def _found(caller: Caller, name: str | None, principal: Principal) -> OwnedBucket:
    if caller.bucket is not None and caller.owner is not None:
        return OwnedBucket(bucket=caller.bucket, owner=caller.owner)
    if principal.anonymous:
        raise S3Error("AccessDenied")
    raise S3Error("NoSuchBucket", BucketName=name or "")


def _check_expected_owner(held: OwnedBucket, expected: str | None) -> None:
    if expected is not None and expected not in {held.owner.id, held.owner.canonical_id}:
        raise S3Error("AccessDenied")
