"""Cross-origin requests: a bucket's CORS rules, checked when they are put, and matched when a browser asks.

A browser first asks with OPTIONS whether it may send a request (a preflight), without a signature. Other requests that name their Origin
are answered like any; headers of the first rule that matches let the browser's script see the answer.
Source: Amazon S3 API Reference, PutBucketCors, CORSRule; User Guide, "Using cross-origin resource sharing (CORS)", "Troubleshooting CORS".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from proxy.s3.errors import S3Error
from proxy.s3.routing import Target

MAX_RULES = 100
MAX_CONFIGURATION_BYTES = 64 * 1024
MAX_ID_LENGTH = 255
MAX_REQUESTED_HEADERS = 100  # a head of 8 KiB has room for thousands, each of which is held against every pattern of every rule
_METHODS = frozenset({"GET", "PUT", "HEAD", "POST", "DELETE"})
_MAX_INTEGER = 2**31 - 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REMEMBERED = 64  # configurations: a parsed one takes up to half a MiB
_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
_NOT_ALLOWED = (
    "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / "
    "Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec."
)


class Patterns(NamedTuple):
    """Texts with at most one wildcard each: those without one, and of the others what stands before it, with all that stands behind it.

    A stranger's preflight has a hundred names, and a tenant's rules thousands of patterns: what begins alike is looked up, and not tried.
    """

    exact: frozenset[str]
    wild: Mapping[str, tuple[str, ...]]
    lengths: tuple[int, ...]  # of what stands before a wildcard

    def match(self, text: str) -> bool:
        return text in self.exact or any(text[length:].endswith(self.wild.get(text[:length], ())) for length in self.lengths)


class Rule(NamedTuple):
    """One CORSRule, ready to be matched."""

    origins: Patterns
    methods: tuple[str, ...]
    headers: Patterns  # in lower case
    exposed: tuple[str, ...]
    max_age_seconds: int | None

    @property
    def any_origin(self) -> bool:
        return "" in self.origins.wild.get("", ())


def cors_document(rules: Sequence[Mapping[str, object]]) -> str:
    """Return the text to keep of the rules, as boto3 names them. MalformedXML or InvalidRequest, in S3's words, for what cannot be one."""
    if not rules:
        raise S3Error("MalformedXML")
    if len(rules) > MAX_RULES:
        raise S3Error("InvalidRequest", f"The number of CORS rules should not exceed allowed limit of {MAX_RULES} rules.")
    for rule in rules:
        _check_rule(rule)
    text = json.dumps(rules, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_CONFIGURATION_BYTES:
        raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=MAX_CONFIGURATION_BYTES)
    return text


@lru_cache(_REMEMBERED)
def parse_rules(document: str) -> tuple[Rule, ...]:
    """Read what `cors_document` wrote."""
    return tuple(
        Rule(
            origins=_patterns(rule["AllowedOrigins"]),
            methods=tuple(rule["AllowedMethods"]),
            headers=_patterns(name.lower() for name in rule.get("AllowedHeaders", ())),
            exposed=tuple(rule.get("ExposeHeaders", ())),
            max_age_seconds=rule.get("MaxAgeSeconds"),
        )
        for rule in json.loads(document)
    )


def preflight_headers(
    rules: Sequence[Rule] | None, target: Target, headers: Mapping[str, str], *, has_bucket: bool = True
) -> dict[str, str]:
    """Return what a preflight is answered with. BadRequest, AccessForbidden. Without a bucket there are no rules (None), either."""
    if "origin" not in headers:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    method = headers.get("access-control-request-method")
    if rules is None:
        message = "CORSResponse: CORS is not enabled for this bucket." if has_bucket else "CORSResponse: Bucket not found"
        raise S3Error("AccessForbidden", message, Method=method or "OPTIONS", ResourceType="BUCKET")
    if method not in _METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {'null' if method is None else method}")
    allowed = cross_origin_headers(rules, method, headers)
    if not allowed:
        raise S3Error("AccessForbidden", _NOT_ALLOWED, Method=method, ResourceType="BUCKET" if target.key is None else "OBJECT")
    return allowed


def cross_origin_headers(rules: Sequence[Rule], method: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return what the first rule that matches adds to an answer; nothing if none does. Names are in lower case.

    What a request says it is about to do counts more than what it does, as on S3: the header, and not the request line.
    """
    origin = headers["origin"]
    method = headers.get("access-control-request-method", method)
    names = _names(headers.get("access-control-request-headers", ""))
    if len(names) > MAX_REQUESTED_HEADERS:
        return {}
    for rule in rules:
        if method in rule.methods and rule.origins.match(origin) and all(rule.headers.match(name) for name in names):
            return _answer(rule, origin, names)
    return {}


def _answer(rule: Rule, origin: str, names: Iterable[str]) -> dict[str, str]:
    answer = {"Access-Control-Allow-Origin": "*" if rule.any_origin else origin, "Access-Control-Allow-Methods": ", ".join(rule.methods)}
    if names:
        answer["Access-Control-Allow-Headers"] = ", ".join(names)
    if rule.exposed:
        answer["Access-Control-Expose-Headers"] = ", ".join(rule.exposed)
    if rule.max_age_seconds is not None:
        answer["Access-Control-Max-Age"] = str(rule.max_age_seconds)
    if not rule.any_origin:
        answer["Access-Control-Allow-Credentials"] = "true"
    answer["Vary"] = _VARY
    return answer


def _names(text: str) -> tuple[str, ...]:
    """Return the names of a list in lower case, each once. Empty items are ignored: RFC 9110, section 5.6.1."""
    return tuple(dict.fromkeys(name for item in text.lower().split(",") if (name := item.strip())))


def _check_rule(rule: Mapping[str, object]) -> None:
    methods, origins = _texts(rule, "AllowedMethods"), _texts(rule, "AllowedOrigins")
    if not methods or not origins:
        raise S3Error("MalformedXML")
    for method in methods:
        if method not in _METHODS:
            raise S3Error("InvalidRequest", f"Found unsupported HTTP method in CORS config. Unsupported method is {method}")
    _check_wildcards("AllowedOrigin", origins)
    _check_wildcards("AllowedHeader", _texts(rule, "AllowedHeaders"))
    for name in _texts(rule, "ExposeHeaders"):
        _check_exposed(name)
    if len(str(rule.get("ID", ""))) > MAX_ID_LENGTH:
        raise S3Error("InvalidRequest", f"ID length should not exceed allowed limit of {MAX_ID_LENGTH}")
    seconds = rule.get("MaxAgeSeconds", 0)
    if not isinstance(seconds, int) or not 0 <= seconds <= _MAX_INTEGER:
        raise S3Error("MalformedXML")


def _check_wildcards(element: str, texts: Iterable[str]) -> None:
    for text in texts:
        if text.count("*") > 1:
            raise S3Error("InvalidRequest", f'{element} "{text}" can not have more than one wildcard.')


def _check_exposed(name: str) -> None:
    """S3 takes any text; here it must not end the header that it becomes part of."""
    if "*" in name:
        message = f'ExposeHeader "{name}" contains wildcard. We currently do not support wildcard for ExposeHeader.'
        raise S3Error("InvalidRequest", message)
    if _CONTROL.search(name):
        raise S3Error("InvalidRequest", f'ExposeHeader "{name}" is no name of a header.')


def _texts(rule: Mapping[str, object], name: str) -> list[str]:
    values = rule.get(name)
    return [str(value) for value in values] if isinstance(values, list) else []


def _patterns(texts: Iterable[str]) -> Patterns:
    exact, wild = set[str](), dict[str, list[str]]()
    for text in texts:
        before, star, behind = text.partition("*")
        if star:
            wild.setdefault(before, []).append(behind)
        else:
            exact.add(text)
    lengths = tuple(sorted({len(before) for before in wild}))
    return Patterns(frozenset(exact), {before: tuple(behind) for before, behind in wild.items()}, lengths)
