"""Policies as the configuration has them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from proxy.codec.geometry import Scheme
from proxy.config.sections import MayFailConfig, PolicyConfig
from proxy.engine.placement import MayFail, Policy
from proxy.errors import ConfigError
from proxy.policies import make_policies
from tests.laboratory import laboratory_config


def _made(tmp_path: Path, **options: object) -> Policy:
    config = laboratory_config(tmp_path)
    settings = {"scheme": "2+2", "never_together": (), **options}
    return make_policies(msgspec.structs.replace(config, policies={"p": PolicyConfig(**settings)}))["p"]  # type: ignore[arg-type]


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
