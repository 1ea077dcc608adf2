"""The service itself: a tenant's buckets."""

from __future__ import annotations

import re

from proxy.s3.errors import S3Error
from proxy.server.call import Call, moment
from proxy.server.handlers.owner import owner_element
from proxy.server.handlers.tokens import open_token, seal_token

MAX_BUCKETS = 10_000
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")  # as eu-west-1, us-gov-east-1, us-iso-west-1


async def list_buckets(call: Call) -> dict[str, object]:
    """List buckets by name, in pages if asked to."""
    limit = call.integer("MaxBuckets")
    if limit is not None and not 1 <= limit <= MAX_BUCKETS:
        raise S3Error("InvalidArgument", f"MaxBuckets must be between 1 and {MAX_BUCKETS}", ArgumentName="max-buckets", ArgumentValue=limit)
    prefix, token, region = call.text("Prefix"), call.text("ContinuationToken"), call.text("BucketRegion")
    result: dict[str, object] = {"Owner": owner_element(call.tenant), "Buckets": [], "Prefix": prefix}
    here = call.services.config.region
    if region not in {None, here} and not _REGION.fullmatch(region or ""):
        message = f"Argument value {region} is not a valid AWS Region"
        raise S3Error("InvalidArgument", message, ArgumentName="bucket-region", ArgumentValue=region or "")
    if region is not None and region != here:
        return result
    wanted = limit or MAX_BUCKETS
    after = "" if token is None else open_token(token)[0]
    found = await call.services.engine.list_buckets(call.tenant, prefix=prefix or "", after=after, limit=wanted + 1)
    page = found[:wanted]
    result["Buckets"] = [{"Name": bucket.name, "CreationDate": moment(bucket.created_ms), "BucketRegion": here} for bucket in page]
    if len(found) > wanted:
        result["ContinuationToken"] = seal_token(page[-1].name)
    return result
