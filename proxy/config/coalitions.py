"""What must hold of coalitions, and of the policies that name them: a misspelt name must not weaken a promise unnoticed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from proxy.config.sections import UNITS, CoalitionConfig, Config, StoreConfig
from proxy.errors import ConfigError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SAME = {"UK": "GB"}  # ISO 3166 has GB, and reserves UK: people write both


def check_coalitions(config: Config) -> None:
    """Raise `ConfigError` for the first coalition, or use of one, that does not hold."""
    for name, coalition in config.coalitions.items():
        _check_name(name)
        _check_members(f"coalitions.{name}", coalition, config.stores)
    known = (*UNITS, *sorted(config.coalitions))
    for name, policy in config.policies.items():
        for hand in policy.never_together:
            if hand not in known:
                raise ConfigError(
                    f'policies.{name}.never_together: "{hand}" is no unit and no coalition; one of: {", ".join(known)}; or add it '
                    "to [coalitions]"
                )


def _check_name(name: str) -> None:
    key = f"coalitions.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{key}: a coalition's name is lower-case letters, digits, hyphens and underscores; rename it")
    if name in UNITS:
        raise ConfigError(f'{key}: never_together = ["{name}"] means each {name} alone; give the coalition another name')


def _check_members(key: str, coalition: CoalitionConfig, stores: Mapping[str, StoreConfig]) -> None:
    if not (coalition.providers or coalition.jurisdictions or coalition.regions or coalition.stores):
        raise ConfigError(f"{key}: names nobody; add providers, jurisdictions, regions or stores")
    _check_known(f"{key}.stores", "store", coalition.stores, stores)
    _check_known(f"{key}.providers", "provider", coalition.providers, {store.provider for store in stores.values()})
    _check_known(f"{key}.regions", "region", coalition.regions, {f"{store.provider}/{store.region}" for store in stores.values()})
    _check_jurisdictions(f"{key}.jurisdictions", coalition, {store.jurisdiction for store in stores.values()})


def _check_known(key: str, what: str, named: Collection[str], known: Collection[str]) -> None:
    for name in named:
        if name not in known:
            raise ConfigError(f'{key}: there is no {what} "{name}"; one of: {", ".join(sorted(known))}')


def _check_jurisdictions(key: str, coalition: CoalitionConfig, known: Collection[str]) -> None:
    """A jurisdiction without a store is no mistake: Five Eyes has five, and a store may come later. One spelt otherwise is."""
    for name in coalition.jurisdictions:
        for other in sorted(known):
            if name != other and _folded(name) == _folded(other):
                raise ConfigError(f'{key}: no store is in "{name}", but one is in "{other}"; spell it as the stores do')
    if coalition.jurisdictions and not set(coalition.jurisdictions) & set(known):
        raise ConfigError(f"{key}: no store is in {', '.join(coalition.jurisdictions)}; one of: {', '.join(sorted(known))}")


def _folded(jurisdiction: str) -> str:
    upper = jurisdiction.strip().upper()
    return _SAME.get(upper, upper)
