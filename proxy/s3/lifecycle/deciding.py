"""What becomes of a version under the rules of its bucket, at a moment: decided purely, from what is known of it.

A number of days counts from when a version was made, or from when it became noncurrent, and ends at the next midnight UTC after that. Where
several rules want different things at once, what deletes for good comes first, then a move to another class, then a delete marker. Of moves
the one that was due last counts, and no version comes back from a class that S3 holds to be colder.

Source: Amazon S3 User Guide, "Lifecycle configuration elements", "Examples of S3 Lifecycle configurations: overlapping filters", and
"Transitioning objects using Amazon S3 Lifecycle".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal, NamedTuple
from urllib.parse import quote

from proxy.s3.lifecycle.rules import DAY_MS, Configuration, Rule

SMALL = 128 * 1024  # smaller objects are not moved, unless a filter says so
_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # of which small ones are, where that varies by class
_COLDNESS = ("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
_RANK = {name: rank for rank, name in enumerate(_COLDNESS)}
NEVER = -1
ALWAYS = 1 << 62


class Facts(NamedTuple):
    """What is known of a version."""

    key: str
    size: int
    tags: Mapping[str, str]
    storage_class: str
    modified_ms: int
    is_latest: bool
    is_marker: bool
    is_alone: bool  # its key has no other version
    versioned: bool  # its bucket has, or had, versioning
    noncurrent_ms: int = 0  # when the next newer version was made
    newer_noncurrent: int = 0  # how many versions of its key became noncurrent after it


class Decision(NamedTuple):
    """What to do. `expire`: as a DELETE without a version id does. `remove`: for good. `move`: to another storage class."""

    action: Literal["expire", "remove", "move"]
    rule_id: str
    storage_class: str = ""


class Horizons(NamedTuple):
    """Versions from this moment on, of each kind, have nothing to fear yet, whatever else is known of them."""

    current_ms: int
    noncurrent_ms: int
    marker_ms: int


def due_ms(since_ms: int, days: int) -> int:
    """Return the midnight UTC after so many days."""
    return (since_ms // DAY_MS + days + 1) * DAY_MS


def decide(configuration: Configuration, facts: Facts, now_ms: int) -> Decision | None:
    """Return what is to be done with a version now."""
    rules = [rule for rule in configuration.enabled if rule.filter.takes(facts.key, facts.size, facts.tags)]
    if facts.is_marker and facts.is_latest:
        return _decide_marker(rules, facts, now_ms) if facts.is_alone else None
    if not facts.is_latest:
        return _decide_noncurrent(configuration, rules, facts, now_ms)
    expiring = _expiring(rules, facts.modified_ms, now_ms)
    moved = _latest_move(configuration, facts, _moves(rules, facts), now_ms)
    if expiring is not None and not (facts.versioned and moved is not None):
        return Decision("expire", expiring.id)
    return moved


def horizons(configuration: Configuration, today: int) -> Horizons:
    """Return the horizons on a day since 1970. A walk holds each version against them before it looks at more of it."""
    current, noncurrent, marker = NEVER, NEVER, NEVER
    for rule in configuration.enabled:
        dates = (rule.expiration_date_ms, *(one.date_ms for one in rule.transitions))
        has_come = any(date is not None and date <= today * DAY_MS for date in dates)
        reach = ALWAYS if has_come else _reach(today, [rule.expiration_days, *(one.days for one in rule.transitions)])
        current = max(current, reach)
        noncurrent = max(noncurrent, _reach(today, [rule.noncurrent_days, *(one.days for one in rule.noncurrent_transitions)]))
        marker = max(marker, ALWAYS if rule.expired_marker else _reach(today, [rule.expiration_days]))
    return Horizons(current, noncurrent, marker)


def prefixes(configuration: Configuration) -> tuple[bytes, ...]:
    """Return the beginnings of keys that some rule is for, in order, none of them a beginning of another; one empty one stands for all."""
    wanted = sorted({(rule.filter.prefix or "").encode() for rule in configuration.enabled if _is_of_versions(rule)})
    kept: list[bytes] = []
    for prefix in wanted:
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def abort_at(configuration: Configuration, key: str, initiated_ms: int) -> tuple[int, str] | None:
    """Return when an upload is aborted, and by which rule; None if by none."""
    found = [
        (due_ms(initiated_ms, rule.abort_days), rule.id)
        for rule in configuration.enabled
        if rule.abort_days is not None and key.startswith(rule.filter.prefix or "")
    ]
    return min(found, default=None)


def aborts(configuration: Configuration) -> bool:
    """Tell whether any upload is ever aborted."""
    return any(rule.abort_days is not None for rule in configuration.enabled)


def expiry_header(configuration: Configuration, key: str, size: int, tags: Mapping[str, str], modified_ms: int) -> str | None:
    """Return `x-amz-expiration` of a current version: the first date on which a rule expires it."""
    dates = [
        (_expires_ms(rule, modified_ms), rule.id) for rule in configuration.enabled if rule.expires and rule.filter.takes(key, size, tags)
    ]
    if not dates:
        return None
    ms, rule_id = min(dates)
    return f'expiry-date="{format_datetime(datetime.fromtimestamp(ms / 1000, UTC), usegmt=True)}", rule-id="{quote(rule_id)}"'


def _is_of_versions(rule: Rule) -> bool:
    return bool(rule.expires or rule.expired_marker or rule.transitions or rule.noncurrent_days or rule.noncurrent_transitions)


def _reach(today: int, days: Sequence[int | None]) -> int:
    """Return the moment before which a version must have been made to be due after the fewest of these days."""
    return max(((today - count) * DAY_MS for count in days if count is not None), default=NEVER)


def _expires_ms(rule: Rule, modified_ms: int) -> int:
    if rule.expiration_days is not None:
        return due_ms(modified_ms, rule.expiration_days)
    return rule.expiration_date_ms or 0


def _expiring(rules: Sequence[Rule], modified_ms: int, now_ms: int) -> Rule | None:
    return next((rule for rule in rules if rule.expires and _expires_ms(rule, modified_ms) <= now_ms), None)


def _decide_marker(rules: Sequence[Rule], facts: Facts, now_ms: int) -> Decision | None:
    """A marker that hides nothing goes at once if a rule says so, or when it is as old as an object would have to be."""
    for rule in rules:
        aged = rule.expiration_days is not None and due_ms(facts.modified_ms, rule.expiration_days) <= now_ms
        if rule.expired_marker or aged:
            return Decision("remove", rule.id)
    return None


def _decide_noncurrent(configuration: Configuration, rules: Sequence[Rule], facts: Facts, now_ms: int) -> Decision | None:
    for rule in rules:
        if (
            rule.noncurrent_days is not None
            and due_ms(facts.noncurrent_ms, rule.noncurrent_days) <= now_ms
            and facts.newer_noncurrent >= (rule.noncurrent_newer or 0)
        ):
            return Decision("remove", rule.id)
    if facts.is_marker:
        return None
    return _latest_move(configuration, facts, _noncurrent_moves(rules, facts), now_ms)


class _Move(NamedTuple):
    """A move that a rule wants, and when. Compared in this order."""

    due_ms: int
    rank: int
    storage_class: str
    rule: Rule


def _moves(rules: Sequence[Rule], facts: Facts) -> Iterator[_Move]:
    for rule in rules:
        for one in rule.transitions:
            when = one.date_ms if one.days is None else due_ms(facts.modified_ms, one.days)
            yield _Move(when or 0, _RANK.get(one.storage_class, len(_RANK)), one.storage_class, rule)


def _noncurrent_moves(rules: Sequence[Rule], facts: Facts) -> Iterator[_Move]:
    for rule in rules:
        for one in rule.noncurrent_transitions:
            if facts.newer_noncurrent >= (one.newer or 0):
                when = due_ms(facts.noncurrent_ms, one.days)
                yield _Move(when, _RANK.get(one.storage_class, len(_RANK)), one.storage_class, rule)


def _latest_move(configuration: Configuration, facts: Facts, moves: Iterator[_Move], now_ms: int) -> Decision | None:
    due = [move for move in moves if move.due_ms <= now_ms and _is_large_enough(configuration, facts, move)]
    if not due:
        return None
    last = max(due, key=lambda move: move[:3])
    if last.storage_class == facts.storage_class or _is_warmer(last.storage_class, facts.storage_class):
        return None
    return Decision("move", last.rule.id, last.storage_class)


def _is_large_enough(configuration: Configuration, facts: Facts, move: _Move) -> bool:
    if facts.size >= SMALL or move.rule.filter.has_size:
        return True
    return configuration.minimum_size == "varies_by_storage_class" and move.storage_class in _ARCHIVES


def _is_warmer(wanted: str, present: str) -> bool:
    return wanted in _RANK and present in _RANK and _RANK[wanted] < _RANK[present]
