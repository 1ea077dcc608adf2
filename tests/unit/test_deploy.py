"""The unit of systemd: what systemd says of it, and that it fits how the server starts and stops."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from proxy.cli import supervisor
from proxy.cli.main import app
from tests.servers import ROOT

UNIT = ROOT / "deploy" / "shardgate.service"
PROGRAM = "/opt/shardgate/.venv/bin/shardgate"


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]  # systemd's names have capitals
    parser.read(UNIT)
    return dict(parser["Service"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))  # which must be there
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_the_unit_starts_what_there_is() -> None:
    program, *arguments = shlex.split(service()["ExecStart"])
    assert program == PROGRAM
    command = typer.main.get_command(app)
    with command.make_context("shardgate", list(arguments)) as context:
        assert context.command.name == "shardgate"
    serve = command.commands["serve"]
    with serve.make_context("serve", arguments[1:]) as context:
        assert (context.params["workers"], str(context.params["config"])) == (4, "/etc/shardgate/shardgate.toml")


def test_systemd_waits_longer_than_the_supervisor() -> None:
    assert int(service()["TimeoutStopSec"]) > supervisor.STOP_SECONDS + supervisor.REAP_SECONDS
