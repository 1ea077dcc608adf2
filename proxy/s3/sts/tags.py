"""Tags of sessions: what whoever takes on a role says of itself, for policies to compare (`aws:PrincipalTag`).

A role's trust policy must allow `sts:TagSession` for them. Those that are transitive go along when a session takes on the next role, and
cannot be changed there.

Source: IAM User Guide, "Pass session tags in AWS STS"; STS API Reference, Tag
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from proxy.s3.sts.errors import StsError

MAX_TAGS = 50
_MAX_KEY, _MAX_VALUE = 128, 256
_TEXT = re.compile(r"[\w\s.:/=+@-]*")  # AWS's [\p{L}\p{Z}\p{N}_.:/=+\-@]*


class SessionTags(NamedTuple):
    """Tags by key, as they are written; `transitive` are keys of them."""

    values: Mapping[str, str] = {}
    transitive: frozenset[str] = frozenset()

    def conditions(self) -> dict[str, Sequence[str]]:
        """Return the condition keys that the trust policy may compare, in lower case."""
        said: dict[str, Sequence[str]] = {f"aws:requesttag/{key.lower()}": [value] for key, value in self.values.items()}
        if self.values:
            said["aws:tagkeys"] = list(self.values)
        if self.transitive:
            said["sts:transitivetagkeys"] = sorted(self.transitive)
        return said

    def after(self, before: SessionTags) -> SessionTags:
        """Return the tags of a session that one with the tags `before` makes. ValidationError where these would change what goes along."""
        along = {key: value for key, value in before.values.items() if key in before.transitive}
        changed = {key.lower() for key in along} & {key.lower() for key in self.values}
        if changed:
            raise StsError("ValidationError", f"The tag {min(changed)} goes along from the calling session, and cannot be set")
        return SessionTags({**along, **self.values}, before.transitive | self.transitive)


def read_tags(pairs: Iterable[tuple[str, str]], transitive: Iterable[str]) -> SessionTags:
    """Return tags that are within AWS's bounds. ValidationError."""
    found = list(pairs)
    if len(found) > MAX_TAGS:
        raise StsError("ValidationError", f"A session may have {MAX_TAGS} tags at most")
    if len({key.lower() for key, _ in found}) != len(found):
        raise StsError("ValidationError", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    for key, value in found:
        if not 1 <= len(key) <= _MAX_KEY or len(value) > _MAX_VALUE or not _TEXT.fullmatch(key) or not _TEXT.fullmatch(value):
            raise StsError("ValidationError", f"The tag {key[:_MAX_KEY]!r} has a key or a value that tags of sessions cannot have")
        if key.lower().startswith("aws:"):
            raise StsError("ValidationError", "Keys of tags that begin with aws: are reserved")
    keys = frozenset(transitive)
    if not keys <= {key for key, _ in found}:
        raise StsError("ValidationError", "A transitive tag key must be that of a tag of the request")
    return SessionTags(dict(found), keys)
