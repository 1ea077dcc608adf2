"""The alert rules ask for metrics and labels that there are, and advise commands that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.servers import ROOT
from tests.unit.test_docs import COMMANDS, counted, page

FILE = ROOT / "deploy/prometheus-alerts.yml"
OF_PROMETHEUS = {"up": {"job", "instance"}}
EVERY_METRIC_HAS = {"instance", "le"}
SUFFIXES = ("_bucket", "_sum", "_count")
FUNCTIONS = {"sum", "by", "rate", "increase", "time", "delta", "histogram_quantile", "min", "and"}


def rules() -> list[dict]:
    (group,) = yaml.safe_load(FILE.read_text("utf-8"))["groups"]
    return group["rules"]


RULES = rules()


def metrics_of(expression: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each metric that is asked for, and the labels it is chosen by."""
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    names = {label.strip() for group in grouped for label in group.split(",")}
    text = re.sub(r"\bby \([^)]*\)", "", expression)
    for name, _, selector in re.findall(r"\b([a-z_]+)(\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', text)):
        if name not in FUNCTIONS and not re.fullmatch(r"[smhd]", name):
            yield name, [*re.findall(r"([a-z_]+)\s*[=!]", selector), *names]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_is_counted(rule: dict) -> None:
    known = {name: set(labels) for name, labels in counted().items()} | OF_PROMETHEUS
    asked = list(metrics_of(rule["expr"]))
    assert asked
    for name, labels in asked:
        base = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
        assert base in known, name
        assert set(labels) <= known[base] | EVERY_METRIC_HAS, (name, labels)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_how_bad_it_is_and_what_to_type(rule: dict) -> None:
    assert rule["labels"]["severity"] in {"page", "look"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["command"] in COMMANDS
    grouped = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
    kept = {label.strip() for group in grouped for label in group.split(",")} if grouped else {"instance", "job", "store"}
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= kept


def test_metrics_are_found_in_an_expression() -> None:
    expression = 'sum by (store) (rate(a_total{verb="x",outcome!~"ok"}[5m])) / time() - (b > 0) and delta(c[6h]) > 0'
    assert list(metrics_of(expression)) == [("a_total", ["verb", "outcome", "store"]), ("b", ["store"]), ("c", ["store"])]


def test_every_rule_is_documented() -> None:
    section = page("OPERATIONS.md").partition("### Alerts")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` ", section, flags=re.MULTILINE) == [rule["alert"] for rule in RULES]
