"""`python -m tests.pure_child PACKAGE...`: load every module of the packages with clock, sockets and asyncio out of reach.

What they import from elsewhere is loaded before: botocore's loader, say, brings sockets of its own. From then on no module of the packages,
nor any of this project that they import, may import what is forbidden, and nothing may ask a clock, open a socket or start a loop.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import importlib.util
import pkgutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

FORBIDDEN = {"asyncio", "aiohttp", "sqlite3", "socket", "ssl", "selectors", "time", "logging", "threading", "subprocess"}
CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep")


class Impure(BaseException):
    """Not an `Exception`: no module under test may swallow it."""


def main(packages: Sequence[str]) -> None:
    """Exit with a traceback at the first impurity."""
    names = [name for package in packages for name in _modules(package)]
    for name in {outside for module in names for outside in _outside(module, packages)}:
        importlib.import_module(name)
    _block(packages)
    for name in names:
        importlib.import_module(name)
    sys.stdout.write("\n".join(names))


def _modules(package: str) -> Iterator[str]:
    spec = importlib.util.find_spec(package)
    yield package
    if spec is not None and spec.submodule_search_locations:
        for info in pkgutil.walk_packages(spec.submodule_search_locations, f"{package}."):
            yield info.name


def _outside(module: str, packages: Sequence[str]) -> Iterator[str]:
    """Yield what a module imports that is neither ours nor forbidden, without running it."""
    ours = {package.partition(".")[0] for package in packages}
    spec = importlib.util.find_spec(module) if "." not in module else None
    path = Path(spec.origin) if spec is not None and spec.origin else _path(module)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (name for name in found if name.partition(".")[0] not in ours | FORBIDDEN)


def _path(module: str) -> Path:
    base = Path(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _block(packages: Sequence[str]) -> None:
    ours = {package.partition(".")[0] for package in packages}
    real_import = builtins.__import__

    def guarded(name: str, importing: Mapping[str, object] | None = None, *rest: object) -> ModuleType:
        importer = str((importing or {}).get("__name__", ""))
        if importer.partition(".")[0] in ours and name.partition(".")[0] in FORBIDDEN:
            raise Impure(f"{importer} imports {name}")
        return real_import(name, importing, *rest)  # type: ignore[arg-type]

    builtins.__import__ = guarded  # type: ignore[assignment]
    for owner, names in ((time, CLOCKS), (socket, ("socket", "create_connection", "getaddrinfo")), (threading.Thread, ("start",))):
        for name in names:
            setattr(owner, name, _refuse(name))
    for name in ("run", "new_event_loop", "get_event_loop", "get_running_loop"):
        setattr(asyncio, name, _refuse(name))


def _refuse(name: str) -> object:
    def refuse(*_: object, **__: object) -> None:
        raise Impure(f"{name} is called")

    return refuse


if __name__ == "__main__":
    main(sys.argv[1:])
