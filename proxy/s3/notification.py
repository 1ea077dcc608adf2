"""Notifications: which events of a bucket are told to which targets, and how an event reads.

A configuration names its destinations by ARN. Here the last part of an ARN is the name of a target of the server's configuration; whether
the ARN is of a queue, a topic or a function is all the same.

Sources: S3 User Guide, "Amazon S3 Event Notifications", "Event message structure", "Supported event types"; S3 API reference,
"PutBucketNotificationConfiguration".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple
from urllib.parse import quote_plus

from proxy.s3.errors import S3Error
from proxy.s3.naming import BUCKET_ARN

MAX_CONFIGURATIONS = 100
MAX_FILTER_CHARACTERS = 1024
SETTING = "notification"  # its name among the bucket's settings
TEST_EVENT = "TestEvent"
# Of a rule, by the member of the document that holds it: the member that names the destination.
CONFIGURATIONS = {
    "TopicConfigurations": "TopicArn",
    "QueueConfigurations": "QueueArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
_SERVICES = {"TopicArn": "sns", "QueueArn": "sqs", "LambdaFunctionArn": "lambda"}
# The families of events, each with its members. Some never happen here; a configuration may name them all the same.
_EVENTS: Mapping[str, tuple[str, ...]] = {
    "ObjectCreated": ("Put", "Post", "Copy", "CompleteMultipartUpload"),
    "ObjectRemoved": ("Delete", "DeleteMarkerCreated"),
    "ObjectRestore": ("Post", "Completed", "Delete"),
    "Replication": (
        "OperationFailedReplication",
        "OperationNotTracked",
        "OperationMissedThreshold",
        "OperationReplicatedAfterThreshold",
    ),
    "LifecycleExpiration": ("Delete", "DeleteMarkerCreated"),
    "ObjectTagging": ("Put", "Delete"),
}
_SINGLE_EVENTS = ("ReducedRedundancyLostObject", "LifecycleTransition", "IntelligentTiering", "ObjectAcl:Put")
_VERSION_2_1 = frozenset({"ObjectCreated", "ObjectRemoved", "ObjectRestore", "ReducedRedundancyLostObject"})


class Rule(NamedTuple):
    """One configuration: what is told to whom. `events` are whole names, wildcards resolved."""

    id: str
    target: str
    events: frozenset[str]
    prefix: str = ""
    suffix: str = ""

    def wants(self, event: str, key: str) -> bool:
        return event in self.events and key.startswith(self.prefix) and key.endswith(self.suffix)


def check_notification(document: Mapping[str, object], targets: Collection[str], *, skip_targets: bool = False) -> tuple[Rule, ...]:
    """Return the rules of a configuration, as boto3 names its members. InvalidArgument; NotImplemented for EventBridge."""
    if document.get("EventBridgeConfiguration") is not None:
        raise S3Error("NotImplemented", "EventBridge is not served: name a queue, a topic or a function instead")
    rules = tuple(_rules(document))
    if len(rules) > MAX_CONFIGURATIONS:
        raise _invalid(f"A bucket can have at most {MAX_CONFIGURATIONS} notification configurations")
    if len({rule.id for rule in rules}) < len(rules):
        raise _invalid("Same ID used for multiple configurations. IDs must be unique")
    for rule in rules:
        if rule.target not in targets and not skip_targets:
            known = ", ".join(sorted(targets)) or "none"
            raise _invalid(f"Unable to validate the following destination configurations: {rule.target} (targets: {known})")
    _check_overlap(rules)
    return rules


@lru_cache(maxsize=1024)
def rules_of(setting: str) -> tuple[Rule, ...]:
    """Return the rules of a stored configuration, which was checked when it was put."""
    document = json.loads(setting)
    return tuple(_rules(document))


def message_of(
    *,
    region: str,
    event: str,
    at_ms: int,
    principal: str,
    source_ip: str,
    request_id: str,
    host_id: str,
    configuration: str,
    bucket: str,
    owner: str,
    key: str,
    size: int,
    etag: str,
    version_id: str,
    sequencer: str,
) -> bytes:
    """Return an event as JSON, in AWS's structure."""
    described: dict[str, object] = {"key": quote_plus(key, safe="/")}
    if not event.startswith(("ObjectRemoved", "LifecycleExpiration")):
        described |= {"size": size, "eTag": etag}
    if version_id:
        described["versionId"] = version_id
    record = {
        "eventVersion": "2.1" if event.partition(":")[0] in _VERSION_2_1 else "2.3",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": _time(at_ms),
        "eventName": event,
        "userIdentity": {"principalId": principal or "Anonymous"},
        "requestParameters": {"sourceIPAddress": source_ip},
        "responseElements": {"x-amz-request-id": request_id, "x-amz-id-2": host_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration,
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": owner}, "arn": f"{BUCKET_ARN}{bucket}"},
            "object": {**described, "sequencer": sequencer},
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":")).encode()


def test_message_of(*, bucket: str, at_ms: int, request_id: str, host_id: str) -> bytes:
    """Return what a target hears when a configuration is put that names it."""
    told = {"Service": "Amazon S3", "Event": f"s3:{TEST_EVENT}", "Time": _time(at_ms), "Bucket": bucket}
    return json.dumps({**told, "RequestId": request_id, "HostId": host_id}, separators=(",", ":")).encode()


def _rules(document: Mapping[str, object]) -> Iterator[Rule]:
    for kind, destination in CONFIGURATIONS.items():
        configurations = document.get(kind)
        for configuration in configurations if isinstance(configurations, list) else ():
            yield _rule(configuration, destination)


def _rule(configuration: Mapping[str, object], destination: str) -> Rule:
    events = configuration.get("Events")
    if not isinstance(events, list) or not events:
        raise S3Error("MalformedXML")
    prefix, suffix = _filter(configuration.get("Filter"))
    return Rule(
        id=str(configuration.get("Id", "")),
        target=_target(str(configuration.get(destination, "")), _SERVICES[destination]),
        events=frozenset(name for event in events for name in _event_names(str(event))),
        prefix=prefix,
        suffix=suffix,
    )


def _target(arn: str, service: str) -> str:
    """Return the name that an ARN ends with: arn:PARTITION:sqs:REGION:ACCOUNT:NAME."""
    parts = arn.split(":")
    if len(parts) < 6 or parts[0] != "arn" or parts[2] != service or not parts[-1]:
        raise _invalid("The ARN could not be parsed", name="Arn", value=arn)
    return parts[-1]


def _event_names(event: str) -> tuple[str, ...]:
    name = event.removeprefix("s3:")
    family, _, member = name.partition(":")
    if event.startswith("s3:") and name in _SINGLE_EVENTS:
        return (name,)
    members = _EVENTS.get(family, ()) if event.startswith("s3:") else ()
    if member == "*" and members:
        return tuple(f"{family}:{one}" for one in members)
    if member not in members:
        raise _invalid("A specified event is not supported for notifications.", name="Event", value=event)
    return (name,)


def _filter(document: object) -> tuple[str, str]:
    key = document.get("Key") if isinstance(document, Mapping) else None
    rules = key.get("FilterRules") if isinstance(key, Mapping) else None
    found: dict[str, str] = {}
    for rule in rules if isinstance(rules, list) else ():
        name, value = str(rule.get("Name", "")).lower(), str(rule.get("Value", ""))
        if name not in {"prefix", "suffix"}:
            raise _invalid("filter rule name must be either prefix or suffix", name="FilterRule.Name")
        if name in found:
            raise _invalid(f"Cannot specify more than one {name} rule in a filter.", name="FilterRule.Name")
        if len(value) > MAX_FILTER_CHARACTERS:
            raise _invalid("Size of filter rule value cannot exceed 1024 bytes in UTF-8 encoding", name="FilterRule.Value")
        found[name] = value
    return found.get("prefix", ""), found.get("suffix", "")


def _check_overlap(rules: Collection[Rule]) -> None:
    """S3 tells an event once: two rules that one event of one key could meet are refused."""
    for one, other in combinations(rules, 2):
        prefixes = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
        suffixes = one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
        if one.events & other.events and prefixes and suffixes:
            raise _invalid("Configurations overlap. Configurations on the same bucket cannot share a common event type.")


def _invalid(message: str, *, name: str = "", value: str = "") -> S3Error:
    details = {"ArgumentName": name, "ArgumentValue": value} if name else {}
    return S3Error("InvalidArgument", message, headers=None, **details)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
