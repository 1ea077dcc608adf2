"""Replication: which versions of a bucket are copied to which other buckets.

Both buckets are of one server and one owner, and keep versions. They may have different placement policies: so a bucket in one jurisdiction
can have a second one in another.

Sources: S3 User Guide, "Replication configuration file elements", "What does Amazon S3 replicate?"; S3 API
reference, "PutBucketReplication".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from proxy.s3.errors import S3Error
from proxy.s3.naming import bucket_of_arn, is_bucket_name
from proxy.s3.tagging import check_tags
from proxy.s3.values import value_at

SETTING = "replication"  # its name among the bucket's settings
ReplicationStatus = Literal["PENDING", "COMPLETED", "FAILED", "REPLICA"]
MAX_RULES = 1000
MAX_ID_CHARACTERS = 255
MAX_PREFIX_CHARACTERS = 1024
MAX_ROLE_CHARACTERS = 2048
MAX_TAGS = 10
MAX_CLASS_CHARACTERS = 64
# What a rule may ask for, and is not done here: (path, the value that is refused; None: any).
_UNSERVED: tuple[tuple[tuple[str, ...], str | None], ...] = (
    (("ExistingObjectReplication", "Status"), "Enabled"),
    (("SourceSelectionCriteria", "ReplicaModifications", "Status"), "Enabled"),
    (("SourceSelectionCriteria", "SseKmsEncryptedObjects", "Status"), "Enabled"),
    (("Destination", "AccessControlTranslation"), None),
    (("Destination", "EncryptionConfiguration"), None),
    (("Destination", "ReplicationTime", "Status"), "Enabled"),
    (("Destination", "Metrics", "Status"), "Enabled"),
)


class Rule(NamedTuple):
    """One rule that is enabled."""

    id: str
    priority: int
    destination: str  # a bucket's name
    storage_class: str  # "": that of the source
    prefix: str
    tags: Mapping[str, str]
    markers: bool  # whether delete markers are copied, too

    def wants(self, key: str, tags: Mapping[str, str]) -> bool:
        return key.startswith(self.prefix) and all(tags.get(name) == value for name, value in self.tags.items())


class Wanted(NamedTuple):
    """Where a version is to be copied."""

    destination: str
    storage_class: str


def check_replication(document: Mapping[str, object]) -> tuple[Rule, ...]:
    """Return the rules that are enabled. MalformedXML, InvalidArgument, InvalidRequest; NotImplemented for what is not done here."""
    if not 1 <= len(str(document.get("Role") or "")) <= MAX_ROLE_CHARACTERS:
        raise S3Error("InvalidArgument", "A replication configuration needs a Role", ArgumentName="Role")
    rules = list(_documents(document))
    if not 1 <= len(rules) <= MAX_RULES:
        raise S3Error("MalformedXML")
    for rule in rules:
        _check_rule(rule)
    ids = [rule["ID"] for rule in rules if rule.get("ID")]
    if len(set(ids)) < len(ids):
        raise S3Error("InvalidArgument", "Rule Id must be unique. Found same Id for more than one rule", ArgumentName="ID")
    priorities = [rule["Priority"] for rule in rules if "Priority" in rule]
    if len(set(priorities)) < len(priorities):
        raise S3Error("InvalidRequest", "Found duplicate priority. Priority must be unique for every rule.")
    if len({"Filter" in rule for rule in rules}) > 1:
        raise S3Error("InvalidRequest", "All rules of a replication configuration must have a Filter, or none of them")
    return tuple(_rules(document))


def destinations_of(document: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the buckets that a checked configuration names, in rules that are disabled, too."""
    return frozenset(_bucket_name(rule) for rule in _documents(document))


@lru_cache(maxsize=1024)
def rules_of(setting: str) -> tuple[Rule, ...]:
    """Return the rules that are enabled, out of a stored configuration, which was checked when it was put."""
    return tuple(_rules(json.loads(setting)))


def wanted_of(rules: tuple[Rule, ...], key: str, tags: Mapping[str, str], *, is_marker: bool = False) -> tuple[Wanted, ...]:
    """Return where a version is to be copied. Of several rules for one bucket, that of the highest priority counts."""
    chosen: dict[str, Rule] = {}
    for rule in rules:
        if rule.wants(key, tags) and rule.priority >= chosen.get(rule.destination, rule).priority:
            chosen[rule.destination] = rule
    return tuple(
        Wanted(rule.destination, rule.storage_class) for rule in chosen.values() if not is_marker or (rule.markers and not rule.tags)
    )


def _documents(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    rules = document.get("Rules")
    for rule in rules if isinstance(rules, list) else ():
        if not isinstance(rule, Mapping):
            raise S3Error("MalformedXML")
        yield rule


def _check_rule(rule: Mapping[str, object]) -> None:
    if rule.get("Status") not in {"Enabled", "Disabled"}:
        raise S3Error("MalformedXML")
    if len(str(rule.get("ID", ""))) > MAX_ID_CHARACTERS:
        raise S3Error("InvalidArgument", f"ID length should not exceed allowed limit of {MAX_ID_CHARACTERS}", ArgumentName="ID")
    if "Filter" in rule:
        if "Prefix" in rule:
            raise S3Error("MalformedXML")
        if "Priority" not in rule:
            raise S3Error("InvalidRequest", "Priority must be specified for this version of Cross Region Replication configuration schema.")
        if value_at(rule, "DeleteMarkerReplication", "Status") not in {"Enabled", "Disabled"}:
            message = "DeleteMarkerReplication must be specified for this version of Cross Region Replication configuration schema."
            raise S3Error("InvalidRequest", message)
        if _tags(rule) and value_at(rule, "DeleteMarkerReplication", "Status") == "Enabled":
            raise S3Error("InvalidRequest", "Delete marker replication is not supported if any Tag filter is specified.")
    for path, refused in _UNSERVED:
        value = value_at(rule, *path)
        if value is not None and (refused is None or refused == value):
            raise S3Error("NotImplemented", f"{'.'.join(path)} is not served")
    if len(_prefix(rule)) > MAX_PREFIX_CHARACTERS:
        raise S3Error("InvalidRequest", f"The maximum size of a prefix is {MAX_PREFIX_CHARACTERS}.")
    check_tags(_tag_rows(rule), limit=MAX_TAGS)
    if len(str(value_at(rule, "Destination", "StorageClass") or "")) > MAX_CLASS_CHARACTERS:
        raise S3Error("MalformedXML")
    if not is_bucket_name(_bucket_name(rule)):
        raise S3Error("InvalidArgument", "Invalid bucket ARN", ArgumentName="Bucket")


def _rules(document: Mapping[str, object]) -> Iterator[Rule]:
    for at, rule in enumerate(_documents(document)):
        if rule.get("Status") == "Enabled":
            priority = rule.get("Priority")
            yield Rule(
                id=str(rule.get("ID", at)),
                priority=priority if isinstance(priority, int) else 0,
                destination=_bucket_name(rule),
                storage_class=str(value_at(rule, "Destination", "StorageClass") or ""),
                prefix=_prefix(rule),
                tags=_tags(rule),
                markers=value_at(rule, "DeleteMarkerReplication", "Status") == "Enabled",
            )


def _prefix(rule: Mapping[str, object]) -> str:
    return str(rule.get("Prefix") or value_at(rule, "Filter", "Prefix") or value_at(rule, "Filter", "And", "Prefix") or "")


def _tags(rule: Mapping[str, object]) -> dict[str, str]:
    return {str(tag.get("Key", "")): str(tag.get("Value", "")) for tag in _tag_rows(rule)}


def _tag_rows(rule: Mapping[str, object]) -> list[Mapping[str, object]]:
    one, several = value_at(rule, "Filter", "Tag"), value_at(rule, "Filter", "And", "Tags")
    return [one] if isinstance(one, Mapping) else several if isinstance(several, list) else []


def _bucket_name(rule: Mapping[str, object]) -> str:
    """Return the name of a destination, or "" if its ARN is none."""
    return bucket_of_arn(str(value_at(rule, "Destination", "Bucket") or ""))
