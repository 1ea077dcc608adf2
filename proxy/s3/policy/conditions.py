"""Conditions: what a request must say of itself for a statement to be about it.

A condition is an operator, a condition key, and values. One of the values must hold, or, of an operator that negates, none. A key that the
request does not have fails every operator but the negating ones, `Null`, and those that end in `IfExists`. A key with several values is
compared as a set by ForAllValues and ForAnyValue.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators", and "Single-valued vs. multivalued context keys"
"""

from __future__ import annotations

import operator
import re
from base64 import b64decode
from binascii import Error as BadBase64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple, Protocol

from proxy.s3.policy.patterns import Resolve, Template, Token, Wild, literal, read_tokens

Quantifier = Literal["", "ForAllValues", "ForAnyValue"]
Address = IPv4Address | IPv6Address

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:?[0-9]{2}))?"
)
_ARN_PARTS = 6


class Operand(Protocol):
    """A value of a policy, ready to be compared."""

    def holds(self, value: str, resolve: Resolve, /) -> bool:
        """Tell whether a request's value agrees with it. Raises `VariableMissing`."""
        ...


class Condition(NamedTuple):
    """One condition. `key` is in lower case, `values` are as they were written."""

    operator: str  # without quantifier and IfExists, and as if it did not negate
    key: str
    operands: tuple[Operand, ...]
    values: tuple[str, ...]
    negated: bool = False
    if_exists: bool = False
    quantifier: Quantifier = ""

    def holds(self, given: Sequence[str] | None, resolve: Resolve) -> bool:
        """Tell whether it holds of what the request has for its key. Raises `VariableMissing`."""
        if self.operator == _NULL:
            return (given is None) == (self.values[0].lower() == "true")
        if given is None:
            return self.if_exists or self.quantifier == "ForAllValues" or (self.negated and self.quantifier == "")
        if self.quantifier == "ForAllValues":
            return all(self._agrees(value, resolve) for value in given)
        if self.negated and self.quantifier == "":
            return all(self._agrees(value, resolve) for value in given)
        return any(self._agrees(value, resolve) for value in given)

    def _agrees(self, value: str, resolve: Resolve) -> bool:
        return any(operand.holds(value, resolve) for operand in self.operands) is not self.negated


def read_condition(name: str, key: str, values: Sequence[str], *, variables: bool) -> Condition:
    """Read one condition. Raises ValueError for a value that does not fit the operator, which must be one."""
    quantifier, base, if_exists = _split(name)
    positive = _NEGATED.get(base, base)
    if positive == _NULL:
        _check_null(values)
    operands = () if positive == _NULL else tuple(_operand(positive, value, variables=variables) for value in values)
    return Condition(positive, key.lower(), operands, tuple(values), negated=positive != base, if_exists=if_exists, quantifier=quantifier)


def is_operator(name: str) -> bool:
    """Tell whether AWS has a condition operator of this name. Case counts."""
    _, base, if_exists = _split(name)
    if base == _NULL:
        return not if_exists
    return _NEGATED.get(base, base) in (_PATTERNS.keys() | _VALUES.keys())


def _operand(name: str, value: str, *, variables: bool) -> Operand:
    if name in _VALUES:
        return _VALUES[name](value)
    wildcards, make = _PATTERNS[name]
    return make(read_tokens(value, wildcards=wildcards, variables=variables))


def _split(name: str) -> tuple[Quantifier, str, bool]:
    quantifier: Quantifier = ""
    prefixes: tuple[Quantifier, ...] = ("ForAllValues", "ForAnyValue")
    for prefix in prefixes:
        if name.startswith(f"{prefix}:"):
            quantifier, name = prefix, name[len(prefix) + 1 :]
    base = name.removesuffix("IfExists")
    return quantifier, base, base != name


class _Text(NamedTuple):
    tokens: tuple[Token, ...]
    fold: bool  # whether case counts for nothing

    def holds(self, value: str, resolve: Resolve) -> bool:
        wanted = literal(self.tokens, resolve)
        return _folded_value(value) == wanted.casefold() if self.fold else value == wanted


@lru_cache(maxsize=4)
def _folded_value(value: str) -> str:
    """Fold a request's value once for all that it is compared with: it may have kilobytes, and a policy thousands of values."""
    return value.casefold()


class _Like(NamedTuple):
    template: Template

    def holds(self, value: str, resolve: Resolve) -> bool:
        return self.template.matches(value, resolve)


class _Arn(NamedTuple):
    """Each of an ARN's six parts fits on its own: no `*` reaches beyond its colon."""

    parts: tuple[Template, ...]

    def holds(self, value: str, resolve: Resolve) -> bool:
        given = value.split(":", _ARN_PARTS - 1)
        return len(given) == _ARN_PARTS and all(part.matches(text, resolve) for part, text in zip(self.parts, given, strict=True))


class _Number(NamedTuple):
    wanted: Decimal
    compare: Callable[[Decimal, Decimal], bool]

    def holds(self, value: str, _resolve: Resolve) -> bool:
        given = _number(value)
        return given is not None and self.compare(given, self.wanted)


class _Date(NamedTuple):
    wanted: Decimal  # seconds since 1970
    compare: Callable[[Decimal, Decimal], bool]

    def holds(self, value: str, _resolve: Resolve) -> bool:
        given = _seconds(value)
        return given is not None and self.compare(given, self.wanted)


class _Bool(NamedTuple):
    wanted: str

    def holds(self, value: str, _resolve: Resolve) -> bool:
        return value.lower() == self.wanted


class _Binary(NamedTuple):
    wanted: bytes

    def holds(self, value: str, _resolve: Resolve) -> bool:
        return _base64(value) == self.wanted


class _Network(NamedTuple):
    wanted: IPv4Network | IPv6Network

    def holds(self, value: str, _resolve: Resolve) -> bool:
        address = read_address(value)
        return address is not None and address in self.wanted


def read_address(text: str) -> Address | None:
    """Return an address; one of version 4 that is written in version 6 as what it is. None for what is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _text(tokens: tuple[Token, ...]) -> Operand:
    return _Text(tokens, fold=False)


def _folded(tokens: tuple[Token, ...]) -> Operand:
    return _Text(tokens, fold=True)


def _like(tokens: tuple[Token, ...]) -> Operand:
    return _Like(Template(tokens))


def _arn(tokens: tuple[Token, ...]) -> Operand:
    """Take an ARN apart at its colons; those within a variable are its own."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if not isinstance(token, str):
            parts[-1].append(token)
            continue
        first, *rest = token.split(":", _ARN_PARTS - len(parts))
        parts[-1].append(first)
        parts.extend([one] for one in rest)
    if parts == [[Wild(many=True)]]:
        parts *= _ARN_PARTS
    if len(parts) != _ARN_PARTS:
        raise ValueError("an ARN has six parts")
    return _Arn(tuple(Template([token for token in part if token != ""]) for part in parts))


def _numeric(compare: Callable[[Decimal, Decimal], bool]) -> Callable[[str], Operand]:
    def make(value: str) -> Operand:
        wanted = _number(value)
        if wanted is None:
            raise ValueError("no number")
        return _Number(wanted, compare)

    return make


def _dated(compare: Callable[[Decimal, Decimal], bool]) -> Callable[[str], Operand]:
    def make(value: str) -> Operand:
        wanted = _seconds(value)
        if wanted is None:
            raise ValueError("no date")
        return _Date(wanted, compare)

    return make


def _bool(value: str) -> Operand:
    if value.lower() not in {"true", "false"}:
        raise ValueError("neither true nor false")
    return _Bool(value.lower())


def _binary(value: str) -> Operand:
    wanted = _base64(value)
    if wanted is None:
        raise ValueError("no base64")
    return _Binary(wanted)


def _network(value: str) -> Operand:
    return _Network(ip_network(value, strict=False))


def _check_null(values: Sequence[str]) -> None:
    if len(values) != 1 or values[0].lower() not in {"true", "false"}:
        raise ValueError("neither true nor false")


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    except InvalidOperation:
        return None


def _seconds(text: str) -> Decimal | None:
    """Return a date as seconds since 1970: W3C's form of ISO 8601, or the seconds themselves."""
    found = _DATE.fullmatch(text)
    if found is None:
        return _number(text)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    fraction = Decimal(f"0.{found[7]}") if found[7] else Decimal(0)
    return Decimal(int(moment.timestamp()) - _offset_seconds(found[8] or "Z")) + fraction


def _offset_seconds(zone: str) -> int:
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def _base64(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except (BadBase64, ValueError):
        return None


# Those whose values are patterns, and may hold variables: whether `*` and `?` are wildcards there, and what is made of them.
_PATTERNS: Mapping[str, tuple[bool, Callable[[tuple[Token, ...]], Operand]]] = {
    "StringEquals": (False, _text),
    "StringEqualsIgnoreCase": (False, _folded),
    "StringLike": (True, _like),
    "ArnEquals": (True, _arn),  # the same as ArnLike: AWS says so
    "ArnLike": (True, _arn),
}
_VALUES: Mapping[str, Callable[[str], Operand]] = {
    "NumericEquals": _numeric(operator.eq),
    "NumericLessThan": _numeric(operator.lt),
    "NumericLessThanEquals": _numeric(operator.le),
    "NumericGreaterThan": _numeric(operator.gt),
    "NumericGreaterThanEquals": _numeric(operator.ge),
    "DateEquals": _dated(operator.eq),
    "DateLessThan": _dated(operator.lt),
    "DateLessThanEquals": _dated(operator.le),
    "DateGreaterThan": _dated(operator.gt),
    "DateGreaterThanEquals": _dated(operator.ge),
    "Bool": _bool,
    "BinaryEquals": _binary,
    "IpAddress": _network,
}
_NULL = "Null"
_NEGATED: Mapping[str, str] = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
