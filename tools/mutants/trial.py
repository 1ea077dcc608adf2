"""One trial: a copy of the tree, the mistake in it, and what the tests say."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Xml  # of pytest's own report
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from tools.mutants.mistakes import ROOT, Mistake

COPIED = ("proxy", "tests", "config", "docs", "bench", "tools", "README.md", "Makefile", "pyproject.toml")
# Many times what any of the tests takes, so that a busy machine decides nothing; who hangs costs as much.
TEST_SECONDS = 180
TRIAL_SECONDS = 900
BASELINE_SECONDS = 3 * 3600
# A tree that does not even run is no realistic mistake, and proves nothing of the tests.
_OUT_OF_TIME = "Failed: Timeout"  # as pytest-timeout begins
_BROKEN = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError", "UnboundLocalError")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a trial: noticed by a test, or why not."""

    noticed: bool
    by: str  # the test, or the reason why it does not count
    seconds: float


class TrialFailed(Exception):
    """The tests did not run as they should; the message says what happened."""


def run_trial(mistake: Mistake) -> Outcome:
    """Put the mistake into a copy of the tree, and see whether one of its tests fails."""
    started = perf_counter()
    with copied_tree() as tree:
        source = tree / mistake.file
        try:
            source.write_text(mistake.spoil(source.read_text("utf-8")), "utf-8")
            failures = list(_failures(run_tests(tree, mistake.tests, seconds=TRIAL_SECONDS)))
        except (ValueError, TrialFailed) as error:
            return Outcome(noticed=False, by=str(error), seconds=perf_counter() - started)
    noticed = next((_told(test, message) for test, message in failures if not message.startswith(_BROKEN)), None)
    by = noticed or (f"broken, not mistaken: {failures[0][1]}" if failures else "every test passed")
    return Outcome(noticed=noticed is not None, by=by, seconds=perf_counter() - started)


@contextmanager
def copied_tree() -> Iterator[Path]:
    """Copy the tree into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="shardgate-mutant-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, tree / name)
        yield tree


def run_tests(tree: Path, tests: Iterable[str], *, seconds: float, workers: int = 0, to_the_end: bool = False) -> Xml.Element:
    """Run the tests in the tree, up to the first failure if not to the end, and return pytest's report. Raises `TrialFailed` if there is
    none."""
    report = tree / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}", f"--junitxml={report}"]
    if not to_the_end:
        command.append("-x")
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tree.parent)}
    process = subprocess.Popen(
        [*command, f"-n{workers}", *tests], cwd=tree, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TrialFailed(f"no end within {seconds:g} s") from None
    finally:
        # Servers that a test has started, too: they may have outlived it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode not in {0, 1} or not report.exists():
        lines = output.decode(errors="replace").strip().splitlines()
        raise TrialFailed(f"pytest ended with {process.returncode}: {lines[-1] if lines else 'without a word'}")
    return Xml.parse(report).getroot()


def _told(test: str, message: str) -> str:
    """Name the test, and say so where nothing was seen but that it had no end: for people to doubt, where the machine was busy."""
    return f"{test} (out of time)" if message.startswith(_OUT_OF_TIME) else test


def failed(report: Xml.Element) -> list[str]:
    """Return the tests that failed, or could not be run."""
    return [_name(case) for case in report.iter("testcase") if case.find("failure") is not None or case.find("error") is not None]


def _failures(report: Xml.Element) -> Iterator[tuple[str, str]]:
    """Yield each test that failed, and with what. Errors do not count: the mistake must be seen by a test."""
    for case in report.iter("testcase"):
        failure = case.find("failure")
        if failure is not None:
            yield _name(case), failure.get("message", "")


def _name(case: Xml.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}"
