"""What ACLs let others do: two tenants and a stranger, against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from urllib3 import PoolManager
from urllib3.filepost import encode_multipart_formdata

from proxy.s3.policy.acl import ANONYMOUS_ID
from tests.blackbox.conftest import NewBucket
from tests.blackbox.expect import s3_error
from tests.blackbox.test_acl import ALL_USERS, granted, set_ownership

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PUBLIC_URI = f'uri="{ALL_USERS["URI"]}"'


def read(client: S3Client, bucket: str, key: str = "k", **version: str) -> bytes:
    return client.get_object(Bucket=bucket, Key=key, **version)["Body"].read()  # type: ignore[arg-type]


def test_a_private_object_is_for_its_owner_alone(s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k", Body=b"mine")
    assert read(s3, bucket) == b"mine"
    for client in (other_s3, stranger):
        with s3_error("AccessDenied", 403):
            read(client, bucket)
        with s3_error("AccessDenied", 403):
            client.list_objects_v2(Bucket=bucket)
        with s3_error("AccessDenied", 403):
            client.put_object(Bucket=bucket, Key="k", Body=b"theirs")
        with s3_error("AccessDenied", 403):
            client.delete_object(Bucket=bucket, Key="k")
        with s3_error("AccessDenied", 403):
            client.get_object_acl(Bucket=bucket, Key="k")


def test_a_public_object_is_read_by_everybody_and_no_more(
    s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket
) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k", Body=b"open", ACL="public-read")
    for client in (other_s3, stranger):
        assert read(client, bucket) == b"open"
        assert client.head_object(Bucket=bucket, Key="k")["ContentLength"] == 4
        with s3_error("AccessDenied", 403):
            client.get_object_tagging(Bucket=bucket, Key="k")
        with s3_error("AccessDenied", 403):
            client.put_object_acl(Bucket=bucket, Key="k", ACL="private")
        with s3_error("AccessDenied", 403):
            client.list_objects_v2(Bucket=bucket)
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    with s3_error("AccessDenied", 403):
        read(stranger, bucket)


def test_an_object_for_all_accounts_is_not_for_strangers(
    s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket
) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k", Body=b"open", ACL="authenticated-read")
    assert read(other_s3, bucket) == b"open"
    with s3_error("AccessDenied", 403):
        read(stranger, bucket)


def test_each_version_is_as_public_as_its_own_acl_says(s3: S3Client, stranger: S3Client, with_acls: NewBucket) -> None:
    bucket = with_acls()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"first", ACL="public-read")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"second")["VersionId"]
    assert read(stranger, bucket, VersionId=first) == b"first"
    with s3_error("AccessDenied", 403):
        read(stranger, bucket, VersionId=second)
    with s3_error("AccessDenied", 403):
        read(stranger, bucket)


def test_who_may_list_learns_that_a_key_is_not_there(s3: S3Client, other_s3: S3Client, with_acls: NewBucket, other: str) -> None:
    bucket = with_acls()
    with s3_error("AccessDenied", 403):
        read(other_s3, bucket, "nothing")
    s3.put_bucket_acl(Bucket=bucket, GrantRead=f'id="{other}"')
    with s3_error("NoSuchKey", 404):
        read(other_s3, bucket, "nothing")
    other_s3.head_bucket(Bucket=bucket)
    assert "Contents" not in other_s3.list_objects_v2(Bucket=bucket)
    assert "Versions" not in other_s3.list_object_versions(Bucket=bucket)
    with s3_error("AccessDenied", 403):
        other_s3.get_bucket_acl(Bucket=bucket)


def test_what_another_account_writes_is_its_own(s3: S3Client, other_s3: S3Client, with_acls: NewBucket, me: str, other: str) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, GrantWrite=f'id="{other}"', GrantFullControl=f'id="{me}"')
    other_s3.put_object(Bucket=bucket, Key="k", Body=b"theirs")
    assert read(other_s3, bucket) == b"theirs"
    with s3_error("AccessDenied", 403):
        read(s3, bucket)
    with s3_error("AccessDenied", 403):
        s3.get_object_acl(Bucket=bucket, Key="k")
    with s3_error("AccessDenied", 403):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    told = other_s3.get_object_acl(Bucket=bucket, Key="k")
    assert (told["Owner"]["ID"], granted(told)) == (other, {(other, "FULL_CONTROL")})
    assert owners(s3, bucket) == {"k": (other, "other")}
    other_s3.put_object_acl(Bucket=bucket, Key="k", ACL="bucket-owner-read")
    assert read(s3, bucket) == b"theirs"
    with s3_error("AccessDenied", 403):
        s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    s3.delete_object(Bucket=bucket, Key="k")  # the bucket is still its owner's
    assert owners(s3, bucket) == {}


def owners(client: S3Client, bucket: str) -> dict[str, tuple[str, str]]:
    """Return whose the objects are, as each listing tells it."""
    listed = client.list_objects_v2(Bucket=bucket, FetchOwner=True).get("Contents", [])
    first: dict[str, Any] = {one["Key"]: one["Owner"] for one in listed}
    assert first == {one["Key"]: one["Owner"] for one in client.list_objects(Bucket=bucket).get("Contents", [])}
    assert first == {one["Key"]: one["Owner"] for one in client.list_object_versions(Bucket=bucket).get("Versions", [])}
    return {key: (owner["ID"], owner["DisplayName"]) for key, owner in first.items()}


def test_a_writer_may_say_who_reads_what_he_writes(
    s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket, me: str, other: str
) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, GrantWrite=f'id="{other}"', GrantFullControl=f'id="{me}"')
    other_s3.put_object(Bucket=bucket, Key="k", Body=b"theirs", ACL="public-read")
    upload = other_s3.create_multipart_upload(Bucket=bucket, Key="parts", ACL="bucket-owner-full-control")["UploadId"]
    etag = other_s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"theirs")["ETag"]
    (pending,) = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert (pending["Owner"]["ID"], pending["Initiator"]["ID"]) == (other, other)
    parts: Any = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
    other_s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload=parts)
    assert read(stranger, bucket) == b"theirs"
    assert read(s3, bucket, "parts") == b"theirs"
    assert granted(s3.get_object_acl(Bucket=bucket, Key="parts")) == {(me, "FULL_CONTROL"), (other, "FULL_CONTROL")}
    with s3_error("AccessDenied", 403):
        other_s3.put_object_acl(Bucket=bucket, Key="nothing", ACL="public-read")


def test_where_the_owner_is_preferred_an_object_can_be_handed_over(
    s3: S3Client, other_s3: S3Client, with_acls: NewBucket, me: str, other: str
) -> None:
    bucket = with_acls("BucketOwnerPreferred")
    s3.put_bucket_acl(Bucket=bucket, GrantWrite=f'id="{other}"', GrantFullControl=f'id="{me}"')
    other_s3.put_object(Bucket=bucket, Key="given", Body=b"x", ACL="bucket-owner-full-control")
    other_s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
    assert {key: owner for key, (owner, _) in owners(s3, bucket).items()} == {"given": me, "kept": other}
    assert read(s3, bucket, "given") == b"x"
    with s3_error("AccessDenied", 403):
        read(other_s3, bucket, "given")
    with s3_error("AccessDenied", 403):
        read(s3, bucket, "kept")


def test_turning_acls_off_gives_everything_to_the_bucket_owner(
    s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket, me: str, other: str
) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, GrantWrite=f'id="{other}"', GrantFullControl=f'id="{me}"')
    other_s3.put_object(Bucket=bucket, Key="k", Body=b"theirs", ACL="public-read")
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    set_ownership(s3, bucket, "BucketOwnerEnforced")
    assert read(s3, bucket) == b"theirs"
    assert {owner for owner, _ in owners(s3, bucket).values()} == {me}
    for client in (other_s3, stranger):
        with s3_error("AccessDenied", 403):
            read(client, bucket)
    set_ownership(s3, bucket, "ObjectWriter")
    assert read(stranger, bucket) == b"theirs"
    assert {owner for owner, _ in owners(s3, bucket).values()} == {other}


def test_a_stranger_writes_where_everybody_may(s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    stranger.put_object(Bucket=bucket, Key="k", Body=b"anybody's", ACL="bucket-owner-full-control")
    assert read(s3, bucket) == b"anybody's"
    assert [one["Key"] for one in other_s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
    with s3_error("AccessDenied", 403):
        stranger.create_multipart_upload(Bucket=bucket, Key="k")
    stranger.delete_object(Bucket=bucket, Key="k")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_public_acls_can_be_ignored(s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket, other: str) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", GrantRead=f'id="{other}",{PUBLIC_URI}')
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"IgnorePublicAcls": True})
    for client in (other_s3, stranger):
        with s3_error("AccessDenied", 403):
            client.list_objects_v2(Bucket=bucket)
        with s3_error("AccessDenied", 403):
            client.put_object(Bucket=bucket, Key="k")
    with s3_error("AccessDenied", 403):
        read(stranger, bucket)
    assert read(other_s3, bucket) == b"x"
    s3.delete_public_access_block(Bucket=bucket)
    assert read(stranger, bucket) == b"x"


def test_a_delete_marker_is_of_whoever_made_it(
    s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket, me: str, other: str
) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_object(Bucket=bucket, Key="mine")
    other_s3.delete_object(Bucket=bucket, Key="theirs")
    other_s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "of many"}]})
    stranger.delete_object(Bucket=bucket, Key="nobody's")

    def told() -> dict[str, str]:
        return {marker["Key"]: marker["Owner"]["ID"] for marker in s3.list_object_versions(Bucket=bucket)["DeleteMarkers"]}

    assert told() == {"mine": me, "theirs": other, "of many": other, "nobody's": ANONYMOUS_ID}
    theirs = next(one["VersionId"] for one in s3.list_object_versions(Bucket=bucket)["DeleteMarkers"] if one["Key"] == "theirs")
    s3.delete_object(Bucket=bucket, Key="theirs", VersionId=theirs)
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    set_ownership(s3, bucket, "BucketOwnerEnforced")
    assert set(told().values()) == {me}


def test_a_deletion_of_many_is_decided_key_by_key(s3: S3Client, other_s3: S3Client, with_acls: NewBucket, me: str, other: str) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k")
    listed: Any = {"Objects": [{"Key": "k"}, {"Key": "none"}]}
    assert [error["Code"] for error in other_s3.delete_objects(Bucket=bucket, Delete=listed)["Errors"]] == ["AccessDenied"] * 2
    s3.put_bucket_acl(Bucket=bucket, GrantWrite=f'id="{other}"', GrantFullControl=f'id="{me}"')
    assert len(other_s3.delete_objects(Bucket=bucket, Delete=listed)["Deleted"]) == 2


def test_a_copy_takes_from_where_it_may_read(s3: S3Client, other_s3: S3Client, with_acls: NewBucket, other: str, me: str) -> None:
    source, target = with_acls(), with_acls()
    s3.put_object(Bucket=source, Key="open", Body=b"x", GrantRead=f'id="{other}"')
    s3.put_object(Bucket=source, Key="closed", Body=b"x")
    s3.put_bucket_acl(Bucket=target, GrantWrite=f'id="{other}"', GrantFullControl=f'id="{me}"')
    other_s3.copy_object(Bucket=target, Key="k", CopySource=f"{source}/open")
    assert read(other_s3, target) == b"x"
    with s3_error("AccessDenied", 403):
        other_s3.copy_object(Bucket=target, Key="k", CopySource=f"{source}/closed")


def test_who_may_write_an_acl_may_give_himself_more(s3: S3Client, other_s3: S3Client, with_acls: NewBucket, other: str) -> None:
    bucket = with_acls()
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", GrantWriteACP=f'id="{other}"')
    with s3_error("AccessDenied", 403):
        read(other_s3, bucket)
    other_s3.put_object_acl(Bucket=bucket, Key="k", GrantFullControl=f'id="{other}"')
    assert read(other_s3, bucket) == b"x"
    assert read(s3, bucket) == b"x"


def test_an_upload_is_its_initiator_s(s3: S3Client, other_s3: S3Client, stranger: S3Client, with_acls: NewBucket) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    upload = other_s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    mine = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    for client, its in ((stranger, upload), (other_s3, mine)):
        with s3_error("AccessDenied", 403):
            client.upload_part(Bucket=bucket, Key="k", UploadId=its, PartNumber=1, Body=b"x")
        with s3_error("AccessDenied", 403):
            client.list_parts(Bucket=bucket, Key="k", UploadId=its)
        with s3_error("AccessDenied", 403):
            client.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=its)
    other_s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    assert len(other_s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]) == 1
    other_s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with s3_error("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)


def test_a_stranger_changes_nothing_of_an_answer_and_copies_nothing(s3: S3Client, stranger: S3Client, with_acls: NewBucket) -> None:
    bucket = with_acls()
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    with s3_error("InvalidRequest", 400):
        stranger.get_object(Bucket=bucket, Key="k", ResponseContentType="text/html")
    assert s3.get_object(Bucket=bucket, Key="k", ResponseContentType="text/html")["ContentType"] == "text/html"
    with s3_error("AccessDenied", 403):
        stranger.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")


def test_a_form_may_say_who_reads_what_it_brings(s3: S3Client, stranger: S3Client, with_acls: NewBucket) -> None:
    bucket = with_acls()
    form = s3.generate_presigned_post(bucket, "k", Fields={"acl": "public-read"}, Conditions=[{"acl": "public-read"}])
    body, content_type = encode_multipart_formdata({**form["fields"], "file": ("name", b"open")})
    answer = PoolManager().request("POST", form["url"], body=body, headers={"content-type": content_type})
    assert answer.status == 204
    assert read(stranger, bucket) == b"open"
