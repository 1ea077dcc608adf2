"""What a request is about, who may ask for it, and whose key seals what it writes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from proxy.manifest.drafts import AttributeChange
from proxy.manifest.records import Bucket, BucketId, BucketName, Caller, ObjectKey, Tenant, Upload, UploadId
from proxy.s3.claim import ANONYMOUS_CLAIM
from proxy.s3.copy_source import parse_copy_source
from proxy.s3.errors import S3Error
from proxy.s3.model import load_model
from proxy.s3.parsing import Params
from proxy.s3.policy.grants import Restrictions
from proxy.s3.policy.principal import ANONYMOUS, Principal
from proxy.s3.routing import Target
from proxy.server.access import Access, Gate
from proxy.server.body import RequestBody
from proxy.server.call import Call, Origin, OwnedBucket
from proxy.server.handlers import HANDLERS
from proxy.server.identity.auth import Sender
from proxy.server.wire.peers import Peers
from proxy.tenancy import add_tenant
from tests.laboratory import BytesBody, Laboratory, laboratory

OPERATIONS = load_model().operations
SERVICE_LEVEL = {"ListBuckets", "CreateBucket"}
KEY_BY_KEY = {"DeleteObjects"}  # whoever is let in may delete nothing yet


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        await add_tenant(running.services.manifest, running.services.keyring, running.clock, "other")
        yield running


async def other_tenant(lab: Laboratory) -> Tenant:
    tenant = await lab.services.manifest.find_tenant_by_name("other")
    assert tenant is not None
    return tenant


async def sender(lab: Laboratory, tenant: Tenant | None, bucket: str) -> Sender:
    found = await lab.services.manifest.find_caller(None, BucketName(bucket))
    caller = Caller(tenant=tenant, bucket=found.bucket, owner=found.owner)
    principal = ANONYMOUS if tenant is None else Principal(tenant.id, "AK", tenant.account_id, tenant.canonical_id)
    return Sender(principal=principal, caller=caller, claim=ANONYMOUS_CLAIM)


async def admit(lab: Laboratory, operation: str, tenant: Tenant | None, bucket: str = "bucket", **headers: str) -> Access:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    gate, asker = Gate(lab.services.manifest, lab.clock, Peers(())), await sender(lab, tenant, bucket)
    return await gate.admit(OPERATIONS[operation], Target(bucket, "k"), [], {"x-amz-copy-source": "bucket/k", **named}, asker)


async def refusal(lab: Laboratory, operation: str, tenant: Tenant | None, bucket: str = "bucket", **headers: str) -> str:
    with pytest.raises(S3Error) as caught:
        await admit(lab, operation, tenant, bucket, **headers)
    return caught.value.code


@pytest.mark.parametrize("operation", sorted(HANDLERS.keys() - SERVICE_LEVEL - KEY_BY_KEY))
async def test_each_operation_is_for_the_owner_alone(lab: Laboratory, operation: str) -> None:
    held = (await admit(lab, operation, lab.tenant)).held
    assert held == OwnedBucket(bucket=lab.bucket, owner=lab.tenant)
    assert await refusal(lab, operation, await other_tenant(lab)) == "AccessDenied"
    assert await refusal(lab, operation, None) == "AccessDenied"


@pytest.mark.parametrize("operation", sorted(HANDLERS.keys() - SERVICE_LEVEL))
async def test_everybody_is_told_that_there_is_no_such_bucket(lab: Laboratory, operation: str) -> None:
    assert await refusal(lab, operation, lab.tenant, "nowhere") == "NoSuchBucket"
    assert await refusal(lab, operation, None, "nowhere") == "NoSuchBucket"


@pytest.mark.parametrize("operation", sorted(SERVICE_LEVEL))
async def test_any_tenant_makes_and_lists_buckets(lab: Laboratory, operation: str) -> None:
    access = await admit(lab, operation, await other_tenant(lab), "new")
    assert (access.held, access.origin) == (None, None)
    assert await refusal(lab, operation, None, "new") == "AccessDenied"


@pytest.mark.parametrize("operation", ["CopyObject", "UploadPartCopy"])
async def test_a_copy_needs_its_source_too(lab: Laboratory, operation: str) -> None:
    other = await other_tenant(lab)
    theirs = Bucket(name=BucketName("theirs"), tenant_id=other.id, policy="standard", created_ms=0)
    theirs = await lab.services.manifest.create_bucket(theirs)
    access = await admit(lab, operation, lab.tenant)
    assert access.origin is not None
    assert access.origin.held.bucket == lab.bucket
    assert await refusal(lab, operation, lab.tenant, x_amz_copy_source="theirs/k") == "AccessDenied"
    assert await refusal(lab, operation, lab.tenant, x_amz_copy_source="nowhere/k") == "NoSuchBucket"


async def test_an_expected_owner_must_be_the_owner(lab: Laboratory) -> None:
    account = lab.tenant.account_id
    await admit(lab, "CopyObject", lab.tenant, x_amz_expected_bucket_owner=account, x_amz_source_expected_bucket_owner=account)
    assert await refusal(lab, "HeadBucket", lab.tenant, x_amz_expected_bucket_owner="111122223333") == "AccessDenied"
    assert await refusal(lab, "CopyObject", lab.tenant, x_amz_source_expected_bucket_owner="111122223333") == "AccessDenied"
    for wrong in (lab.tenant.id, lab.tenant.canonical_id, ""):
        assert await refusal(lab, "HeadBucket", lab.tenant, x_amz_expected_bucket_owner=wrong) == "InvalidBucketOwnerAWSAccountID"


async def call_of(lab: Laboratory, operation: str, held: OwnedBucket, *, source: OwnedBucket | None = None, **params: object) -> Call:
    """Return a call by a tenant that does not own the bucket, as one with a grant would make it."""
    asker = await other_tenant(lab)
    named = parse_copy_source(f"{(source or held).bucket.name}/k")
    return Call(
        operation=OPERATIONS[operation],
        params={"Bucket": held.bucket.name, "Key": "k", **params},
        headers={},
        principal=Principal(asker.id, "AK"),
        asker=asker,
        services=lab.services,
        held=held,
        copied=Origin(source=named, held=source or held),
        upload=cast(RequestBody, BytesBody(b"precious" * 1000)),
    )


async def test_what_another_writes_is_sealed_with_the_key_of_the_bucket_s_owner(lab: Laboratory) -> None:
    held = OwnedBucket(bucket=lab.bucket, owner=lab.tenant)
    await HANDLERS["PutObject"](await call_of(lab, "PutObject", held))
    assert await lab.get("k") == b"precious" * 1000  # the laboratory reads with the owner's key


async def test_a_copy_is_read_with_the_key_of_one_owner_and_sealed_with_the_other_s(lab: Laboratory) -> None:
    await lab.put("k", b"mine" * 1000)
    third = await add_tenant(lab.services.manifest, lab.services.keyring, lab.clock, "third")
    owner = await lab.services.manifest.find_tenant_by_name(third.tenant)
    assert owner is not None
    target = Bucket(name=BucketName("target"), tenant_id=owner.id, policy="standard", created_ms=0)
    held = OwnedBucket(bucket=await lab.services.manifest.create_bucket(target), owner=owner)
    source = OwnedBucket(bucket=lab.bucket, owner=lab.tenant)
    await HANDLERS["CopyObject"](await call_of(lab, "CopyObject", held, source=source))
    version = await lab.services.engine.find_version(held.bucket, ObjectKey("k"))
    assert version is not None
    pieces = await lab.services.engine.open_read(version, owner, 0, version.size)
    assert b"".join([bytes(piece) async for piece in pieces]) == b"mine" * 1000


async def test_the_owner_of_what_is_listed_is_the_bucket_s_and_the_initiator_who_began(lab: Laboratory) -> None:
    held, other = OwnedBucket(bucket=lab.bucket, owner=lab.tenant), await other_tenant(lab)
    upload = await HANDLERS["CreateMultipartUpload"](await call_of(lab, "CreateMultipartUpload", held))
    assert isinstance(upload, dict)
    parts = await HANDLERS["ListParts"](await call_of(lab, "ListParts", held, UploadId=upload["UploadId"]))
    uploads = await HANDLERS["ListMultipartUploads"](await call_of(lab, "ListMultipartUploads", held))
    acl = await HANDLERS["GetBucketAcl"](await call_of(lab, "GetBucketAcl", held))
    assert isinstance(parts, dict)
    assert isinstance(uploads, dict)
    assert isinstance(acl, dict)
    for told in (parts, uploads["Uploads"][0]):
        assert told["Owner"]["ID"] == lab.tenant.canonical_id
        assert told["Initiator"]["ID"] == other.canonical_id
    assert acl["Owner"]["ID"] == lab.tenant.canonical_id


READ_ONLY = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::bucket/*"}}'


def policy(effect: str, action: str, principal: object, **condition: object) -> str:
    statement = {"Effect": effect, "Principal": principal, "Action": action, "Resource": "arn:aws:s3:::bucket/*", "Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


async def test_a_key_with_a_policy_may_what_that_allows(lab: Laboratory) -> None:
    gate, asker = Gate(lab.services.manifest, lab.clock, Peers(())), await sender(lab, lab.tenant, "bucket")
    limited = replace(asker, restrictions=Restrictions(limits=(("key policy", READ_ONLY),)))
    await gate.admit(OPERATIONS["GetObject"], Target("bucket", "k"), [], {}, limited)
    for operation in ("PutObject", "DeleteObject", "ListBuckets", "CreateBucket"):
        with pytest.raises(S3Error, match="AccessDenied"):
            await gate.admit(OPERATIONS[operation], Target("bucket", "k"), [], {}, limited)


async def test_a_policy_denies_its_own_account_too(lab: Laboratory) -> None:
    await lab.services.engine.put_bucket_setting(lab.bucket, "policy", policy("Deny", "s3:DeleteObject", "*"))
    await admit(lab, "GetObject", lab.tenant)
    assert await refusal(lab, "DeleteObject", lab.tenant) == "AccessDenied"


async def test_a_decision_may_wait_for_the_document(lab: Laboratory) -> None:
    other = {"AWS": (await other_tenant(lab)).account_id}
    wanted = policy("Allow", "s3:PutObjectTagging", other, StringEquals={"s3:RequestObjectTag/team": "red"})
    await lab.services.engine.put_bucket_setting(lab.bucket, "policy", wanted)
    for value, may in (("red", True), ("blue", False)):
        access = await admit(lab, "PutObjectTagging", await other_tenant(lab))
        params: Params = {"Tagging": {"TagSet": [{"Key": "team", "Value": value}]}}
        if may:
            await access.guard.check_body(params)
            continue
        with pytest.raises(S3Error, match="AccessDenied"):
            await access.guard.check_body(params)
    assert await refusal(lab, "GetObject", await other_tenant(lab)) == "AccessDenied"


async def test_the_object_is_loaded_where_its_tags_count(lab: Laboratory) -> None:
    asker = await other_tenant(lab)
    wanted = policy("Allow", "s3:GetObject", {"AWS": asker.account_id}, StringEquals={"s3:ExistingObjectTag/open": "yes"})
    await lab.services.engine.put_bucket_setting(lab.bucket, "policy", wanted)
    assert await refusal(lab, "GetObject", asker) == "AccessDenied"
    await lab.put("k", b"data")
    assert await refusal(lab, "GetObject", asker) == "AccessDenied"
    version = await lab.services.engine.find_version(lab.bucket, ObjectKey("k"))
    assert version is not None
    await lab.services.engine.change_attributes(lab.bucket, ObjectKey("k"), version.id, AttributeChange(tags={"open": "yes"}))
    await admit(lab, "GetObject", asker)


async def test_an_upload_is_loaded_only_where_a_policy_asks_how_it_is_encrypted(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[UploadId] = []
    find_upload = lab.services.manifest.find_upload

    async def noted(bucket_id: BucketId, key: ObjectKey, upload_id: UploadId) -> Upload | None:
        asked.append(upload_id)
        return await find_upload(bucket_id, key, upload_id)

    monkeypatch.setattr(lab.services.manifest, "find_upload", noted)
    put = lab.services.engine.put_bucket_setting
    await admit(lab, "UploadPart", lab.tenant)
    await put(lab.bucket, "policy", policy("Deny", "s3:PutObject", "*", StringEquals={"s3:x-amz-storage-class": "GLACIER"}))
    await admit(lab, "UploadPart", lab.tenant)
    await put(lab.bucket, "policy", policy("Deny", "s3:PutObject", "*", Null={"s3:x-amz-server-side-encryption": "true"}))
    await admit(lab, "GetObject", lab.tenant)
    assert await refusal(lab, "PutObject", lab.tenant) == "AccessDenied"
    assert asked == []
    await admit(lab, "UploadPart", lab.tenant)
    assert asked == [""]


def replication() -> Params:
    rule = {
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": "a/"},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": "arn:aws:s3:::other"},
    }
    return {"ReplicationConfiguration": {"Role": "r", "Rules": [rule]}}


def inventory() -> Params:
    destination = {"S3BucketDestination": {"Bucket": "arn:aws:s3:::other", "Format": "CSV", "Prefix": "a"}}
    document = {
        "Id": "i",
        "IsEnabled": True,
        "IncludedObjectVersions": "All",
        "Schedule": {"Frequency": "Daily"},
        "Destination": destination,
    }
    return {"Id": "i", "InventoryConfiguration": document}


def logging() -> Params:
    return {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "other", "TargetPrefix": "a/"}}}


WRITES_OTHER = [["s3:*"], ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*", "arn:aws:s3:::other/a/*"]]
WRITES_ONE_PREFIX_BELOW = [["s3:*"], ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*", "arn:aws:s3:::other/a/*/b"]]
WRITES_BUCKET_ALONE = [["s3:*"], ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]]
READS_NOTHING = [["s3:Put*", "s3:Replicate*"], ["*"]]


@pytest.mark.parametrize(
    ("operation", "ask", "allowed", "may"),
    [
        ("PutBucketReplication", replication, WRITES_OTHER, True),
        ("PutBucketReplication", replication, WRITES_BUCKET_ALONE, False),
        ("PutBucketReplication", replication, WRITES_ONE_PREFIX_BELOW, False),
        ("PutBucketReplication", replication, READS_NOTHING, False),
        ("PutBucketInventoryConfiguration", inventory, WRITES_OTHER, True),
        ("PutBucketInventoryConfiguration", inventory, WRITES_BUCKET_ALONE, False),
        ("PutBucketLogging", logging, WRITES_OTHER, True),
        ("PutBucketLogging", logging, WRITES_BUCKET_ALONE, False),
    ],
)
async def test_a_key_has_the_server_do_nothing_elsewhere_that_it_may_not_do_itself(
    lab: Laboratory, operation: str, ask: Callable[[], Params], allowed: list[list[str]], may: bool
) -> None:
    other = Bucket(name=BucketName("other"), tenant_id=lab.tenant.id, policy="standard", created_ms=0, versioning="Enabled")
    await lab.services.manifest.create_bucket(other)
    await lab.services.engine.set_versioning(lab.bucket, "Enabled")
    statement = {"Effect": "Allow", "Action": allowed[0], "Resource": allowed[1]}
    limit = json.dumps({"Version": "2012-10-17", "Statement": statement})
    asker = replace(await sender(lab, lab.tenant, "bucket"), restrictions=Restrictions(limits=(("key policy", limit),)))
    access = await Gate(lab.services.manifest, lab.clock, Peers(())).admit(OPERATIONS[operation], Target("bucket", None), [], {}, asker)
    call = Call(
        operation=OPERATIONS[operation],
        params=ask(),
        headers={},
        principal=asker.principal,
        services=lab.services,
        held=access.held,
        guard=access.guard,
    )
    if may:
        await HANDLERS[operation](call)
        return
    with pytest.raises(S3Error, match="AccessDenied"):
        await HANDLERS[operation](call)
    bucket = await lab.services.manifest.find_bucket(BucketName("bucket"))
    assert bucket is not None
    assert not bucket.settings
