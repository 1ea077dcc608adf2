"""Access control lists: what requests ask for, and what a list gives."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.policy.acl import (
    ALL_USERS,
    AUTHENTICATED_USERS,
    EXEC_READ_ID,
    LOG_DELIVERY,
    Acl,
    Grant,
    acl_text,
    bucket_acl,
    canned_acl,
    gives,
    owner_alone,
    private_acl,
)
from proxy.s3.policy.acl_requests import NO_ACCOUNTS, Accounts, AclRequest, read_document, read_headers, resolve
from proxy.s3.policy.ownership import ownership_header, ownership_of
from proxy.s3.policy.public_access import OF_NEW_BUCKETS, OPEN, PublicAccessBlock, block_text, public_access_block

ALICE, BOB, CAROL = "a" * 64, "b" * 64, "c" * 64
FULL = Grant(ALICE, "FULL_CONTROL")


def asked(headers: Mapping[str, str], accounts: Accounts = NO_ACCOUNTS) -> Acl:
    request = read_headers(headers)
    assert request is not None
    return resolve(request, accounts, owner=ALICE)


def refusal(headers: Mapping[str, str]) -> tuple[str, dict[str, str | int]]:
    with pytest.raises(S3Error) as caught:
        asked(headers)
    return caught.value.code, caught.value.details


@pytest.mark.parametrize(
    ("name", "of_object", "of_bucket"),
    [
        ("private", [FULL], [FULL]),
        ("public-read", [FULL, Grant(ALL_USERS, "READ")], [FULL, Grant(ALL_USERS, "READ")]),
        (
            "public-read-write",
            [FULL, Grant(ALL_USERS, "READ"), Grant(ALL_USERS, "WRITE")],
            [FULL, Grant(ALL_USERS, "READ"), Grant(ALL_USERS, "WRITE")],
        ),
        ("authenticated-read", [FULL, Grant(AUTHENTICATED_USERS, "READ")], [FULL, Grant(AUTHENTICATED_USERS, "READ")]),
        ("aws-exec-read", [FULL, Grant(EXEC_READ_ID, "READ")], [FULL, Grant(EXEC_READ_ID, "READ")]),
        ("bucket-owner-read", [FULL, Grant(BOB, "READ")], [FULL]),
        ("bucket-owner-full-control", [FULL, Grant(BOB, "FULL_CONTROL")], [FULL]),
    ],
)
def test_canned_acls_are_those_of_the_table(name: str, of_object: list[Grant], of_bucket: list[Grant]) -> None:
    assert canned_acl(name, owner=ALICE, bucket_owner=BOB) == Acl(owner=ALICE, grants=tuple(of_object))
    assert canned_acl(name, owner=ALICE) == Acl(owner=ALICE, grants=tuple(of_bucket))


def test_logs_are_delivered_to_buckets() -> None:
    grants = (FULL, Grant(LOG_DELIVERY, "WRITE"), Grant(LOG_DELIVERY, "READ_ACP"))
    assert canned_acl("log-delivery-write", owner=ALICE).grants == grants
    with pytest.raises(S3Error, match="InvalidArgument"):
        canned_acl("log-delivery-write", owner=ALICE, bucket_owner=BOB)


def test_the_owner_of_object_and_bucket_is_granted_everything_once() -> None:
    assert canned_acl("bucket-owner-full-control", owner=ALICE, bucket_owner=ALICE) == private_acl(ALICE)


@pytest.mark.parametrize("name", ["Private", "public", "x" * 1000])
def test_an_unknown_canned_acl_is_refused(name: str) -> None:
    assert refusal({"x-amz-acl": name}) == ("InvalidArgument", {"ArgumentName": "x-amz-acl", "ArgumentValue": name})


def test_headers_name_grantees_in_three_ways() -> None:
    request = read_headers(
        {
            "x-amz-grant-read": f'id="{BOB}", emailAddress="carol,the@third.example"',
            "x-amz-grant-write-acp": f"uri={ALL_USERS}",
            "x-amz-grant-full-control": f"id={ALICE.upper()}",
        }
    )
    assert request is not None
    assert (request.ids, request.emails) == ({ALICE, BOB}, {"carol,the@third.example"})
    accounts = Accounts(frozenset({ALICE, BOB}), {"carol,the@third.example": (CAROL,)})
    assert resolve(request, accounts, owner=ALICE).grants == (
        FULL,
        Grant(BOB, "READ"),
        Grant(CAROL, "READ"),
        Grant(ALL_USERS, "WRITE_ACP"),
    )


@pytest.mark.parametrize("value", ["", "id", "id=", 'id=""', "name=bob", f"id={BOB},", f"{BOB}"])
def test_a_grant_that_is_none_is_refused(value: str) -> None:
    code, details = refusal({"x-amz-grant-read": value})
    assert (code, details["ArgumentName"]) == ("InvalidArgument", "x-amz-grant-read")


def test_who_is_granted_something_must_be_there() -> None:
    assert refusal({"x-amz-grant-read": f"id={BOB}"}) == ("InvalidArgument", {"ArgumentName": "id", "ArgumentValue": BOB})
    assert refusal({"x-amz-grant-read": "uri=http://x"}) == ("InvalidArgument", {"ArgumentName": "uri", "ArgumentValue": "http://x"})
    assert refusal({"x-amz-grant-read": 'emailAddress="a@b"'}) == ("UnresolvableGrantByEmailAddress", {})
    with pytest.raises(S3Error, match="AmbiguousGrantByEmailAddress"):
        asked({"x-amz-grant-read": "emailAddress=a@b"}, Accounts(by_email={"a@b": (ALICE, BOB)}))


def test_nothing_asked_for_is_no_request() -> None:
    assert read_headers({"host": "h", "x-amz-acl": ""}) is None


def test_both_ways_at_once_are_refused() -> None:
    assert refusal({"x-amz-acl": "private", "x-amz-grant-read": f"id={BOB}"})[0] == "InvalidRequest"


def test_a_hundred_grants_are_the_most() -> None:
    assert len((read_headers({"x-amz-grant-read": ",".join(f"id={n:064}" for n in range(100))}) or AclRequest()).grants) == 100
    assert refusal({"x-amz-grant-read": ",".join(f"id={n:064}" for n in range(101))})[0] == "MalformedACLError"
    with pytest.raises(S3Error, match="MalformedACLError"):
        read_document(document([grant("CanonicalUser", ID=BOB)] * 101))


def grant(kind: str, permission: str = "READ", **grantee: str) -> dict[str, object]:
    return {"Grantee": {"Type": kind, **grantee}, "Permission": permission}


def document(grants: list[dict[str, object]]) -> dict[str, object]:
    return {"Owner": {"ID": ALICE, "DisplayName": "whatever"}, "Grants": grants}


def test_a_document_names_grantees_in_three_ways() -> None:
    request = read_document(
        document(
            [
                grant("CanonicalUser", "WRITE", ID=BOB),
                grant("Group", "READ_ACP", URI=LOG_DELIVERY),
                grant("AmazonCustomerByEmail", "FULL_CONTROL", EmailAddress="c@d"),
            ]
        )
    )
    acl = resolve(request, Accounts(frozenset({BOB}), {"c@d": (CAROL,)}), owner=ALICE)
    assert acl.grants == (Grant(BOB, "WRITE"), Grant(LOG_DELIVERY, "READ_ACP"), Grant(CAROL, "FULL_CONTROL"))
    assert request.owner == ALICE


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"Owner": {"ID": ALICE}},
        {"Grants": []},
        {"Owner": {}, "Grants": []},
        document([{"Permission": "READ"}]),
        document([grant("CanonicalUser", "EVERYTHING", ID=BOB)]),
        document([grant("CanonicalUser")]),
        document([grant("Somebody", ID=BOB)]),
        document([grant("Group", ID=BOB)]),
        document([{"Grantee": {"ID": BOB}, "Permission": "READ"}]),
    ],
)
def test_a_document_that_is_none_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(S3Error, match="MalformedACLError"):
        read_document(broken)


def test_a_document_may_grant_nobody_anything() -> None:
    assert resolve(read_document(document([])), NO_ACCOUNTS, owner=ALICE) == Acl(owner=ALICE)


def test_a_documents_error_names_the_element() -> None:
    with pytest.raises(S3Error) as caught:
        read_document(document([grant("Group", URI="http://x")]))
    assert caught.value.details == {"ArgumentName": "Group/URI", "ArgumentValue": "http://x"}
    with pytest.raises(S3Error) as caught:
        resolve(read_document(document([grant("CanonicalUser", ID=BOB)])), NO_ACCOUNTS, owner=ALICE)
    assert caught.value.details == {"ArgumentName": "CanonicalUser/ID", "ArgumentValue": BOB}


@pytest.mark.parametrize(
    ("grantee", "anonymous", "account"),
    [(ALL_USERS, True, True), (AUTHENTICATED_USERS, False, True), (BOB, False, True), (CAROL, False, False)],
)
def test_a_grant_is_for_its_grantee(grantee: str, anonymous: bool, account: bool) -> None:
    acl = Acl(owner=ALICE, grants=(Grant(grantee, "READ"),))
    assert gives(acl, None, "READ", ignore_public=False) is anonymous
    assert gives(acl, BOB, "READ", ignore_public=False) is account
    assert not gives(acl, BOB, "WRITE", ignore_public=False)


def test_full_control_is_each_permission() -> None:
    assert gives(private_acl(ALICE), ALICE, "WRITE_ACP", ignore_public=True)


def test_grants_to_the_public_can_be_ignored_and_no_others() -> None:
    acl = Acl(owner=ALICE, grants=(Grant(ALL_USERS, "READ"), Grant(AUTHENTICATED_USERS, "READ"), Grant(CAROL, "READ")))
    assert acl.public
    assert not gives(acl, None, "READ", ignore_public=True)
    assert not gives(acl, BOB, "READ", ignore_public=True)
    assert gives(acl, CAROL, "READ", ignore_public=True)


def test_log_delivery_is_not_the_public() -> None:
    acl = canned_acl("log-delivery-write", owner=ALICE)
    assert not acl.public
    assert not gives(acl, BOB, "WRITE", ignore_public=False)


def test_a_bucket_keeps_its_list() -> None:
    acl = canned_acl("public-read", owner=ALICE)
    assert bucket_acl(acl_text(acl), ALICE) == acl
    assert bucket_acl(None, ALICE) == private_acl(ALICE)
    assert owner_alone(private_acl(ALICE))
    assert not owner_alone(acl)
    assert not owner_alone(Acl(owner=ALICE))


def test_new_buckets_have_no_acls_and_block_the_public() -> None:
    assert ownership_of(None) == "BucketOwnerEnforced"
    assert ownership_of("removed") == "ObjectWriter"
    assert ownership_of("BucketOwnerPreferred") == "BucketOwnerPreferred"
    assert public_access_block(None) == OF_NEW_BUCKETS
    assert public_access_block("null") == OPEN
    half = PublicAccessBlock(block_public_acls=True)
    assert public_access_block(block_text(half)) == half


def test_an_unknown_ownership_is_refused() -> None:
    assert ownership_header("ObjectWriter") == "ObjectWriter"
    with pytest.raises(S3Error, match="InvalidArgument"):
        ownership_header("objectwriter")
