"""Whether the conditions of a write hold: asked before its body is read, where that can be known, and again in the commit."""

from __future__ import annotations

from proxy.errors import PreconditionUnmet
from proxy.manifest.drafts import Conditions
from proxy.manifest.records import Version


def check_conditions(current: Version | None, conditions: Conditions) -> None:
    """Hold a write's conditions against what is there: None, or a delete marker, is no object."""
    if current is not None and current.is_delete_marker:
        current = None
    if conditions.if_match is not None:
        if current is None:
            raise PreconditionUnmet("If-Match: there is no object", missing=True)
        if conditions.if_match not in {"*", current.etag}:
            raise PreconditionUnmet("If-Match")
    if current is None:
        return
    if conditions.if_none_match is not None:
        raise PreconditionUnmet("If-None-Match")
    if conditions.if_modified_at not in {None, current.modified_ms // 1000}:
        raise PreconditionUnmet("x-amz-if-match-last-modified-time")
    if conditions.if_size not in {None, current.size}:
        raise PreconditionUnmet("x-amz-if-match-size")
