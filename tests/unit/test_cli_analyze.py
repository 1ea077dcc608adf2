"""`shardgate stores check --analyze`, as it is typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.test_cli import Run, run  # noqa: F401 - the fixture


def test_a_fit_store_is_reported_and_neither_manifest_nor_key_is_made(run: Run, tmp_path: Path) -> None:  # noqa: F811
    outcome = run("stores", "check", "alder", "--analyze", "--quick")
    assert outcome.code == 0
    assert "store alder: fit for Shardgate (20 things tried, 0 failed, 4 notes)" in outcome.out
    assert [path.name for path in tmp_path.iterdir()] == ["stores"]
    assert [path.name for path in (tmp_path / "stores").iterdir()] == ["alder"]
    assert [path for path in (tmp_path / "stores").rglob("*") if path.is_file() and path.name != ".shardgate-store"] == []


def test_reports_come_as_json_one_for_each_store(run: Run) -> None:  # noqa: F811
    reports = run("stores", "check", "--analyze", "--quick", "--json").data
    assert [report["store"] for report in reports] == ["alder", "birch", "cedar", "dogwood", "elm", "fir"]
    assert all(report["fit"] and not report["left"] for report in reports)
    assert {"check", "outcome", "found", "meaning", "remedy"} == reports[0]["findings"][0].keys()


def test_a_store_that_is_not_mounted_is_unfit_and_is_not_made_anew(run: Run, tmp_path: Path) -> None:  # noqa: F811
    run("init")
    shutil.rmtree(tmp_path / "stores/alder")
    outcome = run("stores", "check", "alder", "--analyze", "--quick")
    assert outcome.code == 1
    assert "FAILED put and ask: store alder:" in outcome.out
    assert "Do: Look at the network" in outcome.out
    assert "store alder: NOT FIT for Shardgate: put and ask (1 things tried, 1 failed, 0 notes)" in outcome.out
    assert not (tmp_path / "stores/alder").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(("none", "--analyze"), 'there is no store "none"; one of: alder, birch'), (("alder", "--quick"), "--quick goes with --analyze")],
)
def test_what_makes_no_sense_is_refused(run: Run, arguments: tuple[str, ...], complaint: str) -> None:  # noqa: F811
    outcome = run("stores", "check", *arguments)
    assert (outcome.code, complaint in outcome.err) == (1, True)


def test_one_store_alone_is_checked_if_it_is_named(run: Run) -> None:  # noqa: F811
    assert [check["store"] for check in run("stores", "check", "elm", "--json").data] == ["elm"]
