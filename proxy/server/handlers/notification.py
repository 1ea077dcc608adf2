"""Notifications: which events of a bucket are told to whom."""

from __future__ import annotations

import json
import secrets

from proxy.manifest.events import Cause, Event
from proxy.s3.notification import CONFIGURATIONS, SETTING, TEST_EVENT, check_notification
from proxy.s3.parsing import Params
from proxy.server.call import Call, rows


async def get_bucket_notification(call: Call) -> dict[str, object]:
    document = call.bucket.settings.get(SETTING)
    return {} if document is None else json.loads(document)


async def put_bucket_notification(call: Call) -> dict[str, object]:
    """Take a whole configuration in place of the one before; an empty one turns notifications off. Each target hears of it."""
    document = _with_ids(call.document("NotificationConfiguration"))
    skips = call.headers.get("x-amz-skip-destination-validation", "").lower() == "true"
    rules = check_notification(document, call.services.config.notifications.targets, skip_targets=skips)
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, json.dumps(document) if rules else None)
    targets = {rule.target for rule in rules if rule.target in call.services.config.notifications.targets}
    if targets and not skips:
        await call.services.engine.announce(_test_event(call), sorted(targets))
    return {}


def _with_ids(document: Params) -> Params:
    """Return the configuration with an id for each rule that came with none, as S3 gives it one."""
    named: dict[str, object] = {}
    for kind, value in document.items():
        named[kind] = [{"Id": secrets.token_urlsafe(18), **row} for row in rows(document, kind)] if kind in CONFIGURATIONS else value
    return named


def _test_event(call: Call) -> Event:
    cause = Cause(name=TEST_EVENT, owner=call.owner.canonical_id, source_ip=call.remote, request_id=call.request_id, host_id=call.host_id)
    return Event(bucket=call.bucket.name, key="", at_ms=call.services.clock.now_ms(), cause=cause)
