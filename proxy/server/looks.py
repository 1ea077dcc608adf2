"""Looks: what a read of an object wants to know of the manifest, together with who it is that asks."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.manifest.records import Look, ObjectKey
from proxy.s3.model import Operation
from proxy.s3.naming import MAX_KEY_BYTES
from proxy.s3.routing import Target

_LOOKED_UP = {"GetObject": True, "HeadObject": False}  # and whether its bytes are asked for
READS = frozenset(_LOOKED_UP)
ASKING_MORE = frozenset({"x-amz-server-side-encryption", "content-length", "transfer-encoding"})  # no parameters, and yet looked at


def look_of(operation: Operation, target: Target, query: Sequence[tuple[str, str]]) -> Look | None:
    """Return what to look up together with who asks for it: of what is read most, the newest version."""
    to_read = _LOOKED_UP.get(operation.name)
    if to_read is None or target.key is None or (query and any(name == "versionId" for name, _ in query)):
        return None
    # Nobody has checked the key yet. One that might not be stored in this form is left to whoever does.
    return Look(ObjectKey(target.key), to_read) if target.key.isprintable() and len(target.key) <= MAX_KEY_BYTES else None
