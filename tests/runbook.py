"""Runs docs/RUNBOOK.md: each section in an installation of its own, whose stores are directories, and whose server is real.

What the document may hold:

* a `console` block: lines that begin with "$ " are typed, those behind are what is printed. "..." stands for any lines;
* a `toml` block: it is added to the configuration;
* a comment `<!-- test: COMMAND -->`: what happens to the installation, or is done by an editor, at this place.

Numbers, times and names drawn at random are not compared. An id that a command prints is used in the commands that follow.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.ports import free_port
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, start_shardgate, stop

DOCUMENT = ROOT / "docs/RUNBOOK.md"
_STEP = re.compile(r"^ *```(console|toml)\n(.*?)^ *```|^ *<!-- test: (.*?) -->$", flags=re.MULTILINE | re.DOTALL)
_ID = re.compile(r"\b(?:drain|replace|rebalance|policy)(?:-[a-z0-9]+)*-[0-9a-f]{6}\b")  # of campaigns
DOCUMENTED_DATA = "/var/lib/shardgate"
DOCUMENTED_CONFIG = "/etc/shardgate/shardgate.toml"
DOCUMENTED_NEW_CONFIG = "/etc/shardgate/new.toml"
DOCUMENTED_ADDRESS, DOCUMENTED_NEW_ADDRESS = "127.0.0.1:9000", "127.0.0.1:9001"
SERVICE, NEW_SERVICE = "shardgate", "shardgate-new"


class Typed(NamedTuple):
    """One command, and what it prints."""

    command: str
    printed: str


class Added(NamedTuple):
    """What is added to the configuration."""

    text: str


class Happens(NamedTuple):
    """What is done without being read."""

    command: str


Step = Typed | Added | Happens


def sections() -> dict[str, str]:
    """Return the sections by their headings."""
    parts = re.split(r"^## (.*)\n", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def steps(text: str) -> Iterator[Step]:
    for match in _STEP.finditer(text):
        if match[3]:
            yield Happens(match[3])
        elif match[1] == "toml":
            yield Added(textwrap.dedent(match[2]))
        else:
            yield from _typed(textwrap.dedent(match[2]))


def _typed(block: str) -> Iterator[Typed]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command[:-1]}{more.strip()}"
        yield Typed(command, printed)


def blanked(text: str) -> list[str]:
    """Return lines without what differs from run to run: numbers, times, the frames and widths of tables."""
    lines = []
    for line in text.splitlines():
        line = re.sub(r"[─━┏┓┗┛┳┻┡┩╇└┘┴├┤┼]+", " ", line)
        line = re.sub(r"[│┃]", "|", line)
        line = _ID.sub("ID", line)
        line = re.sub(r"\b[0-9a-f]{12,}\b", "HEX", line)
        line = re.sub(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", "TIME", line)
        line = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(\+00:00|Z)?", "TIME", line)
        line = re.sub(r"\d+(?:[.,:]\d+)*", "N", line)
        line = re.sub(r"\bN (bytes|[KMGT]iB)\b", "N bytes", line)
        line = re.sub(r"\bN (second|minute|hour|day)s?( ago)?\b|\bjust now\b", "N ago", line)
        line = re.sub(r"\s+", " ", line).strip()
        if line.strip("| "):
            lines.append(line)
    return lines


def is_printed(documented: str, printed: str) -> bool:
    """Tell whether a command printed what the document says."""
    pattern = "\n".join(r"(?:.*\n)*?.*" if line == "..." else re.escape(line) for line in blanked(documented))
    return re.fullmatch(pattern, "\n".join(blanked(printed))) is not None


@dataclass
class Installation:
    """A server, its stores, and a shell beside it."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {SERVICE: free_port(), NEW_SERVICE: free_port()})
    ids: dict[str, str] = field(default_factory=dict)
    servers: dict[str, Shardgate] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"  # and "data-new", of a second one

    @property
    def config(self) -> Path:
        return self.folder / "shardgate.toml"

    @property
    def server(self) -> Shardgate:
        """Return the server that was started last."""
        return list(self.servers.values())[-1]

    def prepare(self) -> None:
        text = (ROOT / "config/bench.toml").read_text("utf-8").replace(DOCUMENTED_ADDRESS, f"127.0.0.1:{self.ports[SERVICE]}")
        self.config.write_text(text)
        # A minute, until every process has learnt of a store that is left, is long for a test: python imports this at each start.
        (self.folder / "sitecustomize.py").write_text("import proxy.manifest.campaigns as c\nc.SETTLE_MS = 1000\n")
        programs = self.folder / "bin"
        programs.mkdir()
        python = sys.executable
        for name, script in {
            "shardgate": f'cd {ROOT} && exec {python} -m proxy.cli.main "$@"',
            "systemctl": f'echo "$1" "$2" > {self.folder}/systemctl',  # carried out once the command has ended: see `type`
            "unconfigure": f'exec {python} -m tests.runbook {self.config} "$@"',
        }.items():
            path = programs / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self, service: str = SERVICE) -> None:
        new = service == NEW_SERVICE
        data, config = (self.folder / "data-new", self.folder / "new.toml") if new else (self.data, self.config)
        self.servers[service] = start_shardgate(
            data, config=config, port=self.ports[service], environ={**self._environ(), "SHARDGATE_DATA": str(data)}
        )

    def stop(self, service: str = SERVICE) -> None:
        if service in self.servers:
            stop(self.servers.pop(service).process)

    def take(self, step: Step) -> None:
        """Do what stands in the document. AssertionError if a command prints something else, or fails."""
        match step:
            case Added(text):
                with self.config.open("a") as file:
                    file.write(f"\n{self._here(text)}")
            case Happens(command):
                code, output = self.type(command)
                assert code == 0, f"{command}\n{output}"
            case Typed(command, documented):
                _, output = self.type(command)
                assert is_printed(documented, output), f"$ {command}\n{output}\n--- in the document:\n{documented}"
                self.ids.update(zip(_ID.findall(documented), _ID.findall(output), strict=False))

    def type(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/bash", "-uo", "pipefail", "-c", f"{self._here(command)}\n"],
            env=self._environ(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self._obey_systemctl()
        shown = done.stdout
        for documented, here in self._places().items():
            shown = shown.replace(here, documented)
        return done.returncode, shown

    def _here(self, text: str) -> str:
        for documented, here in {**self.ids, **self._places()}.items():
            text = text.replace(documented, here)
        return text

    def _places(self) -> dict[str, str]:
        """Return what is elsewhere than the document says, and where."""
        return {
            DOCUMENTED_DATA: str(self.data),
            DOCUMENTED_CONFIG: str(self.config),
            DOCUMENTED_NEW_CONFIG: str(self.folder / "new.toml"),
            DOCUMENTED_ADDRESS: f"127.0.0.1:{self.ports[SERVICE]}",
            DOCUMENTED_NEW_ADDRESS: f"127.0.0.1:{self.ports[NEW_SERVICE]}",
        }

    def _obey_systemctl(self) -> None:
        order = self.folder / "systemctl"
        if order.exists():
            verb, service = order.read_text().split()
            order.unlink()
            if verb in {"stop", "restart"}:
                self.stop(service)
            if verb in {"start", "restart"}:
                self.start(service)

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_", "SHARDGATE_"))}
        return {
            **kept,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "SHARDGATE_CONFIG": str(self.config),
            "SHARDGATE_DATA": str(self.data),
        }


@contextmanager
def installation(folder: Path) -> Iterator[Installation]:
    """An installation whose server runs."""
    made = Installation(folder)
    made.prepare()
    made.start()
    try:
        yield made
    finally:
        for service in list(made.servers):
            made.stop(service)
        shutil.rmtree(made.data, ignore_errors=True)


def _unconfigure(config: Path, stores: list[str]) -> None:
    """Take stores out of a configuration, as an editor would."""
    text = config.read_text("utf-8")
    for store in stores:
        text, count = re.subn(rf"^\[stores\.{store}\]\n.*?(?=^\[|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
        assert count == 1, store
    config.write_text(text)


if __name__ == "__main__":
    _unconfigure(Path(sys.argv[1]), sys.argv[2:])
