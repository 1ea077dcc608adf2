"""Hands: whoever might hold several shards of a segment, alone or with others.

A store belongs to a provider, a region and a jurisdiction, its **units**. A **coalition** is a named set of stores whose owners may act as
one: jurisdictions that share what they seize, providers of one owner, buckets that one contractor runs. Coalitions may overlap: a store is
in as many as name it. A unit and a coalition that a policy names in `never_together` are its hands; none may hold k shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from proxy.stores.protocol import StoreInfo

Unit = Literal["store", "provider", "region", "jurisdiction"]
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True, slots=True)
class Coalition:
    """Stores that may act as one, by a name. `parts` says for people who they are, as in "jurisdictions US, UK"."""

    name: str
    stores: frozenset[str]
    parts: str = ""


def unit_of(info: StoreInfo, unit: Unit) -> str:
    """Return the name of the store, provider, region or jurisdiction a store belongs to. A region is one provider's."""
    if unit == "store":
        return info.name
    if unit == "region":
        return f"{info.provider}/{info.region}"
    return info.provider if unit == "provider" else info.jurisdiction


def hands_of(info: StoreInfo, units: Iterable[Unit], coalitions: Iterable[Coalition]) -> tuple[str, ...]:
    """Return the hands a store is in, of these units and coalitions, as in "provider alder-cloud" and "coalition five_eyes"."""
    of_units = [f"{unit} {unit_of(info, unit)}" for unit in units]
    return (*of_units, *(f"coalition {coalition.name}" for coalition in coalitions if info.name in coalition.stores))
