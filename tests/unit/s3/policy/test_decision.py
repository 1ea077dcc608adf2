"""The decision over what each party says: AWS's order, whatever the documents look like."""

from __future__ import annotations

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import (
    NO_OBJECT,
    Effect,
    Finding,
    Grants,
    ObjectFacts,
    ObjectNeeded,
    Question,
    Resource,
    authorise,
    decide,
)
from proxy.s3.policy.principal import ANONYMOUS, Principal

ROOT = Principal("owner", "AK", "111122223333", "c1")
USER = ROOT._replace(user="backup")
SESSION = ROOT._replace(role="reader", session="s")
OTHER = Principal("other", "AK2", "444455556666", "c2")
EVERYBODY = (ROOT, USER, SESSION, OTHER, ANONYMOUS)


class Says:
    """A policy with one answer."""

    def __init__(self, effect: Effect | None, *, direct: bool = True) -> None:
        self._finding = Finding(effect, "statement 1", direct)

    def judge(self, question: Question) -> Finding:
        return self._finding


class NeedsObject:
    """A policy that allows what bears the tag `open`."""

    def judge(self, question: Question) -> Finding:
        return Finding("Allow", "statement 1") if "open" in question.object().tags else Finding()


class Listed:
    """Lists that allow one account's requests."""

    def __init__(self, tenant_id: str | None) -> None:
        self._tenant_id = tenant_id

    def judge(self, question: Question, owner_id: str) -> str | None:
        return "READ" if question.principal.tenant_id == self._tenant_id else None

    def foreign_owner(self, question: Question) -> None:
        """All objects are the bucket owner's."""


def ask(principal: Principal, action: str = "s3:GetObject") -> Question:
    return Question(principal, Action(action), Resource("bucket", "key"))


def allowed(principal: Principal, grants: Grants, action: str = "s3:GetObject") -> bool:
    return decide(ask(principal, action), grants).allowed


OWN = Grants("owner")


def test_without_any_grant_only_the_account_that_owns_the_bucket_may() -> None:
    assert [allowed(principal, OWN) for principal in EVERYBODY] == [True, True, True, False, False]


def test_the_policy_of_a_bucket_gives_to_strangers() -> None:
    grants = OWN._replace(bucket_policy=Says("Allow"))
    assert all(allowed(principal, grants) for principal in EVERYBODY)
    assert decide(ask(OTHER), grants).by == "bucket policy, statement 1"


def test_an_explicit_denial_wins_over_everything() -> None:
    grants = OWN._replace(bucket_policy=Says("Deny"), lists=Listed("other"), role=(Says("Allow"),))
    assert not any(allowed(principal, grants) for principal in EVERYBODY)
    denying_role = Grants("owner", bucket_policy=Says("Allow"), role=(Says("Allow"), Says("Deny")))
    assert not allowed(SESSION, denying_role)


def test_only_the_owner_s_root_is_never_locked_out_of_the_policy() -> None:
    grants = OWN._replace(bucket_policy=Says("Deny"))
    for action in ("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"):
        assert [allowed(principal, grants, action) for principal in EVERYBODY] == [True, False, False, False, False]
    assert not allowed(ROOT, grants, "s3:PutBucketAcl")


@pytest.mark.parametrize(("effect", "may"), [("Allow", True), ("Deny", False), (None, False)])
def test_a_limit_must_allow_and_gives_nothing_by_itself(effect: Effect | None, may: bool) -> None:
    limited = OWN._replace(limits=(("key policy", Says("Allow")), ("session policy", Says(effect))))
    assert allowed(USER, limited) is may
    assert not allowed(OTHER, limited)
    assert allowed(OTHER, limited._replace(bucket_policy=Says("Allow"))) is may


def test_the_limits_of_a_session_of_the_root_hold_for_the_policy_too() -> None:
    assert not allowed(ROOT, OWN._replace(limits=(("session policy", Says(None)),)), "s3:PutBucketPolicy")


def test_a_session_of_a_role_may_what_the_role_or_the_bucket_gives_it() -> None:
    assert allowed(SESSION, OWN._replace(role=(Says(None), Says("Allow"))))
    assert not allowed(SESSION, OWN._replace(role=(Says(None),)))
    assert not allowed(SESSION, OWN._replace(role=()))
    assert allowed(SESSION, OWN._replace(role=(), bucket_policy=Says("Allow", direct=True)))


def test_a_grant_to_the_whole_account_is_not_one_to_its_roles() -> None:
    assert not allowed(SESSION, OWN._replace(role=(), bucket_policy=Says("Allow", direct=False)))


def test_of_another_account_both_the_role_and_the_bucket_must_allow() -> None:
    session = OTHER._replace(role="reader", session="s")
    for role, bucket, may in ((None, "Allow", False), ("Allow", None, False), ("Allow", "Allow", True), ("Deny", "Allow", False)):
        grants = Grants("owner", bucket_policy=Says(bucket), role=(Says(role),))  # type: ignore[arg-type]  # of the table
        assert allowed(session, grants) is may, (role, bucket)


def test_lists_give_what_no_policy_denies() -> None:
    assert decide(ask(OTHER), OWN._replace(lists=Listed("other"))).by == "access control list, READ"
    assert not allowed(ANONYMOUS, OWN._replace(lists=Listed("other")))
    assert allowed(ROOT, OWN._replace(lists=Listed("other")))


def test_a_restricted_policy_counts_at_home_alone() -> None:
    grants = OWN._replace(bucket_policy=Says("Allow"), restricted=True)
    assert [allowed(principal, grants) for principal in EVERYBODY] == [True, True, True, False, False]
    assert not allowed(ROOT, grants._replace(bucket_policy=Says("Deny")))


def test_the_object_is_asked_for_only_where_it_counts() -> None:
    assert allowed(ROOT, OWN)
    grants = OWN._replace(bucket_policy=NeedsObject())
    with pytest.raises(ObjectNeeded):
        decide(ask(OTHER), grants)
    assert decide(ask(OTHER)._replace(thing=ObjectFacts(tags={"open": ""})), grants).allowed
    assert not decide(ask(OTHER)._replace(thing=NO_OBJECT), grants).allowed


def test_only_the_owner_s_account_is_told_why() -> None:
    grants = OWN._replace(bucket_policy=Says("Deny"))
    told = (
        "User: arn:aws:iam::111122223333:user/backup is not authorized to perform: s3:GetObject on resource: "
        '"arn:aws:s3:::bucket/key" with an explicit deny in a resource-based policy'
    )
    for principal, message in ((USER, told), (OTHER, "Access Denied"), (ANONYMOUS, "Access Denied")):
        with pytest.raises(S3Error) as caught:
            authorise(ask(principal), grants)
        assert caught.value.message == message


@pytest.mark.parametrize("action", ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"])
def test_who_began_an_upload_may_see_and_abort_it_unless_that_is_denied(action: str) -> None:
    begun = OWN._replace(initiated=True)
    assert not allowed(OTHER, OWN, action)
    assert allowed(OTHER, begun, action)
    assert not allowed(OTHER, begun._replace(bucket_policy=Says("Deny")), action)
    assert not allowed(OTHER, begun, "s3:PutObject")
