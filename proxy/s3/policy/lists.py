"""What ACLs give: to whom which actions, on a bucket that has ACLs and on its objects.

An ACL knows five permissions, the decision actions; the tables here are AWS's mapping from one to the other. What is in neither table no
ACL gives. An object's ACL counts for what is the object's own: its bytes, and the ACL itself. For that its owner, who may not be the
bucket's, stands where the bucket's owner stands for everything else: neither the bucket's owner nor the bucket's policy can give it.

Source: Amazon S3 User Guide, "Mapping of ACL permissions and access policy permissions", and "How Amazon S3 authorizes a request for an
object operation"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proxy.s3.policy.acl import Acl, Permission, bucket_acl, gives, private_acl
from proxy.s3.policy.decision import NO_OBJECT, Question
from proxy.s3.policy.ownership import OWNERSHIP, ownership_of
from proxy.s3.policy.public_access import PUBLIC_ACCESS_BLOCK, public_access_block

ACL = "acl"  # its name among a bucket's settings
_OF_BUCKET: Mapping[str, Permission] = {
    "s3:ListBucket": "READ",
    "s3:ListBucketVersions": "READ",
    "s3:ListBucketMultipartUploads": "READ",
    "s3:PutObject": "WRITE",
    "s3:DeleteObject": "WRITE",
    "s3:GetBucketAcl": "READ_ACP",
    "s3:PutBucketAcl": "WRITE_ACP",
}
_OF_OBJECT: Mapping[str, Permission] = {
    "s3:GetObject": "READ",
    "s3:GetObjectVersion": "READ",
    "s3:GetObjectAcl": "READ_ACP",
    "s3:GetObjectVersionAcl": "READ_ACP",
    "s3:PutObjectAcl": "WRITE_ACP",
    "s3:PutObjectVersionAcl": "WRITE_ACP",
}
# No ACL gives these to others, but they tell of the object's bytes, and so are its owner's.
_OBJECT_OWNERS = _OF_OBJECT.keys() | {"s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"}


class BucketLists(NamedTuple):
    """The ACLs of one bucket. `creates`: the request makes an object, and the ACL that it asks for is the new object's."""

    bucket: Acl
    ignore_public: bool = False
    creates: bool = False

    def judge(self, question: Question, owner_id: str) -> str | None:
        """Return the grant that allows this, in words; None if none does. Raises `ObjectNeeded`."""
        del owner_id  # the lists know it by its canonical id
        action: str = "s3:PutObject" if self._is_of_new_object(question) else question.action
        if action in _OF_BUCKET:
            return self._found(self.bucket, question, _OF_BUCKET[action], "the bucket")
        if action not in _OF_OBJECT:
            return None
        thing = question.object()
        if thing is NO_OBJECT:  # who may list the bucket may know that
            return self._found(self.bucket, question, "READ", "the bucket")
        return None if thing.acl is None else self._found(thing.acl, question, _OF_OBJECT[action], "the object")

    def foreign_owner(self, question: Question) -> str | None:
        """Return the account, by canonical id, whose object this is about; None if it is the bucket owner's. Raises `ObjectNeeded`."""
        if question.action not in _OBJECT_OWNERS or self._is_of_new_object(question):
            return None
        acl = question.object().acl
        return None if acl is None or acl.owner == self.bucket.owner else acl.owner

    def _is_of_new_object(self, question: Question) -> bool:
        return self.creates and question.action == "s3:PutObjectAcl"

    def _found(self, acl: Acl, question: Question, permission: Permission, where: str) -> str | None:
        asker = question.principal.canonical_id or None
        return f"{permission} on {where}" if gives(acl, asker, permission, ignore_public=self.ignore_public) else None


def object_acl(kept: Acl | None, settings: Mapping[str, str], owner: str) -> Acl:
    """Return an object's list as it holds in a bucket with these settings; `owner` is the bucket's."""
    if kept is None or ownership_of(settings.get(OWNERSHIP)) == "BucketOwnerEnforced":
        return private_acl(owner)
    return kept


def bucket_lists(settings: Mapping[str, str], owner: str, *, creates: bool) -> BucketLists | None:
    """Return the ACLs of a bucket with these settings; None if it has none that count. `owner` is its owner's canonical id."""
    ownership = settings.get(OWNERSHIP)
    if ownership is None or ownership_of(ownership) == "BucketOwnerEnforced":
        return None
    block = public_access_block(settings.get(PUBLIC_ACCESS_BLOCK))
    return BucketLists(bucket_acl(settings.get(ACL), owner), block.ignore_public_acls, creates)
