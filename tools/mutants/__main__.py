"""`python -m tools.mutants [AREA ...]`: a table of the mistakes and who noticed them. The exit code is 1 unless all were noticed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.mutants.mistakes import Mistake, load_mistakes
from tools.mutants.trial import BASELINE_SECONDS, Outcome, TrialFailed, copied_tree, failed, run_tests, run_trial

console = Console(width=None if sys.stdout.isatty() else 200)


def main(
    areas: Annotated[list[str] | None, typer.Argument(help="Files of mistakes, without .toml; all if none is named.")] = None,
    only: Annotated[str, typer.Option(help="Only mistakes with this in their name.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Trials at once.")] = 2,
) -> None:
    """Put each kept mistake into a copy of the tree, and demand that a test notices."""
    mistakes = [mistake for mistake in load_mistakes() if (not areas or mistake.area in areas) and only in mistake.name]
    if not mistakes:
        console.print("no mistake of that name")
        raise typer.Exit(2)
    _check_that_tests_pass(mistakes, jobs)
    with ThreadPoolExecutor(jobs) as threads:
        outcomes = []
        for mistake, outcome in zip(mistakes, threads.map(run_trial, mistakes), strict=True):
            outcomes.append(outcome)
            mark = "noticed" if outcome.noticed else "NOT NOTICED"
            console.print(f"{mark:>11}  {mistake.area}: {mistake.name}  ({outcome.seconds:.0f} s)", markup=False, highlight=False)
    _print_table(mistakes, outcomes)
    if not all(outcome.noticed for outcome in outcomes):
        raise typer.Exit(1)


def _check_that_tests_pass(mistakes: Sequence[Mistake], jobs: int) -> None:
    """A test that fails anyway notices nothing."""
    tests = dict.fromkeys(test for mistake in mistakes for test in mistake.tests)
    console.print(f"without any mistake: {len(tests)} tests and files of tests ...")
    try:
        with copied_tree() as tree:
            wrong = failed(run_tests(tree, tests, seconds=BASELINE_SECONDS, workers=jobs, to_the_end=True))
    except TrialFailed as error:
        wrong = [str(error)]
    if wrong:
        console.print("these fail without any mistake:", *wrong, sep="\n  ", markup=False)
        raise typer.Exit(1)


def _print_table(mistakes: Sequence[Mistake], outcomes: Sequence[Outcome]) -> None:
    table = Table("area", "mistake", "why it matters")
    table.add_column("noticed by", overflow="fold")
    for mistake, outcome in zip(mistakes, outcomes, strict=True):
        by = Text(outcome.by) if outcome.noticed else Text(f"NOT NOTICED: {outcome.by}", style="red")
        table.add_row(Text(mistake.area), Text(mistake.name), Text(mistake.why), by)
    console.print(table)
    console.print(f"{sum(outcome.noticed for outcome in outcomes)} of {len(outcomes)} mistakes were noticed")


if __name__ == "__main__":
    typer.run(main)
