"""The documents say what the code does: every key, command, operation and metric, no more and no less."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import msgspec
import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from proxy import config, errors
from proxy.cli.main import app
from proxy.config.checks import KEYS_OF_KIND, NEEDED_KEYS
from proxy.server.call import Handle
from proxy.server.handlers import HANDLERS
from proxy.server.handlers.settings import not_set
from tests.operations import operations_table, told_table
from tests.servers import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
REQUIRED = "required"
ALL_KINDS = frozenset(KEYS_OF_KIND)


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def tables(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row of each table, with the heading it stands under: column name → cell, without the back quotes around it."""
    heading, columns = "", []
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if not columns:
            columns = cells
        elif not set(cells[0]) <= set("-: "):
            yield heading, dict(zip(columns, cells, strict=True))


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def documented_keys() -> dict[str, dict[str, str]]:
    """Return full key → row; of `[stores.NAME]`, the key is stores.NAME.kind."""
    rows = {}
    for heading, row in tables(page("CONFIGURATION.md")):
        section = "".join(quoted(heading)).strip("[]")
        (key,) = quoted(row["key"])
        rows[f"{section}.{key}" if section else key] = row
    return rows


def configured_keys(kind: type = config.Config, above: str = "") -> Iterator[tuple[str, object]]:
    """Yield full key and default of everything that can be configured."""
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        hint, key = _present(hints[field.name]), f"{above}{field.name}"
        inner = get_args(hint)[1] if get_origin(hint) is dict else None
        if isinstance(hint, type) and issubclass(hint, config.Section):
            yield from configured_keys(hint, f"{key}.")
        elif isinstance(inner, type) and issubclass(inner, config.Section):
            yield from configured_keys(inner, f"{key}.NAME.")
        else:
            yield key, field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _present(hint: object) -> object:
    """Of a table that may be left out, return what it is when it is there."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if get_origin(hint) is UnionType and len(kinds) == 1 else hint


def test_every_configuration_key_is_documented_and_no_other() -> None:
    assert set(documented_keys()) == {key for key, _ in configured_keys()}


def test_defaults_are_documented_as_they_are() -> None:
    needed = {f"stores.NAME.{key}" for keys in NEEDED_KEYS.values() for key in keys}
    told = {key: row["default"] for key, row in documented_keys().items()}
    for key, default in configured_keys():
        if default is msgspec.NODEFAULT or key in needed:
            assert told[key] == REQUIRED, key
        else:
            (text,) = quoted(told[key])
            assert tomllib.loads(f"default = {text}")["default"] == (list(default) if isinstance(default, tuple) else default), key


def test_keys_of_stores_are_documented_with_the_kinds_they_are_for() -> None:
    rows = {key: row for key, row in documented_keys().items() if key.startswith("stores.")}
    for key, row in rows.items():
        name = key.split(".")[2]
        kinds = {kind for kind, names in KEYS_OF_KIND.items() if name in names}
        assert (ALL_KINDS if row["kinds"] == "all" else set(row["kinds"].split(", "))) == kinds, key


def test_example_configurations_name_every_limit_with_its_default() -> None:
    limits = tomllib.loads((ROOT / "config/multicloud.toml").read_text())["limits"]
    assert limits == {field.name: field.default for field in msgspec.structs.fields(config.LimitsConfig)}


def commands(command: object, path: str) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    if isinstance(command, TyperGroup):
        if command.invoke_without_command:
            yield path, command
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        assert isinstance(command, TyperCommand)
        yield path, command


def usage(path: str, command: TyperCommand | TyperGroup) -> str:
    arguments = [parameter for parameter in command.params if isinstance(parameter, TyperArgument)]
    return " ".join([path, *(argument.metavar or str(argument.name).upper() for argument in arguments)])


def options(command: object) -> set[str]:
    assert isinstance(command, TyperCommand | TyperGroup)
    shown = [parameter for parameter in command.params if isinstance(parameter, TyperOption) and not parameter.hidden]
    return {name for option in shown for name in (*option.opts, *option.secondary_opts)}


ROOT_COMMAND = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT_COMMAND, "shardgate"))


def documented_commands() -> dict[str, set[str]]:
    text = page("COMMANDS.md")
    found = {heading: set() for line in text.splitlines() if line.startswith("### ") for heading in quoted(line)}
    for heading, row in tables(text):
        if heading.startswith("`"):
            found["".join(quoted(heading))].update(name.split()[0] for name in quoted(row["option"]))
    return found


def test_every_command_is_documented_with_its_arguments_and_options_and_no_other() -> None:
    everywhere = {"--config", "-c"}
    assert all(options(command) >= everywhere for command in COMMANDS.values())
    assert documented_commands() == {usage(path, command): options(command) - everywhere for path, command in COMMANDS.items()}


def test_options_of_all_commands_are_documented() -> None:
    told = {name.split()[0] for heading, row in tables(page("COMMANDS.md")) if heading == "Commands" for name in quoted(row["option"])}
    assert told == {"--config", "-c", "--help"} | options(ROOT_COMMAND)


def test_every_operation_of_the_model_is_documented_with_what_it_answers() -> None:
    assert told_table() == operations_table(), "python -m tests.operations writes the table anew"


def test_the_table_tells_served_and_unserved_apart() -> None:
    def row(name: str, **handlers: Handle) -> str:
        return next(line for line in operations_table(handlers).splitlines() if f"`{name}`" in line)

    assert row("GetObject") == "| `GetObject` | 501 NotImplemented |"
    assert row("GetObject", GetObject=HANDLERS["GetObject"]) == "| `GetObject` | served |"
    assert row("GetBucketCors", GetBucketCors=not_set("NoSuchKey")) == "| `GetBucketCors` | not configured: NoSuchKey |"


@cache
def counted() -> Mapping[str, tuple[str, ...]]:
    """Return the metrics in the code, as Prometheus shows them, with their labels. To parse all of it takes more than a second."""
    return dict(_counted())


def _counted() -> Iterator[tuple[str, tuple[str, ...]]]:
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and len(node.args) > 1):
                continue
            maker = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if isinstance(name, str) and name.startswith("shardgate_"):
                given = [*node.args[2:3], *(word.value for word in node.keywords if word.arg in {"labels", "labelnames"})]
                labels = [tuple(ast.literal_eval(item)) for item in given if isinstance(item, ast.Tuple | ast.List)]
                yield f"{name}_total" if maker.lower().startswith("count") else name, labels[0] if labels else ()


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    told = {
        quoted(row["metric"])[0]: tuple(quoted(row["labels"])) for heading, row in tables(page("OPERATIONS.md")) if heading == "Metrics"
    }
    assert told == counted()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {anchor(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([A-Z0-9_]+\.md)", (ROOT / "README.md").read_text("utf-8")))
    assert linked == {path.name for path in DOCS.glob("*.md")}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_example_configurations_in_the_documents_are_toml(path: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL):
        tomllib.loads(block)


def subclasses(kind: type, depth: int = 0) -> Iterator[tuple[int, str]]:
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield depth, inner.__name__
            yield from subclasses(inner, depth + 1)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^((?: {4})+)([A-Z]\w+)  ", errors.__doc__ or "", flags=re.MULTILINE)
    assert [(len(indent) // 4 - 2, name) for indent, name in drawn if name != "ProxyError"] == list(subclasses(errors.ProxyError))


def test_every_target_of_the_makefile_is_shown_and_make_can_read_it() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    declared = re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert len(declared) == 1
    assert {line.split()[0] for line in shown.splitlines()} == set(declared[0].split())


def test_no_page_or_configuration_holds_the_marks_of_an_unresolved_merge() -> None:
    files = [*ROOT.glob("*.*"), ROOT / "Makefile", *(path for name in ("config", "deploy", "docs") for path in (ROOT / name).rglob("*"))]
    texts = {str(path): path.read_bytes() for path in files if path.is_file()}

    assert [name for name, text in texts.items() if re.search(rb"^(<{7}|>{7}) ", text, re.MULTILINE)] == []
