"""What a handler may do: parse, call the engine, answer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from proxy.server import handlers

MODULES = sorted(Path(handlers.__file__).parent.glob("*.py"))
NOT_FOR_HANDLERS = {"manifest", "keyring", "fleet", "stores", "budget"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_handler_asks_the_engine_and_nothing_below_it(path: Path) -> None:
    """The bucket and the right to use it were settled before: a handler that looked either up could decide otherwise."""
    asked = {node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)}
    assert not asked & NOT_FOR_HANDLERS
    assert "authorise" not in path.read_text("utf-8") or path.stem == "deleting"
