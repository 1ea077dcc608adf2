"""`python -m tests.clients [NAME ...]`: run clients that others wrote against a server of config/local.toml.

Those that cannot be had are skipped, with the reason.

What clients need is installed in virtual environments of their own, beside the server's: they ask for other versions of the same libraries.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.clients.programs import PROGRAMS, run_built
from tests.clients.running import Outcome
from tests.clients.scripts import run_script, scripts
from tests.servers import ROOT, Shardgate, shardgate

REGION = "us-east-1"
_LEFT_OUT = {"PYTHONPATH", "AWS_CA_BUNDLE"}  # a client must find neither our code nor certificates that nobody asks for


def main(names: list[str]) -> int:
    """Return 1 if a client failed, 0 if all that could run are content."""
    with (
        tempfile.TemporaryDirectory(prefix="shardgate-clients-") as folder,
        shardgate(Path(folder), config=ROOT / "config/local.toml") as server,
    ):
        outcomes = {name: _run(name, Path(folder), server) for name in names or [*PROGRAMS, *scripts()]}
    print("\n" + "\n".join(f"{outcome:8} {name}" for name, outcome in outcomes.items()), flush=True)
    return 1 if "failed" in outcomes.values() else 0


def _run(name: str, folder: Path, server: Shardgate) -> Outcome:
    keys = {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }
    environ = {key: value for key, value in os.environ.items() if key not in _LEFT_OUT} | keys
    print(f"{name}:", flush=True)
    if name in PROGRAMS:
        return run_built(name, folder, server.port, environ)
    return run_script(name, server.endpoint, environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
