"""ACLs, ownership and the public access block: what is put is told, and what is refused changes nothing."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.blackbox.conftest import OTHER_EMAIL, NewBucket
from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ALL_USERS = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
ALL_BLOCKED = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
OWNERSHIPS = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")


def granted(answer: Any) -> set[tuple[str, str]]:
    """Return who has what of a told ACL."""
    return {(one["Grantee"].get("ID") or one["Grantee"]["URI"].rpartition("/")[2], one["Permission"]) for one in answer["Grants"]}


def set_ownership(s3: S3Client, bucket: str, ownership: str) -> None:
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": ownership}]})  # type: ignore[typeddict-item]


def test_a_new_bucket_has_no_acls_and_blocks_the_public(s3: S3Client, bucket: str) -> None:
    controls = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == ALL_BLOCKED


@pytest.mark.parametrize("ownership", OWNERSHIPS)
def test_ownership_is_kept_and_can_be_removed(s3: S3Client, ownership: str) -> None:
    name = f"acl-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, ObjectOwnership=ownership)  # type: ignore[arg-type]
    assert s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": ownership}]
    for wanted in OWNERSHIPS:
        set_ownership(s3, name, wanted)
        assert s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": wanted}]
    s3.delete_bucket_ownership_controls(Bucket=name)
    with s3_error("OwnershipControlsNotFoundError", 404):
        s3.get_bucket_ownership_controls(Bucket=name)
    s3.put_bucket_acl(Bucket=name, GrantRead='uri="http://acs.amazonaws.com/groups/s3/LogDelivery"')


def test_an_ownership_that_is_none_is_refused(raw: RawClient, s3: S3Client, bucket: str) -> None:
    for rules in (
        "",
        "<Rule><ObjectOwnership>Mine</ObjectOwnership></Rule>",
        2 * "<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>",
    ):
        body = f"<OwnershipControls>{rules}</OwnershipControls>".encode()
        assert raw.request("PUT", f"/{bucket}", [("ownershipControls", "")], body=body).verdict == (400, "MalformedXML")
    answer = raw.request("PUT", f"/acl-{uuid.uuid4()}", headers={"x-amz-object-ownership": "Mine"})
    assert (answer.verdict, answer.error["ArgumentName"]) == ((400, "InvalidArgument"), "x-amz-object-ownership")
    assert s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"][0]["ObjectOwnership"] == "BucketOwnerEnforced"


def test_each_setting_of_the_block_is_kept(s3: S3Client, bucket: str) -> None:
    for name in ALL_BLOCKED:
        one = {other: other == name for other in ALL_BLOCKED}
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={name: True})  # type: ignore[misc]
        assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == one
    s3.delete_public_access_block(Bucket=bucket)
    with s3_error("NoSuchPublicAccessBlockConfiguration", 404):
        s3.get_public_access_block(Bucket=bucket)


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read"])
def test_where_the_bucket_owner_owns_everything_acls_are_refused(s3: S3Client, bucket: str, acl: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    with s3_error("AccessControlListNotSupported", 400):
        s3.put_object(Bucket=bucket, Key="new", ACL=acl)
    with s3_error("AccessControlListNotSupported", 400):
        s3.copy_object(Bucket=bucket, Key="new", CopySource=f"{bucket}/k", ACL=acl)
    with s3_error("AccessControlListNotSupported", 400):
        s3.create_multipart_upload(Bucket=bucket, Key="new", ACL=acl)
    with s3_error("AccessControlListNotSupported", 400):
        s3.put_bucket_acl(Bucket=bucket, ACL=acl)
    with s3_error("AccessControlListNotSupported", 400):
        s3.put_object_acl(Bucket=bucket, Key="k", ACL=acl)
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def test_where_the_bucket_owner_owns_everything_the_acl_that_says_so_is_taken(s3: S3Client, bucket: str, me: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")
    s3.put_object(Bucket=bucket, Key="k", ACL="private")
    s3.put_object(Bucket=bucket, Key="k", GrantFullControl=f'id="{me}"')
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")
    told = s3.get_object_acl(Bucket=bucket, Key="k")
    assert granted(told) == {(me, "FULL_CONTROL")}
    policy: Any = {"Owner": told["Owner"], "Grants": told["Grants"]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    s3.put_object_acl(Bucket=bucket, Key="k", AccessControlPolicy=policy)
    for grants in ([*policy["Grants"], {"Grantee": ALL_USERS, "Permission": "READ"}], []):
        with s3_error("AccessControlListNotSupported", 400):
            s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": told["Owner"], "Grants": grants})
    with s3_error("NoSuchKey", 404):
        s3.put_object_acl(Bucket=bucket, Key="other", ACL="bucket-owner-full-control")


@pytest.mark.parametrize(
    ("acl", "more"),
    [
        ("private", set()),
        ("public-read", {("AllUsers", "READ")}),
        ("public-read-write", {("AllUsers", "READ"), ("AllUsers", "WRITE")}),
        ("authenticated-read", {("AuthenticatedUsers", "READ")}),
    ],
)
def test_canned_acls_are_told_as_grants(s3: S3Client, with_acls: NewBucket, me: str, acl: Any, more: set[tuple[str, str]]) -> None:
    bucket = with_acls()
    expected = {(me, "FULL_CONTROL"), *more}
    s3.put_bucket_acl(Bucket=bucket, ACL=acl)
    s3.put_object(Bucket=bucket, Key="put", ACL=acl)
    s3.copy_object(Bucket=bucket, Key="copied", CopySource=f"{bucket}/put", ACL=acl)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="made", ACL=acl)["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="made", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    s3.complete_multipart_upload(Bucket=bucket, Key="made", UploadId=upload, MultipartUpload={"Parts": [{"ETag": etag, "PartNumber": 1}]})
    s3.put_object(Bucket=bucket, Key="set")
    s3.put_object_acl(Bucket=bucket, Key="set", ACL=acl)
    assert granted(s3.get_bucket_acl(Bucket=bucket)) == expected
    for key in ("put", "copied", "made", "set"):
        told = s3.get_object_acl(Bucket=bucket, Key=key)
        assert (told["Owner"]["ID"], granted(told)) == (me, expected)


def test_a_copy_does_not_take_the_acl_along(s3: S3Client, with_acls: NewBucket, me: str) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k", ACL="public-read")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    assert granted(s3.get_object_acl(Bucket=bucket, Key="copy")) == {(me, "FULL_CONTROL")}


def test_grants_name_accounts_by_id_and_by_address(s3: S3Client, with_acls: NewBucket, me: str, other: str) -> None:
    bucket = with_acls()
    s3.put_object(
        Bucket=bucket, Key="k", GrantRead=f'id="{other}"', GrantFullControl=f"id={me}", GrantWriteACP=f"emailAddress={OTHER_EMAIL}"
    )
    told = s3.get_object_acl(Bucket=bucket, Key="k")
    assert granted(told) == {(me, "FULL_CONTROL"), (other, "READ"), (other, "WRITE_ACP")}
    assert {one["Grantee"].get("DisplayName") for one in told["Grants"]} == {"other", told["Owner"]["DisplayName"]}
    by_address: Any = {"Type": "AmazonCustomerByEmail", "EmailAddress": OTHER_EMAIL.upper()}
    policy: Any = {"Owner": told["Owner"], "Grants": [{"Grantee": by_address, "Permission": "READ_ACP"}]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    assert granted(s3.get_bucket_acl(Bucket=bucket)) == {(other, "READ_ACP")}


def test_who_is_not_there_is_granted_nothing(s3: S3Client, with_acls: NewBucket, me: str) -> None:
    bucket = with_acls()
    with s3_error("InvalidArgument", 400):
        s3.put_bucket_acl(Bucket=bucket, GrantRead=f'id="{"0" * 64}"')
    with s3_error("UnresolvableGrantByEmailAddress", 400):
        s3.put_bucket_acl(Bucket=bucket, GrantRead='emailAddress="nobody@nowhere.example"')
    with s3_error("InvalidArgument", 400):
        s3.put_bucket_acl(Bucket=bucket, GrantRead='uri="http://acs.amazonaws.com/groups/global/NoUsers"')
    assert granted(s3.get_bucket_acl(Bucket=bucket)) == {(me, "FULL_CONTROL")}


def test_an_acl_is_given_in_one_place(raw: RawClient, s3: S3Client, with_acls: NewBucket, me: str) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k")
    body = f"<AccessControlPolicy><Owner><ID>{me}</ID></Owner><AccessControlList/></AccessControlPolicy>".encode()
    for path in (f"/{bucket}", f"/{bucket}/k"):
        assert raw.request("PUT", path, [("acl", "")]).verdict == (400, "MissingSecurityHeader")
        assert raw.request("PUT", path, [("acl", "")], {"x-amz-acl": "private"}, body).verdict == (400, "UnexpectedContent")
        both = {"x-amz-acl": "private", "x-amz-grant-read": f"id={me}"}
        assert raw.request("PUT", path, [("acl", "")], both).verdict == (400, "InvalidRequest")
        assert raw.request("PUT", path, [("acl", "")], body=body).verdict == (200, "")
        assert granted_to_nobody(raw, path)


def granted_to_nobody(raw: RawClient, path: str) -> bool:
    return b"<Grant>" not in raw.request("GET", path, [("acl", "")]).body


@pytest.mark.parametrize(
    "document",
    [
        "<AccessControlPolicy/>",
        "<AccessControlPolicy><Owner/><AccessControlList/></AccessControlPolicy>",
        "<AccessControlPolicy><AccessControlList/></AccessControlPolicy>",
        "<AccessControlPolicy>",
        "<Something/>",
        "<AccessControlPolicy><Owner><ID>{me}</ID></Owner><AccessControlList><Grant><Permission>READ</Permission></Grant>"
        "</AccessControlList></AccessControlPolicy>",
    ],
)
def test_a_document_that_is_none_is_refused(raw: RawClient, with_acls: NewBucket, me: str, document: str) -> None:
    answer = raw.request("PUT", f"/{with_acls()}", [("acl", "")], body=document.format(me=me).encode())
    assert answer.verdict == (400, "MalformedACLError")


def test_a_document_cannot_give_the_bucket_away(s3: S3Client, with_acls: NewBucket, other: str) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k")
    with s3_error("AccessDenied", 403):
        s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": {"ID": other}, "Grants": []})
    with s3_error("AccessDenied", 403):
        s3.put_object_acl(Bucket=bucket, Key="k", AccessControlPolicy={"Owner": {"ID": other}, "Grants": []})


def test_each_version_has_its_acl(s3: S3Client, with_acls: NewBucket, me: str) -> None:
    bucket = with_acls()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", ACL="public-read")["VersionId"]
    s3.put_object_acl(Bucket=bucket, Key="k", VersionId=first, ACL="authenticated-read")
    assert granted(s3.get_object_acl(Bucket=bucket, Key="k", VersionId=first)) == {(me, "FULL_CONTROL"), ("AuthenticatedUsers", "READ")}
    assert granted(s3.get_object_acl(Bucket=bucket, Key="k", VersionId=second)) == {(me, "FULL_CONTROL"), ("AllUsers", "READ")}
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    with s3_error("NoSuchKey", 404):
        s3.get_object_acl(Bucket=bucket, Key="k")
    with s3_error("MethodNotAllowed", 405):
        s3.put_object_acl(Bucket=bucket, Key="k", VersionId=marker, ACL="private")


def test_public_acls_can_be_blocked(s3: S3Client, with_acls: NewBucket, me: str) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    for acl in ("public-read", "public-read-write", "authenticated-read"):
        with s3_error("AccessDenied", 403):
            s3.put_bucket_acl(Bucket=bucket, ACL=acl)
        with s3_error("AccessDenied", 403):
            s3.put_object_acl(Bucket=bucket, Key="k", ACL=acl)
        with s3_error("AccessDenied", 403):
            s3.put_object(Bucket=bucket, Key="k", ACL=acl)
    with s3_error("AccessDenied", 403):
        s3.put_object(Bucket=bucket, Key="k", GrantRead=f'uri="{ALL_USERS["URI"]}"')
    s3.put_bucket_acl(Bucket=bucket, ACL="log-delivery-write")
    assert granted(s3.get_object_acl(Bucket=bucket, Key="k")) == {(me, "FULL_CONTROL")}


def test_acls_cannot_be_turned_off_while_the_bucket_grants_something(s3: S3Client, with_acls: NewBucket, me: str) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k", ACL="public-read")
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    with s3_error("InvalidBucketAclWithObjectOwnership", 400):
        set_ownership(s3, bucket, "BucketOwnerEnforced")
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    set_ownership(s3, bucket, "BucketOwnerEnforced")
    assert granted(s3.get_object_acl(Bucket=bucket, Key="k")) == {(me, "FULL_CONTROL")}
    set_ownership(s3, bucket, "ObjectWriter")
    assert granted(s3.get_object_acl(Bucket=bucket, Key="k")) == {(me, "FULL_CONTROL"), ("AllUsers", "READ")}


def test_a_bucket_is_made_with_an_acl_only_where_there_are_acls(s3: S3Client, other: str, me: str) -> None:
    name = f"acl-{uuid.uuid4()}"
    with s3_error("InvalidBucketAclWithObjectOwnership", 400):
        s3.create_bucket(Bucket=name, ACL="public-read")
    with s3_error("InvalidBucketAclWithObjectOwnership", 400):
        s3.create_bucket(Bucket=name, GrantRead=f'id="{other}"', ObjectOwnership="BucketOwnerEnforced")
    with s3_error("InvalidBucketAclWithBlockPublicAccessError", 400):
        s3.create_bucket(Bucket=name, ACL="public-read", ObjectOwnership="ObjectWriter")
    with s3_error("InvalidArgument", 400):
        s3.create_bucket(Bucket=name, ACL="secret", ObjectOwnership="ObjectWriter")  # type: ignore[arg-type]
    s3.create_bucket(Bucket=name, GrantRead=f'id="{other}"', ObjectOwnership="ObjectWriter")
    assert granted(s3.get_bucket_acl(Bucket=name)) == {(other, "READ")}
    s3.create_bucket(Bucket=f"{name}-2"[:63].rstrip("-"), ACL="private")
