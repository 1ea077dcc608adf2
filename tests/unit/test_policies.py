"""Policies as the configuration has them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from proxy.codec.geometry import Scheme
from proxy.config.sections import CoalitionConfig, JournalConfig, MayFailConfig, PolicyConfig
from proxy.engine.placing.placement import MayFail, Policy
from proxy.errors import ConfigError
from proxy.policies import make_policies
from tests.laboratory import laboratory_config


def _made(tmp_path: Path, **options: object) -> Policy:
    config = laboratory_config(tmp_path)
    settings = {"scheme": "2+2", "never_together": (), **options}
    policies = {"p": PolicyConfig(**settings)}  # type: ignore[arg-type]
    return make_policies(msgspec.structs.replace(config, policies=policies, default_policy="p"))["p"]


def test_a_policy_uses_the_stores_and_jurisdictions_that_it_names_and_all_if_it_names_none(tmp_path: Path) -> None:
    config = laboratory_config(tmp_path)
    somewhere = next(iter(config.stores.values())).jurisdiction
    there = {name for name, store in config.stores.items() if store.jurisdiction == somewhere}
    assert {info.name for info in _made(tmp_path).stores} == set(config.stores)
    assert {info.name for info in _made(tmp_path, stores=("alder", "elm", "fir", "birch")).stores} == {"alder", "elm", "fir", "birch"}
    assert {info.name for info in _made(tmp_path, scheme="1+0", jurisdictions=(somewhere,)).stores} == there != set(config.stores)
    with pytest.raises(ConfigError, match=r"policies\.p\.jurisdictions: no store is in Atlantis"):
        _made(tmp_path, jurisdictions=("Atlantis",))


def test_a_policy_promises_what_is_configured(tmp_path: Path) -> None:
    made = _made(
        tmp_path, scheme="4+2", may_fail=MayFailConfig(providers=1), never_together=("provider",), storage_classes={"STANDARD_IA": "3+3"}
    )
    assert (made.scheme, made.scheme_of("STANDARD_IA")) == (Scheme(4, 2), Scheme(3, 3))
    assert made.may_fail == MayFail(stores=0, providers=1, regions=0)
    assert made.never_together == {"provider"}
    assert _made(tmp_path, may_fail=MayFailConfig(stores=2)).may_fail == MayFail(stores=2)
    assert _made(tmp_path, may_fail=MayFailConfig(regions=1)).may_fail == MayFail(regions=1)


@pytest.mark.parametrize(
    ("journal", "other", "fault"),
    [
        (
            ("provider",),
            ("provider", "jurisdiction"),
            'policies.p.never_together: .* must name "jurisdiction", too, as policy "other" does',
        ),
        ((), ("store",), 'must name "store"'),
        (("jurisdiction",), ("region",), 'must name "region"'),
        (("provider", "jurisdiction"), ("pair",), 'must name "pair"'),
        (("provider",), ("region", "store"), ""),  # whoever has fewer than k shards has fewer in each region, too
        (("jurisdiction", "pair"), ("store", "pair"), ""),
    ],
)
def test_the_journal_is_kept_from_every_hand_that_any_policy_names(
    tmp_path: Path, journal: tuple[str, ...], other: tuple[str, ...], fault: str
) -> None:
    policies = {
        "p": PolicyConfig(scheme="3+1", never_together=journal),
        "other": PolicyConfig(scheme="3+1", never_together=other),
    }
    config = msgspec.structs.replace(
        laboratory_config(tmp_path),
        policies=policies,
        default_policy="p",
        coalitions={"pair": CoalitionConfig(jurisdictions=("CH", "JP"))},
        journal=JournalConfig(),
    )
    if not fault:
        assert set(make_policies(config)) == {"p", "other"}
        return
    with pytest.raises(ConfigError, match=fault):
        make_policies(config)
    if set(journal) <= set(other):
        assert make_policies(msgspec.structs.replace(config, journal=JournalConfig(policy="other")))
    assert make_policies(msgspec.structs.replace(config, journal=JournalConfig(enabled=False)))
