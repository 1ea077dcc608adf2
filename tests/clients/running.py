"""Programs that install and run clients: with a deadline each, and a reason where they cannot."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

Outcome = Literal["content", "failed", "skipped"]
SECONDS = 900


def run_program(command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None, *, quiet: bool = False) -> str:
    """Run a program to its end; return why it did not go well, or "". A quiet one is not heard."""
    name = command[0]
    if shutil.which(name) is None and not (folder / name).exists():
        return f"there is no {name} on this machine"
    try:
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=quiet, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} took more than {SECONDS} s"
    if done.returncode == 0:
        return ""
    return f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or '').strip()[-400:]}"


def skipped(why: str) -> Outcome:
    print(f"skip: {why}", flush=True)
    return "skipped"
