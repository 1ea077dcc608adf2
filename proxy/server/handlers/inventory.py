"""Inventories: lists of a bucket that are made by schedule."""

from __future__ import annotations

import json

from proxy.engine.parquet import is_parquet_there
from proxy.manifest.records import BucketName
from proxy.s3.errors import S3Error
from proxy.s3.inventory import MAX_CONFIGURATIONS, PAGE_CONFIGURATIONS, SETTING, check_inventory, folder_of
from proxy.s3.policy.actions import Action
from proxy.server.call import Call
from proxy.server.handlers.tokens import open_token, seal_token


async def get_bucket_inventory(call: Call) -> dict[str, object]:
    return {"InventoryConfiguration": _find(call)}


async def put_bucket_inventory(call: Call) -> dict[str, object]:
    """Add a configuration, or put one in the place of another with the same id."""
    configuration_id = call.required_text("Id")
    document = call.document("InventoryConfiguration")
    inventory = check_inventory(document, configuration_id)
    if inventory.format == "Parquet" and not is_parquet_there():
        raise S3Error("NotImplemented", "Parquet needs a library that is not installed here: pip install 'shardgate[parquet]'")
    call.guard.check_elsewhere(Action("s3:PutObject"), inventory.destination, folder_of(inventory, call.bucket.name))
    bucket = await call.services.engine.find_bucket(BucketName(inventory.destination))
    if bucket is None or bucket.tenant_id != call.owner.id:
        raise S3Error("InvalidS3DestinationBucket")
    kept = _kept(call) | {configuration_id: document}
    if len(kept) > MAX_CONFIGURATIONS:
        message = f"You are attempting to create a new configuration but have already reached the limit of {MAX_CONFIGURATIONS}."
        raise S3Error("TooManyConfigurations", message)
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, json.dumps(kept))
    return {}


async def delete_bucket_inventory(call: Call) -> dict[str, object]:
    _find(call)
    kept = {name: document for name, document in _kept(call).items() if name != call.text("Id")}
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, json.dumps(kept) if kept else None)
    return {}


async def list_bucket_inventories(call: Call) -> dict[str, object]:
    """List configurations by id, a hundred at a time."""
    token = call.text("ContinuationToken")
    after = "" if token is None else open_token(token)[0]
    names = sorted(name for name in _kept(call) if name > after)
    page = names[:PAGE_CONFIGURATIONS]
    answer: dict[str, object] = {"IsTruncated": len(page) < len(names), "ContinuationToken": token}
    if len(page) < len(names):
        answer["NextContinuationToken"] = seal_token(page[-1])
    kept = _kept(call)
    return {**answer, "InventoryConfigurationList": [kept[name] for name in page]}


def _kept(call: Call) -> dict[str, object]:
    kept = json.loads(call.bucket.settings.get(SETTING, "{}"))
    return kept if isinstance(kept, dict) else {}


def _find(call: Call) -> object:
    document = _kept(call).get(call.required_text("Id"))
    if document is None:
        raise S3Error("NoSuchConfiguration", BucketName=call.bucket.name)
    return document
