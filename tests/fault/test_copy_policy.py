"""A copy acknowledges only what its policy allows today, whatever the policy was when the source was written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.codec.geometry import Scheme
from proxy.engine.placing.placement import MayFail, Policy
from proxy.manifest.records import ObjectAttributes, ObjectKey, Version
from tests.laboratory import Laboratory, laboratory

DATA = os.urandom(300_000)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


async def _copy(lab: Laboratory, source: Version) -> Version:
    return await lab.services.engine.copy_object(
        source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), ObjectAttributes()
    )


def _now(lab: Laboratory, change: Callable[[Policy], Policy]) -> None:
    lab.services.engine._policies = {"standard": change(lab.services.policies["standard"])}


def _without(policy: Policy, jurisdiction: str) -> Policy:
    left = tuple(info for info in policy.stores if info.jurisdiction != jurisdiction)
    return dataclasses.replace(policy, stores=left, scheme=Scheme(3, 2), storage_classes={})


async def test_a_copy_under_the_same_promises_shares_what_is_stored(lab: Laboratory) -> None:
    source = await lab.put("k", DATA)
    assert (await _copy(lab, source)).extents == source.extents


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: dataclasses.replace(policy, scheme=Scheme(3, 3), storage_classes={}),
        lambda policy: dataclasses.replace(policy, scheme=Scheme(3, 2)),
        lambda policy: _without(policy, "JP"),
    ],
    ids=["more parity", "another scheme", "a jurisdiction is out"],
)
async def test_a_copy_is_written_anew_where_the_policy_has_changed(lab: Laboratory, change: Callable[[Policy], Policy]) -> None:
    source = await lab.put("k", DATA)
    _now(lab, change)
    copied = await _copy(lab, source)
    assert not set(copied.extents) & set(source.extents)
    assert await lab.get("copy") == DATA


async def test_what_is_kept_under_another_policy_is_not_shared_though_it_would_keep_this_one_today(lab: Laboratory) -> None:
    source = await lab.put("k", DATA)
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in source.extents])
    assert extent.layout.policy == "standard"
    _now(lab, lambda policy: dataclasses.replace(policy, name="other"))
    assert not set((await _copy(lab, source)).extents) & set(source.extents)


async def test_a_copy_of_what_is_missing_shards_shares_it_only_while_the_rest_survives_a_failure(lab: Laboratory) -> None:
    _now(lab, lambda policy: dataclasses.replace(policy, may_fail=MayFail()))
    lab.stores["cedar"].down = lab.stores["elm"].down = True
    source = await lab.put("k", DATA)
    lab.stores["cedar"].down = lab.stores["elm"].down = False
    lab.clock.advance(5)
    assert (await _copy(lab, source)).extents == source.extents
    _now(lab, lambda policy: policy)  # a provider may fail: four shards of 4+2 are not enough
    assert (await _copy(lab, source)).extents != source.extents
    assert await lab.get("copy") == DATA


async def test_a_copy_of_what_lies_in_a_removed_store_is_written_anew(lab: Laboratory) -> None:
    source = await lab.put("k", DATA)
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in source.extents])
    gone = extent.layout.segments[0].stores[0]
    _now(
        lab,
        lambda policy: dataclasses.replace(
            policy, stores=tuple(info for info in policy.stores if info.name != gone), scheme=Scheme(3, 2), storage_classes={}
        ),
    )
    assert (await _copy(lab, source)).extents != source.extents
