"""What ACLs give: AWS's mapping from permissions to actions, and whose an object of another account is."""

from __future__ import annotations

import pytest

from proxy.s3.policy.acl import ALL_USERS, AUTHENTICATED_USERS, Acl, Grant, acl_text, private_acl
from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import NO_OBJECT, Decision, Effect, Finding, Grants, ObjectFacts, ObjectNeeded, Question, Resource, decide
from proxy.s3.policy.lists import BucketLists, bucket_lists
from proxy.s3.policy.principal import ANONYMOUS, Principal
from proxy.s3.policy.public_access import OF_NEW_BUCKETS, block_text

OWNER = Principal("owner", "AK", "111122223333", "a" * 64)
WRITER = Principal("writer", "AK2", "444455556666", "b" * 64)
OTHER = Principal("other", "AK3", "777788889999", "c" * 64)
ASKERS = {"owner": OWNER, "writer": WRITER, "other": OTHER, "nobody": ANONYMOUS}
PRIVATE = private_acl(OWNER.canonical_id)
OF_WRITER = ObjectFacts(acl=private_acl(WRITER.canonical_id))
OF_OWNER = ObjectFacts()
READS = ("GetObject", "GetObjectVersion")
OF_OBJECT = (*READS, "GetObjectAcl", "GetObjectVersionAcl", "PutObjectAcl", "PutObjectVersionAcl")
FURTHER = ("GetObjectTagging", "GetBucketPolicy", "PutBucketVersioning", "DeleteBucket", "DeleteObjectVersion", "GetObjectAttributes")
OF_BUCKET = (
    "ListBucket", "ListBucketVersions", "ListBucketMultipartUploads", "PutObject", "DeleteObject", "GetBucketAcl", "PutBucketAcl",
)  # fmt: skip


class Says:
    """A bucket policy with one answer."""

    def __init__(self, effect: Effect) -> None:
        self._effect = effect

    def judge(self, _question: Question) -> Finding:
        return Finding(self._effect, "statement 1", direct=True)


def granting(owner: Principal, grantee: str, permission: str) -> Acl:
    return Acl(owner=owner.canonical_id, grants=(Grant(grantee, permission),))  # type: ignore[arg-type]  # of a table


def ask(asker: Principal, action: str, lists: BucketLists, thing: ObjectFacts | None = OF_OWNER, policy: Says | None = None) -> Decision:
    question = Question(asker, Action(f"s3:{action}"), Resource("bucket", "key"), thing=thing)
    return decide(question, Grants("owner", policy, lists=lists))


def allowed(asker: Principal, lists: BucketLists, thing: ObjectFacts = OF_OWNER) -> set[str]:
    return {action for action in (*OF_BUCKET, *OF_OBJECT, *FURTHER) if ask(asker, action, lists, thing).allowed}


@pytest.mark.parametrize(
    ("permission", "actions"),
    [
        ("READ", {"ListBucket", "ListBucketVersions", "ListBucketMultipartUploads"}),
        ("WRITE", {"PutObject", "DeleteObject"}),
        ("READ_ACP", {"GetBucketAcl"}),
        ("WRITE_ACP", {"PutBucketAcl"}),
        ("FULL_CONTROL", set(OF_BUCKET)),
    ],
)
def test_a_permission_on_a_bucket_gives_these_actions_and_no_others(permission: str, actions: set[str]) -> None:
    lists = BucketLists(granting(OWNER, OTHER.canonical_id, permission))
    assert allowed(OTHER, lists) == actions
    assert allowed(WRITER, lists) == allowed(ANONYMOUS, lists) == set()


@pytest.mark.parametrize(
    ("permission", "actions"),
    [
        ("READ", set(READS)),
        ("WRITE", set()),
        ("READ_ACP", {"GetObjectAcl", "GetObjectVersionAcl"}),
        ("WRITE_ACP", {"PutObjectAcl", "PutObjectVersionAcl"}),
        ("FULL_CONTROL", set(OF_OBJECT)),
    ],
)
def test_a_permission_on_an_object_gives_these_actions_and_no_others(permission: str, actions: set[str]) -> None:
    thing = ObjectFacts(acl=granting(OWNER, OTHER.canonical_id, permission))
    assert allowed(OTHER, BucketLists(PRIVATE), thing) == actions
    assert allowed(WRITER, BucketLists(PRIVATE), thing) == set()


@pytest.mark.parametrize(
    ("group", "askers"), [(ALL_USERS, {"owner", "writer", "other", "nobody"}), (AUTHENTICATED_USERS, {"owner", "writer", "other"})]
)
def test_groups_are_who_they_are_called(group: str, askers: set[str]) -> None:
    thing, lists = ObjectFacts(acl=granting(OWNER, group, "READ")), BucketLists(granting(OWNER, group, "READ"))
    assert {name for name, asker in ASKERS.items() if ask(asker, "GetObject", lists, thing).allowed} == askers
    assert {name for name, asker in ASKERS.items() if ask(asker, "ListBucket", lists, thing).allowed} == askers
    ignoring = lists._replace(ignore_public=True)
    for action in ("GetObject", "ListBucket"):
        assert {name for name, asker in ASKERS.items() if ask(asker, action, ignoring, thing).allowed} == {"owner"}


def test_what_another_account_wrote_is_that_account_s() -> None:
    lists = BucketLists(PRIVATE)
    of_writer = {*OF_OBJECT, "GetObjectAttributes"}
    assert allowed(WRITER, lists, OF_WRITER) == of_writer
    assert allowed(OWNER, lists, OF_WRITER) == {*OF_BUCKET, *FURTHER} - {"GetObjectAttributes"}
    revoked = ObjectFacts(acl=Acl(owner=WRITER.canonical_id))
    assert ask(WRITER, "PutObjectAcl", lists, revoked).by == "the account owns the object"


def test_the_bucket_owner_has_what_the_object_s_owner_grants() -> None:
    thing = ObjectFacts(acl=Acl(owner=WRITER.canonical_id, grants=(Grant(OWNER.canonical_id, "FULL_CONTROL"),)))
    assert allowed(OWNER, BucketLists(PRIVATE), thing) >= set(OF_OBJECT)
    assert allowed(WRITER, BucketLists(PRIVATE), thing) == {*OF_OBJECT, "GetObjectAttributes"}


def test_a_bucket_s_policy_gives_only_what_is_the_bucket_owner_s_and_denies_everything() -> None:
    lists = BucketLists(PRIVATE)
    assert ask(OTHER, "GetObject", lists, OF_OWNER, Says("Allow")).allowed
    assert not ask(OTHER, "GetObject", lists, OF_WRITER, Says("Allow")).allowed
    assert not ask(WRITER, "GetObject", lists, OF_WRITER, Says("Deny")).allowed


def test_who_may_list_the_bucket_may_learn_that_there_is_no_object() -> None:
    lists = BucketLists(granting(OWNER, OTHER.canonical_id, "READ"))
    assert ask(OTHER, "GetObject", lists, NO_OBJECT).allowed
    assert not ask(WRITER, "GetObject", lists, NO_OBJECT).allowed


def test_who_may_write_settles_the_acl_of_what_he_writes() -> None:
    lists = BucketLists(granting(OWNER, OTHER.canonical_id, "WRITE"), creates=True)
    assert ask(OTHER, "PutObjectAcl", lists, OF_WRITER).allowed
    assert not ask(OTHER, "PutObjectAcl", lists._replace(creates=False), OF_WRITER).allowed


def test_the_object_is_loaded_only_where_it_counts() -> None:
    lists = BucketLists(PRIVATE)
    for action in (*OF_BUCKET, "GetObjectTagging", "DeleteObjectVersion"):
        ask(OTHER, action, lists, None)
    for action in OF_OBJECT:
        with pytest.raises(ObjectNeeded):
            ask(OTHER, action, lists, None)


def test_a_bucket_that_owns_everything_has_no_lists() -> None:
    kept = {"acl": acl_text(granting(OWNER, ALL_USERS, "READ"))}
    for settings in ({}, kept, {**kept, "ownership": "BucketOwnerEnforced"}):
        assert bucket_lists(settings, OWNER.canonical_id, creates=False) is None
    blocked = bucket_lists({**kept, "ownership": "ObjectWriter"}, OWNER.canonical_id, creates=False)
    assert blocked == BucketLists(granting(OWNER, ALL_USERS, "READ"), ignore_public=True)
    settings = {"ownership": "removed", "public_access_block": "null"}
    assert bucket_lists(settings, OWNER.canonical_id, creates=True) == BucketLists(PRIVATE, creates=True)
    assert bucket_lists({**settings, "public_access_block": block_text(OF_NEW_BUCKETS)}, "x", creates=False) == BucketLists(
        private_acl("x"), ignore_public=True
    )
