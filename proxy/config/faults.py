"""Turning a document into a `Config`, and what is wrong with one that is none, in words."""

from __future__ import annotations

import re
from difflib import get_close_matches

import msgspec
import msgspec.inspect

from proxy.config.sections import CoalitionConfig, Config, PolicyConfig, Section, StoreConfig
from proxy.errors import ConfigError

_FAULT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?")  # how msgspec says what is wrong, and where
_FIELD = re.compile(r"Object (?P<fault>contains unknown|missing required) field `(?P<name>.*)`")


def convert(document: object) -> Config:
    """Return the document as a `Config`. Raises `ConfigError`, with the key and the remedy."""
    try:
        return msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_culprit(document) or _in_words(error, "")) from error


def _culprit(document: object) -> str | None:
    """Find the faulty store, coalition or policy: msgspec does not say which entry of a table it means."""
    tables = document if isinstance(document, dict) else {}
    for table, kind in (("stores", StoreConfig), ("coalitions", CoalitionConfig), ("policies", PolicyConfig)):
        entries = tables.get(table)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            try:
                msgspec.convert(entry, kind)
            except msgspec.ValidationError as error:
                return _in_words(error, f"{table}.{name}")
    return None


def _in_words(error: msgspec.ValidationError, place: str) -> str:
    match = _FAULT.fullmatch(str(error))
    what, where = (match["what"], match["where"]) if match else (str(error), None)
    key = ".".join(part for part in (place, where) if part)
    if field := _FIELD.fullmatch(what):
        name = f"{key}.{field['name']}" if key else field["name"]
        if field["fault"] == "missing required":
            return f"{name}: missing; add it"
        return f"{name}: there is no such key; {_suggestion(field['name'])}"
    remedy = f"one of: {', '.join(choices)}" if (choices := _choices(key)) else "correct the value"
    return f"{key or 'the configuration'}: {what[:1].lower()}{what[1:]}; {remedy}"


def _choices(key: str) -> tuple[str, ...]:
    """Return the words that may stand for this key; none if it is not one of a few."""
    kind: msgspec.inspect.Type = msgspec.inspect.type_info(Config)
    for name in key.replace("[", ".").rstrip("]").split("."):
        match kind:
            case msgspec.inspect.StructType():
                kind = next((field.type for field in kind.fields if field.name == name), kind)
            case msgspec.inspect.DictType():
                kind = kind.value_type
            case msgspec.inspect.VarTupleType():
                kind = kind.item_type
    return tuple(map(str, kind.values)) if isinstance(kind, msgspec.inspect.LiteralType) else ()


def _suggestion(name: str) -> str:
    known = {field.name for section in Section.__subclasses__() for field in msgspec.structs.fields(section)}
    close = get_close_matches(name, known, n=1)
    return f'do you mean "{close[0]}"?' if close else "remove it"
