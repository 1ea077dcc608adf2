"""The codec and the S3 protocol do no I/O and ask no clock: each of their modules loads where neither can be had."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

PURE = ("proxy/codec", "proxy/s3")
OF_A_CLOCK = {"now", "utcnow", "today", "localtime", "gmtime"}
OF_CHANCE = {"urandom", "token_bytes", "token_hex", "token_urlsafe", "uuid4", "uuid1", "random", "randbytes"}


def load(*packages: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.pure_child", *packages]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["proxy.codec", "proxy.s3"])
def test_every_module_loads_without_clock_sockets_and_asyncio(package: str) -> None:
    loaded = load(package)
    assert loaded.returncode == 0, loaded.stderr
    folder = ROOT / package.replace(".", "/")
    assert len(loaded.stdout.split()) == len(list(folder.rglob("*.py")))


@pytest.mark.parametrize(
    "impurity",
    ["import time", "from socket import socket", "import asyncio.events", "import logging", "import sqlite3"],
)
def test_a_module_that_imports_what_is_forbidden_does_not_load(tmp_path: Path, impurity: str) -> None:
    (tmp_path / "impure").mkdir()
    (tmp_path / "impure" / "__init__.py").write_text("")
    (tmp_path / "impure" / "module.py").write_text(impurity + "\n")
    loaded = load("impure", folder=tmp_path)
    assert loaded.returncode != 0
    assert "Impure: impure.module imports" in loaded.stderr


@pytest.mark.parametrize(("module", "call"), [("time", "monotonic()"), ("socket", "socket()"), ("asyncio", "new_event_loop()")])
def test_a_module_that_asks_a_clock_or_opens_a_socket_while_it_loads_does_not_load(tmp_path: Path, module: str, call: str) -> None:
    """However it got hold of them."""
    (tmp_path / "impure.py").write_text(f"import sys\nsys.modules['{module}'].{call}\n")
    loaded = load("impure", folder=tmp_path)
    assert loaded.returncode != 0
    assert "Impure: " in loaded.stderr


@pytest.mark.parametrize("path", [path for folder in PURE for path in sorted((ROOT / folder).rglob("*.py"))], ids=lambda path: path.stem)
def test_no_function_asks_for_the_time_or_for_chance(path: Path) -> None:
    """Time and randomness come in as arguments. `datetime.now` and `os.urandom` need no import that could be refused."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    names = {call.attr if isinstance(call, ast.Attribute) else call.id if isinstance(call, ast.Name) else "" for call in calls}
    assert not names & (OF_A_CLOCK | OF_CHANCE)
