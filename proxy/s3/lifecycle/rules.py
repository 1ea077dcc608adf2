"""A lifecycle configuration as it is kept, and as it is told again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec

SETTING = "lifecycle"  # its name among a bucket's settings
DAY_MS = 24 * 3600 * 1000
MinimumSize: TypeAlias = Literal["all_storage_classes_128K", "varies_by_storage_class"]
FilterForm: TypeAlias = Literal["old", "one", "and"]


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which objects a rule is for. `form` is how it was written: `old` is a prefix of the rule itself, `one` a filter of one predicate."""

    form: FilterForm
    prefix: str | None = None
    tags: dict[str, str] = {}
    size_above: int | None = None
    size_below: int | None = None

    @property
    def has_size(self) -> bool:
        return self.size_above is not None or self.size_below is not None

    def takes(self, key: str, size: int, tags: Mapping[str, str]) -> bool:
        """Tell whether the rule is for an object."""
        if self.prefix and not key.startswith(self.prefix):
            return False
        if self.size_above is not None and size <= self.size_above:
            return False
        if self.size_below is not None and size >= self.size_below:
            return False
        return all(tags.get(name) == value for name, value in self.tags.items())


class Transition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """To which class, and when: so many days after the object was made, or on a date."""

    storage_class: str
    days: int | None = None
    date_ms: int | None = None


class NoncurrentTransition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """To which class, so many days after a version became noncurrent; `newer` of those that did so later stay as they are."""

    storage_class: str
    days: int
    newer: int | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule. What is None is no action of it."""

    id: str
    enabled: bool
    filter: Filter
    expiration_days: int | None = None
    expiration_date_ms: int | None = None
    expired_marker: bool | None = None  # remove delete markers that hide nothing
    transitions: tuple[Transition, ...] = ()
    noncurrent_days: int | None = None
    noncurrent_newer: int | None = None
    noncurrent_transitions: tuple[NoncurrentTransition, ...] = ()
    abort_days: int | None = None

    @property
    def expires(self) -> bool:
        return self.expiration_days is not None or self.expiration_date_ms is not None


class Configuration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All rules of a bucket, and from what size on objects are moved to another class where no filter says it."""

    rules: tuple[Rule, ...]
    minimum_size: MinimumSize = "all_storage_classes_128K"

    @property
    def enabled(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.enabled)


def encode_configuration(configuration: Configuration) -> str:
    """Return the text that is kept with the bucket."""
    return msgspec.json.encode(configuration).decode()


@lru_cache(maxsize=256)
def configuration_of(text: str) -> Configuration:
    """Read what `encode_configuration` made. Cached: each request for an object of such a bucket asks."""
    return msgspec.json.decode(text, type=Configuration)


def told_rules(configuration: Configuration) -> list[dict[str, object]]:
    """Return the rules as boto3 names their parts, in the form in which they were given."""
    return [_told(rule) for rule in configuration.rules]


def _told(rule: Rule) -> dict[str, object]:
    told: dict[str, object] = {"ID": rule.id, "Status": "Enabled" if rule.enabled else "Disabled", **_told_filter(rule.filter)}
    if rule.expires or rule.expired_marker is not None:
        told["Expiration"] = {
            "Days": rule.expiration_days,
            "Date": _date(rule.expiration_date_ms),
            "ExpiredObjectDeleteMarker": rule.expired_marker,
        }
    if rule.transitions:
        told["Transitions"] = [
            {"Days": one.days, "Date": _date(one.date_ms), "StorageClass": one.storage_class} for one in rule.transitions
        ]
    if rule.noncurrent_days is not None:
        told["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule.noncurrent_days, "NewerNoncurrentVersions": rule.noncurrent_newer}
    if rule.noncurrent_transitions:
        told["NoncurrentVersionTransitions"] = [
            {"NoncurrentDays": one.days, "StorageClass": one.storage_class, "NewerNoncurrentVersions": one.newer}
            for one in rule.noncurrent_transitions
        ]
    if rule.abort_days is not None:
        told["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_days}
    return told


def _told_filter(found: Filter) -> dict[str, object]:
    if found.form == "old":
        return {"Prefix": found.prefix}
    tags = [{"Key": key, "Value": value} for key, value in found.tags.items()]
    told: dict[str, object] = {
        "Prefix": found.prefix,
        "ObjectSizeGreaterThan": found.size_above,
        "ObjectSizeLessThan": found.size_below,
    }
    if found.form == "and":
        return {"Filter": {"And": {**told, "Tags": tags or None}}}
    return {"Filter": {**told, "Tag": tags[0] if tags else None}}


def _date(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
