"""Routing: from a request line to one operation of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.s3.errors import S3Error
from proxy.s3.model import Model, Operation

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}
# Operations of the model whose request line is that of another: older forms, copies, and those of other services' hosts.
_SHADOWED = frozenset(
    {
        *_COPIES.values(),
        "GetBucketLifecycle",
        "GetBucketNotification",
        "ListDirectoryBuckets",
        "PutBucketLifecycle",
        "PutBucketNotification",
        "WriteGetObjectResponse",
    }
)
# Query keys of the model's request lines that say how, not what: they are no sub-resources.
_MODES = frozenset({"list-type", "select-type"})
# What names one version or part: a write that cannot mean it must not go on as if it were not there.
_SELECTORS = ("versionId", "uploadId", "partNumber")
# Where one version of ListObjects begins and the other does not, in AWS's words.
_LISTINGS = frozenset({"ListObjects", "ListObjectsV2"})
_PLACES = {
    "continuation-token": "continuation-token only supported in REST.GET.BUCKET with list-type=2",
    "start-after": "startAfter only supported in REST.GET.BUCKET with list-type=2",
    "marker": "Marker unsupported with REST.GET.BUCKET in list-type=2",
}
# What GET says where a listing of a bucket is asked of a key, in AWS's words.
_OF_BUCKETS = {
    "uploads": "Key is not expected for the GET method ?uploads subresource",
    "versions": "There is no such thing as the ?versions sub-resource for a key",
}
_READS = frozenset({"GET", "HEAD"})
_COPY_SOURCE = "x-amz-copy-source"


class Target(NamedTuple):
    """What a request is about."""

    bucket: str | None
    key: str | None


def split_target(hosted: str | None, raw_path: str) -> Target:
    """Find bucket and key: `/bucket/key`, or `/key` if the host names the bucket. The key is decoded once and otherwise left as it is.

    Raises InvalidURI for an escape that is none, and for what is not UTF-8.
    """
    path = raw_path.removeprefix("/")
    if hosted is None and "%" not in path and path.isascii():
        name, _, key = path.partition("/")
        if name and key:
            return Target(name, key)
    if hosted is not None:
        return Target(hosted, _decode(path) or None)
    name, _, key = path.partition("/")
    if key and not name:  # "//key" names no bucket, and is not the service itself either
        raise S3Error("InvalidURI", URI=raw_path)
    return Target(_decode(name) or None, _decode(key) or None)


class Router:
    """Finds the operation of a request."""

    def __init__(self, model: Model) -> None:
        self._plain: dict[tuple[str, str], Operation] = {}
        self._selected: dict[tuple[str, str], list[Operation]] = {}
        self._subresource: dict[tuple[str, str, str], list[Operation]] = {}
        self._copies = {name: model.operations[copy] for name, copy in _COPIES.items()}
        for operation in model.operations.values():
            if operation.name not in _SHADOWED:
                self._add(operation)
        self._subresources = frozenset(name for _, _, name in self._subresource)
        self._known = frozenset(name for one in model.operations.values() for name in (*one.query, *one.literals, *one.required_query))
        for candidates in self._subresource.values():  # the one that asks for most is tried first
            candidates.sort(key=lambda operation: -len(operation.required_query))

    def route(self, method: str, target: Target, query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Operation:
        """Return the operation. What S3 has but not with this method is MethodNotAllowed.

        InvalidArgument for a parameter that S3 has and that is given twice: one reader takes the first, the next one the last.
        """
        if len(query) > 1:
            self._check_given_once(query)
        level = "service" if target.bucket is None else "bucket" if target.key is None else "object"
        if level == "bucket" and method not in _READS:
            _check_key_not_lost(query, headers)
        operation = self._find(method, level, dict(query)) if query else self._plain.get((method, level))
        if operation is None:
            raise self._refusal(method, level)
        if not _has_copy_source(query, headers):
            return operation
        copy = self._copies.get(operation.name)
        if copy is None:
            message = "You can only specify a copy source header for copy requests."
            raise S3Error("InvalidArgument", message, ArgumentName=_COPY_SOURCE, ArgumentValue=headers.get(_COPY_SOURCE, ""))
        return copy

    def _check_given_once(self, query: Sequence[tuple[str, str]]) -> None:
        seen: set[str] = set()
        for name, value in query:
            if name in seen and name in self._known:
                raise S3Error("InvalidArgument", "This parameter must be given once", ArgumentName=name, ArgumentValue=value)
            seen.add(name)

    def _add(self, operation: Operation) -> None:
        slot = operation.method, operation.level
        names = operation.literals.keys() - _MODES
        if names:
            for name in names:
                self._subresource.setdefault((*slot, name), []).append(operation)
        elif operation.literals or operation.required_query:
            self._selected.setdefault(slot, []).append(operation)
        else:
            self._plain[slot] = operation

    def _find(self, method: str, level: str, given: Mapping[str, str]) -> Operation | None:
        named = [name for name in given if name in self._subresources]
        if named:
            return self._find_subresource(method, level, named, given)
        for operation in self._selected.get((method, level), ()):
            if _meant(operation, given):
                _check_places(operation, given)
                return operation
        plain = self._plain.get((method, level))
        if plain is not None and level == "object":
            _check_selectors(plain, given)
        if plain is not None:
            _check_places(plain, given)
        return plain

    def _find_subresource(self, method: str, level: str, named: Sequence[str], given: Mapping[str, str]) -> Operation:
        """`?acl` must never reach PutObject: a sub-resource has its own operation for this method and level, or is refused."""
        if len(named) > 1:
            message = f"Conflicting query string parameters: {', '.join(named)}"
            raise S3Error("InvalidArgument", message, ArgumentName="ResourceType", ArgumentValue=named[0])
        candidates = self._subresource.get((method, level, named[0]))
        if candidates is None and (method, level) == ("GET", "object") and named[0] in _OF_BUCKETS:
            raise S3Error("InvalidRequest", _OF_BUCKETS[named[0]])
        if candidates is None:
            methods = (allowed for allowed, at, name in self._subresource if (at, name) == (level, named[0]))
            raise _not_allowed(method, named[0].upper(), methods)
        return next((operation for operation in candidates if _meant(operation, given)), candidates[-1])

    def _refusal(self, method: str, level: str) -> S3Error:
        return _not_allowed(method, level.upper(), (allowed for allowed, at in self._plain if at == level))


def _check_key_not_lost(query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> None:
    """What names a version, a part or a source is of an object: an empty key must not turn it on the bucket. AWS says the same."""
    if _has_copy_source(query, headers) or any(name in _SELECTORS for name, _ in query):
        raise S3Error("InvalidRequest", "A key must be specified")


def _has_copy_source(query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> bool:
    """Tell whether there is a copy source. A presigned URL may carry it, in either case."""
    return _COPY_SOURCE in headers or (bool(query) and any(name.lower() == _COPY_SOURCE for name, _ in query))


def _decode(text: str) -> str:
    if "%" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise S3Error("InvalidURI", URI=text)
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeError:
        raise S3Error("InvalidURI", URI=text) from None


def _meant(operation: Operation, given: Mapping[str, str]) -> bool:
    """Tell whether the query has all that the operation's request line calls for."""
    return operation.required_query <= given.keys() and all(
        name in given and (not value or given[name] == value) for name, value in operation.literals.items()
    )


def _check_selectors(operation: Operation, given: Mapping[str, str]) -> None:
    if operation.name == "PutObject" and "uploadId" in given and "partNumber" not in given:
        raise _not_allowed("PUT", "UPLOAD", ("DELETE", "GET", "POST"))
    if "partNumber" in given and "partNumber" not in operation.query and "uploadId" not in given:
        message = "This operation does not accept partNumber without uploadId"
        raise S3Error("InvalidArgument", message, ArgumentName="partNumber", ArgumentValue=given["partNumber"])
    for name in _SELECTORS:
        if name in given and name not in operation.query:
            message = "This operation does not accept a version-id." if name == "versionId" else f"This operation does not accept {name}."
            raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=given[name])


def _check_places(operation: Operation, given: Mapping[str, str]) -> None:
    """Where a listing begins must not be passed over: the first page would come again and again."""
    if operation.name not in _LISTINGS:
        return
    for name, message in _PLACES.items():
        if name in given and name not in operation.query:
            raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=given[name])


def _not_allowed(method: str, resource_type: str, allowed: Iterable[str]) -> S3Error:
    """RFC 9110, section 15.5.6: the answer lists the methods that are allowed."""
    headers = {"Allow": ", ".join(sorted(set(allowed)))}
    return S3Error("MethodNotAllowed", headers=headers, Method=method, ResourceType=resource_type)
