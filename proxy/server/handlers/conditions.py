"""Under what conditions a request is meant: of a read, of a copy's source, of a write."""

from __future__ import annotations

from typing import Literal

from proxy.manifest.drafts import NO_CONDITIONS, Conditions
from proxy.s3.errors import S3Error
from proxy.s3.preconditions import ReadConditions
from proxy.server.call import Call

_IF_MATCH, _IF_NONE_MATCH = "if-match", "if-none-match"
WRITE_CONDITIONS = frozenset({_IF_MATCH, _IF_NONE_MATCH})


def read_conditions(call: Call, of: Literal["", "CopySource"] = "") -> ReadConditions:
    """Return the conditions on the object that is read, or on the source of a copy."""
    return ReadConditions(
        if_match=call.text(f"{of}IfMatch"),
        if_none_match=call.text(f"{of}IfNoneMatch"),
        if_modified_since=call.moment(f"{of}IfModifiedSince"),
        if_unmodified_since=call.moment(f"{of}IfUnmodifiedSince"),
    )


def write_conditions(call: Call) -> Conditions:
    """Return If-Match or If-None-Match of a write. S3 knows no If-None-Match but "*" there, and not both at once."""
    if_match, if_none_match = call.headers.get(_IF_MATCH), call.headers.get(_IF_NONE_MATCH)
    if if_match is None and if_none_match is None:
        return NO_CONDITIONS
    if if_none_match is not None and if_none_match.strip() != "*":
        raise S3Error("NotImplemented", Header="If-None-Match", additionalMessage='On writes only "*" is served')
    if if_match is not None and if_none_match is not None:
        raise S3Error("NotImplemented", Header="If-Match,If-None-Match", additionalMessage="Multiple conditional request headers present")
    return Conditions(
        if_match=None if if_match is None else if_match.strip().strip('"'),
        if_none_match=None if if_none_match is None else "*",
    )
