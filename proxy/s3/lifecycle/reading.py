"""Reading a lifecycle configuration: from a document to rules, or the error that S3 has for it.

Source: Amazon S3 User Guide, "Lifecycle configuration elements", and the API Reference of PutBucketLifecycleConfiguration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from proxy.s3.errors import S3Error
from proxy.s3.lifecycle.rules import (
    DAY_MS,
    Configuration,
    Filter,
    FilterForm,
    MinimumSize,
    NoncurrentTransition,
    Rule,
    Transition,
)  # fmt: skip
from proxy.s3.tagging import MAX_OBJECT_TAGS, check_tags

MAX_RULES = 1000
MAX_ID_LENGTH = 255
MAX_PREFIX_LENGTH = 1024
MAX_NEWER = 100
MIN_DAYS = {"STANDARD_IA": 30, "ONEZONE_IA": 30}  # S3 moves nothing there earlier
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINIMUM_SIZES: Mapping[str | None, MinimumSize] = {
    None: "all_storage_classes_128K",
    "all_storage_classes_128K": "all_storage_classes_128K",
    "varies_by_storage_class": "varies_by_storage_class",
}
_PREDICATES = ("Prefix", "Tag", "Tags", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
Element = Mapping[str, object]


def read_configuration(document: Element, *, minimum_size: str | None, storage_classes: Collection[str]) -> Configuration:
    """Return the configuration of a PutBucketLifecycleConfiguration. `storage_classes` are those that a transition may name.

    MalformedXML, InvalidArgument, InvalidRequest, InvalidStorageClass.
    """
    elements = _elements(document, "Rules")
    if not elements:
        raise S3Error("MalformedXML")
    if len(elements) > MAX_RULES:
        raise S3Error("InvalidRequest", f"The number of lifecycle rules must not exceed the allowed limit of {MAX_RULES} rules")
    if minimum_size not in _MINIMUM_SIZES:
        raise S3Error("InvalidArgument", "The minimum object size for transitions is not valid", ArgumentValue=str(minimum_size))
    rules = tuple(_rule(element, storage_classes) for element in elements)
    _check_together(rules)
    return Configuration(rules=rules, minimum_size=_MINIMUM_SIZES[minimum_size])


def _rule(element: Element, storage_classes: Collection[str]) -> Rule:
    status = element.get("Status")
    if status not in {"Enabled", "Disabled"}:
        raise S3Error("MalformedXML")
    expiration, noncurrent, abort = (
        _element(element, name) for name in ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    )
    rule = Rule(
        id=_id(element.get("ID")),
        enabled=status == "Enabled",
        filter=_filter(element),
        expiration_days=_positive(expiration, "Days", "Expiration"),
        expiration_date_ms=_midnight(expiration),
        expired_marker=_flag(expiration),
        transitions=tuple(_transition(one, storage_classes) for one in _elements(element, "Transitions")),
        noncurrent_days=_positive(noncurrent, "NoncurrentDays", "NoncurrentVersionExpiration"),
        noncurrent_newer=_newer(noncurrent, "NoncurrentVersionExpiration"),
        noncurrent_transitions=tuple(
            _noncurrent_transition(one, storage_classes) for one in _elements(element, "NoncurrentVersionTransitions")
        ),
        abort_days=_positive(abort, "DaysAfterInitiation", "AbortIncompleteMultipartUpload"),
    )
    _check_actions(rule, expiration, noncurrent, abort)
    _check_filter_of(rule)
    _check_order(rule)
    return rule


def _id(value: object) -> str:
    text = str(value or "")
    if len(text) > MAX_ID_LENGTH:
        raise S3Error("InvalidArgument", f"ID length should not exceed allowed limit of {MAX_ID_LENGTH}")
    return text


def _filter(element: Element) -> Filter:
    """Read the filter, or the prefix that stood for it before there were filters. A rule has one of the two."""
    inner = _element(element, "Filter")
    if (inner is None) == ("Prefix" not in element):
        raise S3Error("MalformedXML")
    if inner is None:
        return _predicates("old", {"Prefix": element["Prefix"]})
    combined = _element(inner, "And")
    given = [name for name in _PREDICATES if name in inner]
    if combined is None:
        if len(given) > 1:
            raise S3Error("MalformedXML")
        return _predicates("one", inner)
    tags = _elements(combined, "Tags")
    if given or sum(name in combined for name in _PREDICATES if name != "Tags") + len(tags) < 2:
        raise S3Error("MalformedXML")
    return _predicates("and", combined)


def _predicates(form: FilterForm, element: Element) -> Filter:
    prefix = element.get("Prefix")
    tag = _element(element, "Tag")
    above, below = _size(element, "ObjectSizeGreaterThan"), _size(element, "ObjectSizeLessThan")
    if prefix is not None and len(str(prefix)) > MAX_PREFIX_LENGTH:
        raise S3Error("InvalidRequest", f"The maximum size of a prefix is {MAX_PREFIX_LENGTH}.")
    if above is not None and below is not None and below <= above:
        raise S3Error("InvalidRequest", "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
    tags = check_tags([tag] if tag is not None else _elements(element, "Tags"), limit=MAX_OBJECT_TAGS)
    return Filter(form=form, prefix=None if prefix is None else str(prefix), tags=tags, size_above=above, size_below=below)


def _size(element: Element, name: str) -> int | None:
    value = element.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or value < (name == "ObjectSizeLessThan"):
        raise S3Error("InvalidRequest", f"'{name}' is not a size that an object may have.")
    return value


def _positive(element: Element | None, name: str, action: str) -> int | None:
    value = None if element is None else element.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or value < 1:
        raise S3Error("InvalidArgument", f"'{name}' for {action} action must be a positive integer")
    return value


def _newer(element: Element | None, action: str) -> int | None:
    value = _positive(element, "NewerNoncurrentVersions", action)
    if value is not None and value > MAX_NEWER:
        raise S3Error("InvalidArgument", f"'NewerNoncurrentVersions' for {action} action must be less than or equal to {MAX_NEWER}")
    return value


def _midnight(element: Element | None) -> int | None:
    moment = None if element is None else element.get("Date")
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise S3Error("MalformedXML")
    ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    if ms % DAY_MS:
        raise S3Error("InvalidArgument", "'Date' must be at midnight GMT")
    return ms


def _flag(element: Element | None) -> bool | None:
    value = None if element is None else element.get("ExpiredObjectDeleteMarker")
    return value if isinstance(value, bool) else None


def _transition(element: Element, storage_classes: Collection[str]) -> Transition:
    days, date_ms, name = element.get("Days"), _midnight(element), _storage_class(element, storage_classes)
    if (days is None) == (date_ms is None):
        raise S3Error("MalformedXML")
    return Transition(storage_class=name, days=None if days is None else _class_days(days, "Days", "Transition", name), date_ms=date_ms)


def _noncurrent_transition(element: Element, storage_classes: Collection[str]) -> NoncurrentTransition:
    days, action = element.get("NoncurrentDays"), "NoncurrentVersionTransition"
    if days is None:
        raise S3Error("MalformedXML")
    name = _storage_class(element, storage_classes)
    return NoncurrentTransition(storage_class=name, days=_class_days(days, "NoncurrentDays", action, name), newer=_newer(element, action))


def _class_days(days: object, element: str, action: str, storage_class: str) -> int:
    if not isinstance(days, int) or days < 0:
        raise S3Error("InvalidArgument", f"'{element}' in {action} action must be nonnegative")
    least = MIN_DAYS.get(storage_class, 0)
    if days < least:
        message = f"'{element}' in {action} action must be greater than or equal to {least} for storageClass '{storage_class}'"
        raise S3Error("InvalidArgument", message)
    return days


def _storage_class(element: Element, storage_classes: Collection[str]) -> str:
    name = element.get("StorageClass")
    if not isinstance(name, str) or name == "STANDARD":
        raise S3Error("MalformedXML")
    if name not in storage_classes:
        known = ", ".join(sorted(storage_classes)) or "none"
        raise S3Error("InvalidStorageClass", f"The bucket's policy does not have this class; it has: {known}", StorageClassRequested=name)
    return name


def _check_actions(rule: Rule, expiration: Element | None, noncurrent: Element | None, abort: Element | None) -> None:
    """Each action says when, once, and there is one at least."""
    if expiration is not None:
        said = (rule.expiration_days, rule.expiration_date_ms, rule.expired_marker)
        if sum(part is not None for part in said) != 1:
            raise S3Error("MalformedXML")
    if (noncurrent is not None and rule.noncurrent_days is None) or (abort is not None and rule.abort_days is None):
        raise S3Error("MalformedXML")
    if all(part is None for part in (expiration, noncurrent, abort)) and not rule.transitions and not rule.noncurrent_transitions:
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule")


def _check_filter_of(rule: Rule) -> None:
    """Markers and uploads have neither tags nor a size; how many newer versions are kept can be said with a filter only."""
    for action, given in (
        ("ExpiredObjectDeleteMarker", rule.expired_marker is not None),
        ("AbortIncompleteMultipartUpload", rule.abort_days is not None),
    ):
        if given and rule.filter.tags:
            raise S3Error("InvalidRequest", f"{action} cannot be specified with Tags.")
        if given and rule.filter.has_size:
            raise S3Error("InvalidRequest", f"{action} cannot be specified with Object Size.")
    counts = rule.noncurrent_newer is not None or any(one.newer is not None for one in rule.noncurrent_transitions)
    if counts and rule.filter.form == "old":
        raise S3Error("InvalidRequest", "NewerNoncurrentVersions must be specified with a Filter element")


def _check_order(rule: Rule) -> None:
    """Within a rule all is by days or all by dates, each class comes once, and an object moves before it expires."""
    prefix = rule.filter.prefix or ""
    by_days = rule.expiration_days is not None or any(one.days is not None for one in rule.transitions)
    by_date = rule.expiration_date_ms is not None or any(one.date_ms is not None for one in rule.transitions)
    if by_days and by_date:
        message = f"Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule for prefix '{prefix}'"
        raise S3Error("InvalidRequest", message)
    current, noncurrent = rule.transitions, rule.noncurrent_transitions
    _check_classes("Transition", [one.storage_class for one in current])
    _check_classes("NoncurrentVersionTransition", [one.storage_class for one in noncurrent])
    _check_later("Days", "Expiration", "Transition", prefix, rule.expiration_days, [one.days for one in current])
    _check_later("Date", "Expiration", "Transition", prefix, rule.expiration_date_ms, [one.date_ms for one in current])
    days = [one.days for one in noncurrent]
    _check_later("NoncurrentDays", "NoncurrentVersionExpiration", "NoncurrentVersionTransition", prefix, rule.noncurrent_days, days)


def _check_classes(action: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise S3Error("InvalidRequest", f"'StorageClass' must be different for '{action}' actions in same 'Rule'")


def _check_later(unit: str, last: str, first: str, prefix: str, ends: int | None, moves: Sequence[int | None]) -> None:
    if ends is not None and any(moved is not None and moved >= ends for moved in moves):
        message = f"'{unit}' in the {last} action for prefix '{prefix}' must be greater than '{unit}' in the {first} action"
        raise S3Error("InvalidArgument", message)


def _check_together(rules: Sequence[Rule]) -> None:
    if len({rule.id for rule in rules}) != len(rules):
        raise S3Error("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
    old = [rule.filter.prefix for rule in rules if rule.filter.form == "old"]
    twice = [prefix for prefix, count in Counter(old).items() if count > 1]
    if twice:
        raise S3Error("InvalidRequest", f"Found two rules with same prefix '{twice[0]}'")


def _element(element: Element, name: str) -> Element | None:
    value = element.get(name)
    return value if isinstance(value, dict) else None


def _elements(element: Element, name: str) -> list[Element]:
    value = element.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
