"""Buckets: making and removing them, where they are, and whether they keep versions."""

from __future__ import annotations

import json

from proxy.errors import BucketExists, BucketNotEmpty
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import Bucket, BucketName, Versioning
from proxy.s3.errors import S3Error
from proxy.s3.naming import check_bucket_name
from proxy.s3.object_lock import encode_default
from proxy.s3.parsing import Params
from proxy.s3.replication import SETTING as REPLICATION
from proxy.s3.tagging import MAX_BUCKET_TAGS, check_tags
from proxy.server.call import Call, rows
from proxy.server.handlers.grants import access_settings
from proxy.server.handlers.tagging import TAGGING

US_EAST_1 = "us-east-1"


async def create_bucket(call: Call) -> dict[str, object]:
    """Make a bucket under the placement policy its LocationConstraint names or stands for, or the default one."""
    name = BucketName(call.required_text("Bucket"))
    check_bucket_name(name)
    configuration = call.params.get("CreateBucketConfiguration")
    document: Params = configuration if isinstance(configuration, dict) else {}
    if "Location" in document or "Bucket" in document:
        raise S3Error("NotImplemented", "Directory buckets are not served")
    location, policy = _placement(call, document)
    locks = call.params.get("ObjectLockEnabledForBucket") is True
    bucket = Bucket(
        name=name,
        tenant_id=call.tenant.id,
        policy=policy,
        location=location,
        versioning="Enabled" if locks else "Unversioned",
        created_ms=call.services.clock.now_ms(),
        settings={**_tags(document), **await access_settings(call), **({OBJECT_LOCK: encode_default(None)} if locks else {})},
    )
    try:
        await call.services.engine.create_bucket(bucket)
    except BucketExists as error:
        await _check_again(call, bucket, error)
    return {"Location": f"/{name}"}


async def head_bucket(call: Call) -> dict[str, object]:
    return {"BucketRegion": call.services.config.region}


async def delete_bucket(call: Call) -> dict[str, object]:
    try:
        await call.services.engine.delete_bucket(call.bucket)
    except BucketNotEmpty as error:
        more = "" if call.bucket.versioning == "Unversioned" else ". You must delete all versions in the bucket."
        raise S3Error("BucketNotEmpty", f"The bucket you tried to delete is not empty{more}", BucketName=call.bucket.name) from error
    return {}


async def get_bucket_location(call: Call) -> dict[str, object]:
    """Tell the LocationConstraint as given. Signatures for it are accepted, too, for clients that take it for a region."""
    region = call.services.config.region
    return {"LocationConstraint": call.bucket.location or (None if region == US_EAST_1 else region)}


async def get_bucket_versioning(call: Call) -> dict[str, object]:
    versioning = call.bucket.versioning
    return {} if versioning == "Unversioned" else {"Status": versioning}


async def put_bucket_versioning(call: Call) -> dict[str, object]:
    document = call.document("VersioningConfiguration")
    if document.get("MFADelete") == "Enabled":
        raise S3Error("NotImplemented", "MFA delete is not served")
    states: dict[object, Versioning] = {"Enabled": "Enabled", "Suspended": "Suspended"}
    state = states.get(document.get("Status"))
    if state is None:
        raise S3Error("MalformedXML")
    if state == "Suspended" and REPLICATION in call.bucket.settings:
        message = "A replication configuration is present on this bucket, so you cannot change the versioning state."
        raise S3Error("InvalidBucketState", f"{message} To change the versioning state, first delete the replication configuration.")
    await call.services.engine.set_versioning(call.bucket, state)
    return {}


def _placement(call: Call, document: Params) -> tuple[str, str]:
    """Return (location, policy name). A region that is not us-east-1 names itself, as on AWS, and means the default policy."""
    constraint = document.get("LocationConstraint")
    services = call.services
    if constraint is None or constraint == "":
        return "", services.default_policy
    if isinstance(constraint, str) and constraint in services.policies:
        return constraint, constraint
    if isinstance(constraint, str) and (policy := services.config.locations.get(constraint)) is not None:
        return constraint, policy
    if constraint == services.config.region != US_EAST_1:
        return "", services.default_policy
    known = ", ".join(sorted({*services.policies, *services.config.locations}))
    message = f"The specified location-constraint is not valid: it names a policy or a location, one of {known}"
    raise S3Error("InvalidLocationConstraint", message, LocationConstraint=str(constraint))


def _tags(document: Params) -> dict[str, str]:
    tags = check_tags(rows(document, "Tags"), limit=MAX_BUCKET_TAGS)
    return {TAGGING: json.dumps(tags)} if tags else {}


async def _check_again(call: Call, wanted: Bucket, error: BucketExists) -> None:
    """Decide what a bucket that exists means: us-east-1 answers 200 for one's own; the other regions never do."""
    if error.owner != call.tenant.id:
        raise S3Error("BucketAlreadyExists", BucketName=wanted.name) from error
    existing = await call.services.engine.find_bucket(wanted.name)
    same = existing is not None and existing.location == wanted.location
    if call.services.config.region != US_EAST_1 or not same:
        raise S3Error("BucketAlreadyOwnedByYou", BucketName=wanted.name) from error
