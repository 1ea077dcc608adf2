"""Routing: from a request line to one operation of the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.s3.errors import S3Error
from proxy.s3.model import Model, Operation

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}
# Older operations of the model whose request line is that of a newer one.
_SUPERSEDED = {
    "GetBucketLifecycle", "PutBucketLifecycle", "GetBucketNotification", "PutBucketNotification", "ListDirectoryBuckets", "CopyObject",
    "UploadPartCopy", "WriteGetObjectResponse", "CreateSession",
}  # fmt: skip
_ANY_OPERATION = {"x-id"}  # clients repeat the operation's name; it decides nothing


class Target(NamedTuple):
    """What a request is about."""

    bucket: str | None
    key: str | None


def split_target(host: str, raw_path: str, domains: Sequence[str]) -> Target:
    """Find bucket and key: `/bucket/key`, or `bucket.domain` in the host. The key is decoded once and otherwise left as it is."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    path = raw_path.removeprefix("/")
    for domain in domains:
        if name.lower().endswith(f".{domain}"):
            return Target(name[: -len(domain) - 1].lower(), _decode(path) or None)
    bucket, _, key = path.partition("/")
    return Target(_decode(bucket) or None, _decode(key) or None)


class Router:
    """Finds the operation of a request."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._subresources: dict[tuple[str, str], set[str]] = {}
        self._candidates: dict[tuple[str, str], list[Operation]] = {}
        for operation in model.operations.values():
            if operation.name in _SUPERSEDED:
                continue
            slot = self._candidates.setdefault((operation.method, operation.level), [])
            slot.append(operation)
            self._subresources.setdefault(("", operation.level), set()).update(operation.literals)
        for candidates in self._candidates.values():  # the most particular first
            candidates.sort(key=lambda operation: -len(operation.literals) * 10 - len(operation.required_query))

    def route(self, method: str, target: Target, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Operation:
        """Return the operation. What S3 has but not with this method is MethodNotAllowed; a form POST is NotImplemented."""
        level = "service" if target.bucket is None else "bucket" if target.key is None else "object"
        given = dict(query)
        for operation in self._candidates.get((method, level), ()):
            if operation.required_query <= given.keys() and all(
                name in given and (not value or given[name] == value) for name, value in operation.literals.items()
            ):
                if not operation.literals and self._stray(level, given, operation):
                    break
                name = _COPIES.get(operation.name) if "x-amz-copy-source" in headers else None
                return self._model.operations[name] if name else operation
        if method == "POST" and level == "bucket" and not given:
            raise S3Error("NotImplemented", "Browser form uploads are not served")
        raise S3Error("MethodNotAllowed", Method=method, ResourceType=level.upper())

    def _stray(self, level: str, given: Mapping[str, str], operation: Operation) -> bool:
        """Tell whether a sub-resource is named that this plain operation does not know: `?acl` must never reach PutObject."""
        return any(name in self._subresources[("", level)] and name not in operation.query_names for name in given.keys() - _ANY_OPERATION)


def _decode(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise S3Error("InvalidURI", URI=text)
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", URI=text) from None
