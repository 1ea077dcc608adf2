"""Tenants and keys that are made with names of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.tenancy import Credentials, add_tenant
from tests.laboratory import Laboratory, laboratory


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


async def _add(lab: Laboratory, access_key: str, secret_key: str) -> Credentials:
    return await add_tenant(lab.services.manifest, lab.services.keyring, lab.clock, "new", access_key=access_key, secret_key=secret_key)


@pytest.mark.parametrize("access_key", ["ab", "a" * 129, "key/of/slashes", "key of spaces", "key,", "Ä" * 20])
async def test_an_access_key_must_fit_into_a_credential(lab: Laboratory, access_key: str) -> None:
    with pytest.raises(ConfigError, match="3 to 128 letters and digits"):
        await _add(lab, access_key, "secret of enough length")
    assert await lab.services.manifest.find_tenant_by_name("new") is None


async def test_a_secret_must_be_long_enough(lab: Laboratory) -> None:
    with pytest.raises(ConfigError, match="at least 8 characters"):
        await _add(lab, "KEY", "short")


async def test_keys_that_were_named_are_kept_and_others_are_drawn(lab: Laboratory) -> None:
    made = await _add(lab, "KEY", "secret of enough length")
    assert (made.access_key, made.secret_key) == ("KEY", "secret of enough length")
    drawn = [await add_tenant(lab.services.manifest, lab.services.keyring, lab.clock, name) for name in ("a", "b")]
    assert len({one.access_key for one in drawn} | {one.secret_key for one in drawn}) == 4
