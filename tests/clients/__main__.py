"""`python -m tests.clients`: run the clients of other languages against a server of config/local.toml; those without tools are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers import ROOT, shardgate

HERE = Path(__file__).parent
INSTALL_SECONDS = 600


def main() -> int:
    """Return 1 if a client failed, 0 if all that could run are content."""
    with (
        tempfile.TemporaryDirectory(prefix="shardgate-clients-") as folder,
        shardgate(Path(folder), config=ROOT / "config/local.toml") as server,
    ):
        keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        environ = {**os.environ, **keys}
        results = [_javascript(Path(folder), server.port, environ), _golang(Path(folder), server.port, environ)]
    return 1 if False in results else 0


def _javascript(folder: Path, port: int, environ: dict[str, str]) -> bool | None:
    """Run the AWS SDK for JavaScript; None if it cannot be had."""
    program = Path(shutil.copytree(HERE / "javascript", folder / "javascript"))
    if not _prepared("JavaScript", "npm", ["npm", "install", "--silent", "--no-audit", "--no-fund"], program):
        return None
    return _run("JavaScript", ["node", "check.mjs", f"http://localhost:{port}"], program, environ)


def _golang(folder: Path, port: int, environ: dict[str, str]) -> bool | None:
    """Run minio-go; None if it cannot be had."""
    program = Path(shutil.copytree(HERE / "golang", folder / "golang"))
    if not _prepared("Go", "go", ["go", "build", "-o", "check", "."], program):
        return None
    return _run("Go", ["./check", f"localhost:{port}"], program, environ)


def _prepared(name: str, tool: str, command: list[str], folder: Path) -> bool:
    if shutil.which(tool) is None:
        print(f"{name}: skipped, there is no {tool} on this machine", flush=True)
        return False
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        print(f"{name}: skipped, {' '.join(command)} failed: {done.stderr.strip()[-500:]}", flush=True)
    return done.returncode == 0


def _run(name: str, command: list[str], folder: Path, environ: dict[str, str]) -> bool:
    print(f"{name}:", flush=True)
    return subprocess.run(command, cwd=folder, env=environ, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
