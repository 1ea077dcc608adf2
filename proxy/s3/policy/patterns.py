"""Patterns of policies: `*` and `?`, and the variables that stand in them.

The problem: whoever writes a policy chooses the pattern, and whoever sends a request the text. Trying each way to match, as regular
expressions do, lets 20 KiB of policy cost a second a request.

The idea: between two `*` stands a segment of fixed length. The leftmost place where it fits is as good as any other, so each is looked for
once, behind the one before. A segment whose characters stand in one run is found by `str.find`, one with `?` between them by bits: for
each character of the text a number says where it stands, and each character of the segment is one shift and one AND of such a number. So a
segment costs its length times the text's in machine words, whatever both hold; the text is looked at once for all patterns.

Source: IAM User Guide, "IAM JSON policy elements: Resource", and "IAM policy elements: Variables and tags"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

Resolve = Callable[[str], str | None]  # the one value of a condition key, by its name in lower case


class Variable(NamedTuple):
    """`${key}` or `${key, 'default'}`."""

    key: str  # in lower case
    default: str | None = None


class Wild(NamedTuple):
    """A wildcard: `*` or `?`."""

    many: bool


Token = str | Variable | Wild


class VariableMissing(Exception):
    """The request has no value for a variable: what contains it says nothing about the request."""


class Glob:
    """A pattern without variables."""

    __slots__ = ("_first", "_last", "_minimum", "_segments")

    def __init__(self, tokens: Sequence[Token]) -> None:
        segments = [_Segment(run) for run in _runs(tokens)]
        self._minimum = sum(segment.length for segment in segments)
        self._first = segments[0]
        self._last = segments[-1] if len(segments) > 1 else None  # None: there is no `*`
        self._segments = segments[1:-1]

    def matches(self, text: str) -> bool:
        """Tell whether all of the text fits."""
        if len(text) < self._minimum or not self._first.fits(text, 0):
            return False
        if self._last is None:
            return len(text) == self._minimum
        start, end = self._first.length, len(text) - self._last.length
        for segment in self._segments:
            found = segment.find(text, start, end)
            if found < 0:
                return False
            start = found + segment.length
        return start <= end and self._last.fits(text, end)

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        return sum(segment.weight for segment in (self._first, *self._segments, *(() if self._last is None else (self._last,))))


class _Segment:
    """What stands between two `*`: characters, None for a `?`."""

    __slots__ = ("_fixed", "_literal", "_run", "length")

    def __init__(self, run: Sequence[str | None]) -> None:
        self.length = len(run)
        self._literal = "".join(run) if None not in run else None  # type: ignore[arg-type]  # there is no None
        self._run = _only_run(run)
        self._fixed = () if self._literal is not None else tuple((index, one) for index, one in enumerate(run) if one is not None)

    def fits(self, text: str, start: int) -> bool:
        if self._literal is not None:
            return text.startswith(self._literal, start)
        return start + self.length <= len(text) and all(text[start + index] == character for index, character in self._fixed)

    def find(self, text: str, start: int, end: int) -> int:
        """Return the first place where it fits between two places; -1 if there is none."""
        if self._literal is not None:
            return text.find(self._literal, start, end)
        if self._run is not None:
            before, characters = self._run
            found = text.find(characters, start + before, min(end, len(text)) - (self.length - before - len(characters)))
            return found if found < 0 else found - before
        room = min(end, len(text)) - start - self.length + 1
        if room <= 0:
            return -1
        found, marks = (1 << room) - 1, _marks(text)
        for index, character in self._fixed:
            found &= marks.get(character, 0) >> (start + index)
            if not found:
                return -1
        return start + (found & -found).bit_length() - 1

    @property
    def weight(self) -> int:
        return 100 + 4 * self.length + 100 * len(self._fixed)


def _only_run(run: Sequence[str | None]) -> tuple[int, str] | None:
    """Return the characters of a segment and what stands before them, if they stand in one run."""
    places = [index for index, one in enumerate(run) if one is not None]
    if not places or places[-1] - places[0] != len(places) - 1:
        return None
    return places[0], "".join(one for one in run if one is not None)


@lru_cache(maxsize=2)
def _marks(text: str) -> Mapping[str, int]:
    """Return for each character of a text where it stands: bit i for place i. A request asks hundreds of patterns about one text."""
    size = len(text) // 8 + 1
    found: dict[str, bytearray] = {}
    for index, character in enumerate(text):
        if (bits := found.get(character)) is None:
            bits = found[character] = bytearray(size)
        bits[index >> 3] |= 1 << (index & 7)
    return {character: int.from_bytes(bits, "little") for character, bits in found.items()}


class Template:
    """A pattern that may hold variables. Their values stand for themselves: a `*` of a name is no wildcard."""

    __slots__ = ("_glob", "_tokens")

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)
        self._glob = None if any(isinstance(token, Variable) for token in tokens) else Glob(tokens)

    def matches(self, text: str, resolve: Resolve) -> bool:
        """Tell whether all of the text fits. Raises `VariableMissing`."""
        if self._glob is not None:
            return self._glob.matches(text)
        tokens = [_resolved(token, resolve) for token in self._tokens]
        needed = sum(len(token) if isinstance(token, str) else not token.many for token in tokens if not isinstance(token, Variable))
        return needed <= len(text) and Glob(tokens).matches(text)  # a value may have kilobytes: it is not looked at if it cannot fit

    def resolved(self, resolve: Resolve) -> Template:
        """Return the pattern with the values of its variables in their place. Raises `VariableMissing`."""
        return self if self._glob is not None else Template([_resolved(token, resolve) for token in self._tokens])

    @property
    def weight(self) -> int:
        return 200 + (self._glob.weight if self._glob is not None else 64 * len(self._tokens))


def read_tokens(text: str, *, wildcards: bool = True, variables: bool = True) -> tuple[Token, ...]:
    """Take a pattern apart. Raises ValueError for a variable that is none."""
    tokens: list[Token] = []
    literal: list[str] = []
    index = 0
    while index < len(text):
        token, index = _next_token(text, index, wildcards=wildcards, variables=variables)
        if isinstance(token, str):
            literal.append(token)
            continue
        if literal:
            tokens.append("".join(literal))
            literal.clear()
        tokens.append(token)
    return (*tokens, "".join(literal)) if literal else tuple(tokens)


def literal(tokens: Sequence[Token], resolve: Resolve) -> str:
    """Return the text of a template without wildcards. Raises `VariableMissing`."""
    return "".join(token for token in (_resolved(one, resolve) for one in tokens) if isinstance(token, str))


def _next_token(text: str, index: int, *, wildcards: bool, variables: bool) -> tuple[Token, int]:
    character = text[index]
    if variables and text.startswith("${", index):
        end = text.find("}", index)
        if end < 0:
            raise ValueError("a variable has no end")
        return _variable(text[index + 2 : end]), end + 1
    if wildcards and character in "*?":
        return Wild(many=character == "*"), index + 1
    return character, index + 1


def _variable(text: str) -> Token:
    if text in {"*", "?", "$"}:
        return text
    key, comma, rest = text.partition(",")
    key, rest = key.strip(), rest.strip()
    if ":" not in key or "${" in key or (comma and not (len(rest) >= 2 and rest[0] == rest[-1] == "'")):
        raise ValueError(f"${{{text}}} is no variable")
    return Variable(key.lower(), rest[1:-1] if comma else None)


def _resolved(token: Token, resolve: Resolve) -> Token:
    if not isinstance(token, Variable):
        return token
    value = resolve(token.key)
    if value is None:
        value = token.default
    if value is None:
        raise VariableMissing(token.key)
    return value


def _runs(tokens: Sequence[Token]) -> list[list[str | None]]:
    """Return what stands between the `*`."""
    runs: list[list[str | None]] = [[]]
    for token in tokens:
        if isinstance(token, str):
            runs[-1].extend(token)
        elif isinstance(token, Wild) and token.many:
            runs.append([])
        else:
            runs[-1].append(None)
    return runs
