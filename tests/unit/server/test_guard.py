"""The guard: what it was told of an object must hold of the object that is found."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.manifest.records import ObjectAttributes, ObjectKey, Version, VersionId
from proxy.s3.errors import S3Error
from proxy.s3.policy.acl import ALL_USERS, Acl, Grant, private_acl
from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import Grants, ObjectFacts, Resource
from proxy.s3.policy.lists import BucketLists
from proxy.s3.policy.principal import ANONYMOUS, Principal
from proxy.server.guard import NOTHING, Guard, facts_of

OWNER = "a" * 64
PRIVATE = Version(key=ObjectKey("k"), id=VersionId("null"), sequence=1, is_latest=True, modified_ms=0)
PUBLIC = replace(PRIVATE, attributes=ObjectAttributes(acl=Acl(owner=OWNER, grants=(Grant(ALL_USERS, "READ"),))))
READ, RESOURCE = Action("s3:GetObject"), Resource("bucket", "k")


def guard(stored: Version, principal: Principal = ANONYMOUS) -> Guard:
    async def load(_key: str, _version_id: str | None) -> ObjectFacts:
        return facts_of(stored)

    return Guard(principal, Grants("owner", lists=BucketLists(private_acl(OWNER))), NOTHING, load)


async def test_an_object_that_came_between_is_not_read_by_the_leave_of_the_one_before() -> None:
    reader = guard(PUBLIC)
    await reader.check(READ, RESOURCE)
    reader.confirm(PUBLIC, None)
    with pytest.raises(S3Error, match="AccessDenied"):
        reader.confirm(PRIVATE, None)


async def test_what_was_asked_of_another_version_is_none_of_this_one() -> None:
    reader = guard(PUBLIC)
    await reader.check(READ, RESOURCE)
    reader.confirm(PRIVATE, "another")
    reader.confirm(replace(PRIVATE, key=ObjectKey("other")), None)


async def test_a_question_that_is_only_asked_allows_nothing() -> None:
    reader = guard(PUBLIC)
    assert await reader.may(READ, RESOURCE)
    reader.confirm(PRIVATE, None)


async def test_what_rests_on_no_object_needs_no_confirmation() -> None:
    owner = guard(PRIVATE, Principal("owner", "AK", "111122223333", OWNER))
    await owner.check(Action("s3:PutObject"), RESOURCE)
    owner.confirm(PUBLIC, None)
