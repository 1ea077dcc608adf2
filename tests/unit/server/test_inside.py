"""The inside of aiohttp: what `proxy.server.wire.inside` relies on is as it was when it was written, and no other module uses any of it.

If a digest differs, that is no fault. It says that aiohttp has changed where we know more of it than it promises: read what has changed
beside that module, mend it, and write the new digests down. `python -m tests.unit.server.test_inside` prints them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import aiohttp
import pytest
from aiohttp import _http_parser  # type: ignore[attr-defined]  # a module in C, without stubs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client import ClientSession
from aiohttp.http import HttpRequestParser
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import Request
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

from proxy.server.connection import Connection
from proxy.server.wire import inside
from proxy.server.wire.inflow import Inflow

ROOT = Path(__file__).parents[3]
READ = {
    RequestHandler: [
        "__init__", "shutdown", "connection_made", "connection_lost", "data_received", "_resume_reading_if_drained", "close", "force_close",
        "_process_keepalive", "start", "_handle_request", "finish_response",
    ],
    BaseProtocol: ["pause_reading", "resume_reading", "_pause_reading_for_buffer", "_resume_reading_for_buffer", "connection_lost",
        "pause_writing", "resume_writing", "_drain_helper"],
    StreamReader: ["__init__", "feed_data", "feed_eof", "is_eof", "readany", "read_nowait", "_read_nowait", "_wait", "set_exception"],
    StreamWriter: ["drain"],
}  # fmt: skip
DIGESTS = {
    "RequestHandler.__init__": "46c577d1f419158f",
    "RequestHandler.shutdown": "5eb4bd473db61e84",
    "RequestHandler.connection_made": "44d50b5763b2c7e4",
    "RequestHandler.connection_lost": "df2fe6e95fd04c7c",
    "RequestHandler.data_received": "1ee57ebe052e6c80",
    "RequestHandler._resume_reading_if_drained": "27f2a6fbbb3a790e",
    "RequestHandler.close": "84518f965e198ee3",
    "RequestHandler.force_close": "38d0e1e798e4d3b7",
    "RequestHandler._process_keepalive": "b472e0fb8445ce42",
    "RequestHandler.start": "2e565fd40c8e04fb",
    "RequestHandler._handle_request": "a88a34ee65a2714c",
    "RequestHandler.finish_response": "b7eb53db8f4b30ca",
    "BaseProtocol.pause_reading": "c35fb392028cd397",
    "BaseProtocol.resume_reading": "21dee847a31af724",
    "BaseProtocol._pause_reading_for_buffer": "8a07d84ad8d45025",
    "BaseProtocol._resume_reading_for_buffer": "61aa4b49c6e1a288",
    "BaseProtocol.connection_lost": "8b4e1725c5648b9c",
    "BaseProtocol.pause_writing": "e727e6c57a46116e",
    "BaseProtocol.resume_writing": "7db135e0841e0425",
    "BaseProtocol._drain_helper": "43a2da08aabcc94f",
    "StreamReader.__init__": "09c8a6dade356c41",
    "StreamReader.feed_data": "7548cdda3ea70bf8",
    "StreamReader.feed_eof": "01592f4473c176b3",
    "StreamReader.is_eof": "7642721fe2f71e63",
    "StreamReader.readany": "766f946ae360b8ea",
    "StreamReader.read_nowait": "e340a15bd631cecb",
    "StreamReader._read_nowait": "05fc75740b9d4d63",
    "StreamReader._wait": "5cec4bb02a049b41",
    "StreamReader.set_exception": "dfa3db714fb895ed",
    "StreamWriter.drain": "3c8995114497133d",
}


MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("server", "console", "targets")
    for path in (ROOT / "proxy" / folder).rglob("*.py")
    if path.name != "__init__.py"
)
HELD = (RequestHandler, StreamReader, StreamWriter, Server, Request, StreamResponse, HttpRequestParser, ClientSession)


def digest(owner: type, name: str) -> str:
    return hashlib.sha256(inspect.getsource(getattr(owner, name)).encode()).hexdigest()[:16]


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in READ.items() for name in names])
def test_what_was_read_of_aiohttp_is_as_it_was(owner: type, name: str) -> None:
    assert digest(owner, name) == DIGESTS[f"{owner.__name__}.{name}"]


def test_the_version_is_the_one_that_was_read() -> None:
    pinned = next(
        one for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"] if one.startswith("aiohttp")
    )
    assert pinned == f"aiohttp=={aiohttp.__version__}"


def test_the_parser_is_the_one_in_c() -> None:
    """The bounds of heads, and the cost of a request, are those of llhttp: Python's parser is another."""
    assert HttpRequestParser is _http_parser.HttpRequestParser


@pytest.mark.parametrize("name", MODULES)
def test_no_other_module_uses_what_aiohttp_keeps_to_itself(name: str) -> None:
    module = importlib.import_module(name)
    used = list(uses(ast.parse(inspect.getsource(module)), vars(module)))
    assert used if module is inside else not used


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f(reader): return reader._buffer", ["reader._buffer"]),
        ("def f(server): server.connection._loop.time()", ["server.connection._loop"]),
        ("class Inflow:\n    def size(self): return self._size", ["self._size"]),
        ("class Inflow:\n    async def _wait(self): await super()._wait()", ["_wait", "super()._wait"]),
        ("class Connection:\n    def f(self): self._drain_waiter = self._front = None", ["self._drain_waiter"]),
        ("class Other:\n    def f(self): return self._size, self._replace, self.inner._kept", []),
        ("class Inflow:\n    def size(self): return self.lying_bytes, self._due", []),
    ],
)
def test_such_a_use_is_found(text: str, found: list[str]) -> None:
    known: dict[str, object] = {"Inflow": Inflow, "Connection": Connection, "Other": object}
    assert list(uses(ast.parse(text), known)) == found


def uses(tree: ast.AST, known: dict[str, object]) -> Iterator[str]:
    """Yield each use of a private name of aiohttp's: of an object's at hand, or by a class whose base is one of aiohttp's."""
    held = frozenset[str]().union(*map(private_names, HELD))
    classes = {node: known.get(node.name) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node, kind in classes.items():
        names = private_names(kind) if isinstance(kind, type) else frozenset()
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name in names:
                yield inner.name
            elif isinstance(inner, ast.Attribute) and inner.attr in names and is_own(inner.value):
                yield ast.unparse(inner)
    for one in ast.walk(tree):
        if isinstance(one, ast.Attribute) and one.attr in held and not is_own(one.value):
            yield ast.unparse(one)


def is_own(value: ast.expr) -> bool:
    """Tell whether an attribute is the object's own: of `self`, `cls` or `super()`."""
    name = value.func if isinstance(value, ast.Call) else value
    return isinstance(name, ast.Name) and name.id in {"self", "cls", "super"}


@cache
def private_names(kind: type) -> frozenset[str]:
    """Return the private names of a class that it has from aiohttp: what is defined there, and what is set there."""
    names = set[str]()
    for base in kind.__mro__:
        if base.__module__.split(".")[0] != "aiohttp":
            continue
        names |= vars(base).keys()
        if base.__module__ != _http_parser.__name__:  # in C
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_own(node.value)}
    return frozenset(name for name in names if name.startswith("_") and not name.startswith("__"))


if __name__ == "__main__":
    for owner, names in READ.items():
        for name in names:
            print(f'    "{owner.__name__}.{name}": "{digest(owner, name)}",')
