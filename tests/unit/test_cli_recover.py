"""`shardgate recover`, as an operator meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.test_cli import Run, run  # noqa: F401 - the fixture


@pytest.fixture
def lost(run: Run, tmp_path: Path) -> Run:  # noqa: F811
    """An installation whose manifest is gone."""
    run("init")
    assert run("tenant", "add", "second").code == 0
    for path in tmp_path.glob("manifest.sqlite*"):
        path.unlink()
    return run


def test_a_start_without_the_manifest_names_the_command(lost: Run) -> None:
    """Though nothing was ever served: the journal alone tells that there is something to recover."""
    outcome = lost("init")
    assert outcome.code == 1
    assert "if it is lost, make it anew from these stores: shardgate recover" in outcome.err


def test_tenants_are_there_again_and_the_report_says_what_came_back(lost: Run) -> None:
    outcome = lost("recover")
    assert outcome.code == 0, outcome.err
    assert "What came back" in outcome.out
    assert "and goes on in epoch" in outcome.out
    assert {tenant["name"] for tenant in json.loads(lost("tenant", "list", "--json").out)} == {"local", "second"}


def test_the_report_is_to_be_had_as_json(lost: Run) -> None:
    report = json.loads(lost("recover", "--json").out)
    assert report["counts"]["tenant"] == 2
    assert set(report["stores"]) == {"alder", "birch", "cedar", "dogwood", "elm", "fir"}
    assert (report["journal"]["checkpoint"], report["findings"], report["missing_shards"]) == (None, [], 0)


def test_it_is_refused_into_a_manifest_that_is_used_and_says_what_to_do(lost: Run) -> None:
    assert lost("recover").code == 0
    outcome = lost("recover")
    assert outcome.code == 1
    assert "this manifest is not empty" in outcome.err
    assert "shardgate recover --resume" in outcome.err
    assert "there is nothing to resume" in lost("recover", "--resume").err


def test_too_many_stores_that_are_gone_are_named(lost: Run, tmp_path: Path) -> None:
    for name in ("alder", "birch"):
        (tmp_path / "stores" / name).rename(tmp_path / name)
    outcome = lost("recover")
    assert outcome.code == 1
    assert "2 stores do not answer" in outcome.err
    assert "nothing was changed" in outcome.err
