"""Policies: built from the configuration, each proved as it is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from proxy.codec.geometry import Scheme, parse_scheme
from proxy.config import CoalitionConfig, Config, PolicyConfig
from proxy.engine.placing.hands import UNITS, Coalition, unit_of
from proxy.engine.placing.placement import MayFail, Policy
from proxy.errors import ConfigError
from proxy.stores.build import store_info
from proxy.stores.protocol import StoreInfo


def make_policies(config: Config) -> dict[str, Policy]:
    """Build and prove every policy. Raises `ConfigError`."""
    infos = {name: store_info(name, store) for name, store in config.stores.items()}
    coalitions = tuple(_coalition(name, coalition, infos.values()) for name, coalition in sorted(config.coalitions.items()))
    policies = {name: _policy(name, policy, infos, coalitions) for name, policy in config.policies.items()}
    if config.journal.enabled:
        _check_journal(policies, config.journal.policy or config.default_policy)
    return policies


# A hand that the first may not be is part of one that the second may not be: a region is one provider's.
_IMPLIED = {"store": {"provider", "region", "jurisdiction"}, "region": {"provider"}}


def _check_journal(policies: Mapping[str, Policy], journal: str) -> None:
    """The journal has every data key, wrapped: a hand that can read it, and has the root key, reads what it holds of any segment."""
    guarded = policies[journal].never_together
    for policy in policies.values():
        for hand in sorted(policy.never_together - guarded):
            if not _IMPLIED.get(hand, set()) & guarded:
                raise ConfigError(
                    f'policies.{journal}.never_together: the journal is kept under this policy, so it must name "{hand}", too, as policy '
                    f'"{policy.name}" does: with k shards of the journal and the root key, a hand has every data key; add it, or name '
                    "another policy as journal.policy"
                )


def _policy(name: str, config: PolicyConfig, infos: Mapping[str, StoreInfo], coalitions: tuple[Coalition, ...]) -> Policy:
    named = [infos[store] for store in config.stores] or list(infos.values())
    unknown = set(config.jurisdictions) - {info.jurisdiction for info in infos.values()}
    if unknown:
        raise ConfigError(f"policies.{name}.jurisdictions: no store is in {', '.join(sorted(unknown))}")
    return Policy(
        name=name,
        scheme=_scheme(config.scheme, f"policies.{name}.scheme"),
        stores=tuple(info for info in named if not config.jurisdictions or info.jurisdiction in config.jurisdictions),
        may_fail=MayFail(config.may_fail.stores, config.may_fail.providers, config.may_fail.regions),
        never_together=frozenset(config.never_together),
        coalitions=coalitions,
        storage_classes={key: _scheme(text, f"policies.{name}.storage_classes.{key}") for key, text in config.storage_classes.items()},
        segment_size=config.segment_mib * 1024 * 1024,
    )


def _coalition(name: str, config: CoalitionConfig, infos: Collection[StoreInfo]) -> Coalition:
    named = {"provider": config.providers, "jurisdiction": config.jurisdictions, "region": config.regions, "store": config.stores}
    stores = frozenset(str(info.name) for info in infos if any(unit_of(info, unit) in named[unit] for unit in UNITS))
    parts = [f"{unit}{'s' * (len(names) > 1)} {', '.join(names)}" for unit, names in named.items() if names]
    return Coalition(name, stores, " and ".join(parts))


def _scheme(text: str, key: str) -> Scheme:
    try:
        return parse_scheme(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
