"""The facts of a configuration that a plan rests on, as words: kept with the plan, and compared before anything moves.

Prices are none of them: they change what a plan costs, not what it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass

from proxy.codec.geometry import Scheme
from proxy.engine.placing.placement import Policy
from proxy.errors import CampaignRefused
from proxy.stores.protocol import StoreInfo

LEAVING = "stores being left"


def facts_of(policies: Mapping[str, Policy], infos: Mapping[str, StoreInfo]) -> dict[str, str]:
    """Return each store and each policy, and what decides about placement."""
    stores = {f"store {name}": f"{info.provider}, {info.region}, {info.jurisdiction}" for name, info in infos.items()}
    return stores | {f"policy {name}": _words(policy) for name, policy in policies.items()}


def with_leaving(facts: Mapping[str, str], leaving: Iterable[str]) -> dict[str, str]:
    """Return the facts with the stores that take no new shards: a plan that others were made beside does not hold any more."""
    return {**facts, LEAVING: " ".join(sorted(leaving)) or "none"}


def without_leaving(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the facts that must hold as long as a campaign goes on: another may begin beside it."""
    return {what: told for what, told in facts.items() if what != LEAVING}


def check_facts(planned: Mapping[str, str], now: Mapping[str, str]) -> None:
    """CampaignRefused, with what has changed, if a plan was made for another configuration."""
    changes = [
        *(f"{what} was removed" for what in planned.keys() - now.keys()),
        *(f"{what} was added" for what in now.keys() - planned.keys()),
        *(f"{what} was ({planned[what]}) and is ({now[what]})" for what in planned.keys() & now.keys() if planned[what] != now[what]),
    ]
    if changes:
        raise CampaignRefused(f"the configuration is not the one of the plan: {'; '.join(sorted(changes))}. Plan anew")


def _words(policy: Policy) -> str:
    values = {item.name: getattr(policy, item.name) for item in fields(policy) if item.name not in {"name", "stores"}}
    told = [f"stores {' '.join(sorted(str(info.name) for info in policy.stores))}"]
    return ", ".join([*told, *(f"{name} {_word(value)}" for name, value in values.items())])


def _word(value: object) -> str:
    """Write a value in one way: the order of a set differs from process to process."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_word(item)}" for key, item in sorted(value.items()))
    if isinstance(value, Set):
        return " ".join(sorted(_word(item) for item in value))
    if isinstance(value, tuple):
        return " ".join(_word(item) for item in value)
    if is_dataclass(value) and not isinstance(value, Scheme):
        return " ".join(f"{item.name}={_word(getattr(value, item.name))}" for item in fields(value))
    return str(value)
