"""Clients that are checked by a script in Python, each with what it needs: packages of Python, and programs.

A script says so in its docstring: `Needs: PACKAGE ...`, `Go: PROGRAM MODULE@VERSION` for what is built, and `Programs: PROGRAM ...` for
what the machine must have.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.clients.python.checking import places
from tests.clients.running import Outcome, run_program, skipped
from tests.servers import ROOT

SCRIPTS = Path(__file__).parent / "python"
KEPT = ROOT / ".venv" / "clients"  # removed by `make clean`


def scripts() -> list[str]:
    """Return the names of all clients that have a script."""
    return sorted(path.stem.removesuffix("_client") for path in SCRIPTS.glob("*_client.py"))


def run_script(name: str, endpoint: str, environ: Mapping[str, str]) -> Outcome:
    """Install what a client needs, and run its script."""
    script = SCRIPTS / f"{name}_client.py"
    if not script.exists():
        return skipped(f"there is no such client; there are {', '.join(scripts())}")
    text = script.read_text("utf-8")
    packages = _told(text, "Needs")
    why_not = _missing(_told(text, "Programs"))
    if why_not:
        return skipped(why_not)
    python, why_not = _environment(packages)
    why_not = why_not or _programs(_told(text, "Go"))
    if why_not:
        return skipped(why_not)
    found = {**environ, "PATH": f"{KEPT / 'go'}{os.pathsep}{environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    return "failed" if run_program([str(python), str(script), endpoint], SCRIPTS, found) else "content"


def _told(text: str, word: str) -> list[str]:
    found = re.search(rf"^{word}: (.+)$", text, flags=re.MULTILINE)
    return found[1].split() if found else []


def _missing(programs: list[str]) -> str:
    gone = [name for name in programs if shutil.which(name, path=places()) is None]
    return f"there is no {' and no '.join(gone)} on this machine" if gone else ""


def _environment(packages: list[str]) -> tuple[Path, str]:
    """Return the Python of an environment with these packages, and why there is none."""
    folder = KEPT / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        why_not = run_program([sys.executable, "-m", "venv", "--clear", str(folder)], ROOT, quiet=True) or run_program(
            [str(python), "-m", "pip", "install", "--quiet", "--prefer-binary", "--disable-pip-version-check", *packages], ROOT, quiet=True
        )
        if why_not:
            return python, why_not
        done.touch()
    return python, ""


def _programs(told: list[str]) -> str:
    """Build a program in Go, once; return why it could not be."""
    for program, module in zip(told[::2], told[1::2], strict=True):
        if not (KEPT / "go" / program).exists():
            why_not = run_program(["go", "install", module], ROOT, {**os.environ, "GOBIN": str(KEPT / "go")}, quiet=True)
            if why_not:
                return why_not
    return ""
