"""Object lock: what its documents and headers say, and which of them are none.

Source: Amazon S3 User Guide, "Locking objects with Object Lock", and the API Reference of PutObjectLockConfiguration, PutObjectRetention,
PutObjectLegalHold and PutObject. Whether a locked version may be changed or deleted is not decided here, but in the manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from proxy.s3.errors import S3Error

LockMode: TypeAlias = Literal["GOVERNANCE", "COMPLIANCE"]
HoldStatus: TypeAlias = Literal["ON", "OFF"]

MODE = "x-amz-object-lock-mode"
UNTIL = "x-amz-object-lock-retain-until-date"
HOLD = "x-amz-object-lock-legal-hold"
BYPASS = "x-amz-bypass-governance-retention"
MAX_DAYS = 36_500  # User Guide, "Object Lock considerations": 100 years
MAX_YEARS = 100
_MODES: Mapping[object, LockMode] = {"GOVERNANCE": "GOVERNANCE", "COMPLIANCE": "COMPLIANCE"}
_HOLDS: Mapping[object, HoldStatus] = {"ON": "ON", "OFF": "OFF"}
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{5,18}(Z|[+-][0-9]{2}:?[0-9]{2})?)?")


class DefaultRetention(NamedTuple):
    """What a bucket's configuration gives to objects that come without a retention of their own. One of the periods is 0."""

    mode: LockMode
    days: int = 0
    years: int = 0

    def until_ms(self, created_ms: int) -> int:
        """Return when it ends for an object. A year is one of the calendar; of the 29th of February it ends a day later."""
        if self.days:
            return created_ms + self.days * 24 * 3600 * 1000
        created = datetime.fromtimestamp(created_ms / 1000, UTC)
        try:
            ends = created.replace(year=created.year + self.years)
        except ValueError:
            ends = created.replace(year=created.year + self.years, month=3, day=1)
        return created_ms + (ends - created) // timedelta(milliseconds=1)


class WantedLock(NamedTuple):
    """What the headers of a write ask for."""

    mode: LockMode | None = None
    until_ms: int = 0
    hold: HoldStatus | None = None


NO_LOCK = WantedLock()


def read_configuration(document: Mapping[str, object]) -> DefaultRetention | None:
    """Return the default retention of a PutObjectLockConfiguration, or None without one. MalformedXML, InvalidArgument."""
    if document.get("ObjectLockEnabled") != "Enabled":
        raise S3Error("MalformedXML")
    rule = document.get("Rule")
    if rule is None:
        return None
    retention = rule.get("DefaultRetention") if isinstance(rule, dict) else None
    if not isinstance(retention, dict):
        raise S3Error("MalformedXML")
    _refuse_event_hold(retention, "DefaultEventHold")
    mode, days, years = _MODES.get(retention.get("Mode")), retention.get("Days"), retention.get("Years")
    if mode is None or (days is None) == (years is None):
        raise S3Error("MalformedXML")
    return DefaultRetention(mode, days=_period(days, MAX_DAYS), years=_period(years, MAX_YEARS))


def encode_default(default: DefaultRetention | None) -> str:
    """Return the text that is kept with the bucket."""
    return json.dumps({} if default is None else default._asdict())


@lru_cache(maxsize=1024)
def decode_default(text: str) -> DefaultRetention | None:
    """Read what `encode_default` made. Cached: each write to a bucket with object lock asks."""
    fields = json.loads(text)
    return DefaultRetention(**fields) if fields else None


def read_retention(document: Mapping[str, object], *, now_ms: int) -> tuple[LockMode, int] | None:
    """Return the mode and the end of a PutObjectRetention; None for an empty one, which takes it away. MalformedXML, InvalidArgument."""
    _refuse_event_hold(document, "EventHold", "EventHoldDuration")
    wanted, until = document.get("Mode"), document.get("RetainUntilDate")
    if wanted is None and until is None:
        return None
    mode = _MODES.get(wanted)
    if mode is None or not isinstance(until, datetime):
        raise S3Error("MalformedXML")
    return mode, _in_future(until, now_ms)


def read_hold(document: Mapping[str, object]) -> HoldStatus:
    """Return the status of a PutObjectLegalHold. MalformedXML."""
    status = _HOLDS.get(document.get("Status"))
    if status is None:
        raise S3Error("MalformedXML")
    return status


def asks_for_lock(headers: Mapping[str, str]) -> bool:
    """Tell whether a write has any of the headers. Names are in lower case."""
    return MODE in headers or UNTIL in headers or HOLD in headers


def read_lock_headers(headers: Mapping[str, str], *, now_ms: int) -> WantedLock:
    """Return what a write asks for. InvalidArgument."""
    mode, until, hold = headers.get(MODE), headers.get(UNTIL), headers.get(HOLD)
    if (mode is None) != (until is None):
        raise _invalid(f"{UNTIL} and {MODE} must both be supplied", UNTIL if until is None else MODE, "")
    if hold is not None and hold not in _HOLDS:
        raise _invalid("Legal Hold must be either of 'ON' or 'OFF'", HOLD, hold)
    if mode is None or until is None:
        return WantedLock(hold=_HOLDS.get(hold))
    if mode not in _MODES:
        raise _invalid("Unknown wormMode directive.", MODE, mode)
    return WantedLock(_MODES[mode], _in_future(_date(until), now_ms), _HOLDS.get(hold))


def bypasses_governance(headers: Mapping[str, str]) -> bool:
    """Tell whether a request asks to pass over a retention in governance mode."""
    return headers.get(BYPASS, "").strip().lower() == "true"


def _period(value: object, maximum: int) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or value <= 0:
        raise S3Error("InvalidArgument", "Default retention period must be a positive integer value.")
    if value > maximum:
        raise S3Error("InvalidArgument", f"Default retention period is too large: it can be {MAX_DAYS} days or {MAX_YEARS} years at most.")
    return value


def _date(text: str) -> datetime:
    """Read a header's date. The model takes HTTP's form, too; S3 does not."""
    text = text.strip()
    if not _ISO_DATE.fullmatch(text):
        raise _invalid("The retain until date must be provided in ISO 8601 format", UNTIL, text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid("The retain until date must be provided in ISO 8601 format", UNTIL, text) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _in_future(until: datetime, now_ms: int) -> int:
    until_ms = (until - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    if until_ms <= now_ms:
        raise _invalid("The retain until date must be in the future!", "RetainUntilDate", until.isoformat())
    return until_ms


def _refuse_event_hold(document: Mapping[str, object], *names: str) -> None:
    if any(name in document for name in names):
        raise S3Error("NotImplemented", "Event holds are not served")


def _invalid(message: str, name: str, value: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
