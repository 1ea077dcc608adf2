"""Inventories: lists of a bucket that are made by schedule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress

from proxy.engine.outgoing.parquet import is_parquet_there
from proxy.errors import SettingChanged
from proxy.manifest.records import Bucket, BucketName
from proxy.s3.errors import S3Error
from proxy.s3.inventory import MAX_CONFIGURATIONS, PAGE_CONFIGURATIONS, SETTING, check_inventory, folder_of
from proxy.s3.policy.actions import Action
from proxy.server.call import Call
from proxy.server.handlers.tokens import open_token, seal_token

_TRIES = 20  # that many others put theirs at the same moment


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
    await _change(call, lambda kept: _with(kept, configuration_id, document))
    return {}


def _with(kept: Mapping[str, object], configuration_id: str, document: object) -> dict[str, object]:
    changed = {**kept, configuration_id: document}
    if len(changed) > MAX_CONFIGURATIONS:
        message = f"You are attempting to create a new configuration but have already reached the limit of {MAX_CONFIGURATIONS}."
        raise S3Error("TooManyConfigurations", message)
    return changed


async def delete_bucket_inventory(call: Call) -> dict[str, object]:
    _find(call)
    await _change(call, lambda kept: {name: document for name, document in kept.items() if name != call.text("Id")})
    return {}


async def _change(call: Call, change: Callable[[Mapping[str, object]], Mapping[str, object]]) -> None:
    """Change what is kept of all configurations. Who comes in between is not undone: it is tried again with what is there then."""
    bucket: Bucket | None = call.bucket
    for _ in range(_TRIES):
        if bucket is None or bucket.id != call.bucket.id:
            raise S3Error("NoSuchBucket", BucketName=call.bucket.name)
        kept = change(_kept(bucket))
        with suppress(SettingChanged):
            await call.services.engine.put_bucket_setting(bucket, SETTING, json.dumps(kept) if kept else None, because_of=[SETTING])
            return
        bucket = await call.services.engine.find_bucket(call.bucket.name)
    raise S3Error("OperationAborted")


async def list_bucket_inventories(call: Call) -> dict[str, object]:
    """List configurations by id, a hundred at a time."""
    token = call.text("ContinuationToken")
    after = "" if token is None else open_token(token)[0]
    kept = _kept(call.bucket)
    names = sorted(name for name in kept if name > after)
    page = names[:PAGE_CONFIGURATIONS]
    answer: dict[str, object] = {"IsTruncated": len(page) < len(names), "ContinuationToken": token}
    if len(page) < len(names):
        answer["NextContinuationToken"] = seal_token(page[-1])
    return {**answer, "InventoryConfigurationList": [kept[name] for name in page]}


def _kept(bucket: Bucket) -> dict[str, object]:
    kept = json.loads(bucket.settings.get(SETTING, "{}"))
    return kept if isinstance(kept, dict) else {}


def _find(call: Call) -> object:
    document = _kept(call.bucket).get(call.required_text("Id"))
    if document is None:
        raise S3Error("NoSuchConfiguration", BucketName=call.bucket.name)
    return document
