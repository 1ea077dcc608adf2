"""Clients that are checked by a program in their own language: it is copied, built, and run against the server."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.clients.running import Outcome, run_program, skipped

HERE = Path(__file__).parent
_SHARED = HERE / "shared"
_GO = (("go", "build", "-o", "check", "."),)
_MAVEN = (("mvn", "-q", "-B", "-ntp", "compile", "dependency:build-classpath", "-Dmdep.outputFile=target/classpath"),)
_JAVA = ("sh", "-c", 'exec java -cp "target/classes:$(cat target/classpath)" Check "$0"')


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How a program is built, beside what it shares with others, and how it is run: with one more argument, by `told`."""

    build: Sequence[Sequence[str]]
    shares: str = ""
    run: Sequence[str]
    told: str = "http://localhost:{port}"


PROGRAMS: Mapping[str, Program] = {
    "javascript": Program(build=[("npm", "install", "--silent", "--no-audit", "--no-fund")], run=("node", "check.mjs")),
    "golang": Program(build=_GO, shares="checking.go", run=("./check",), told="localhost:{port}"),  # minio-go
    "awsgo": Program(build=_GO, shares="checking.go", run=("./check",)),
    "java": Program(build=_MAVEN, shares="src/main/java/Checking.java", run=_JAVA),
    "hadoop": Program(build=_MAVEN, shares="src/main/java/Checking.java", run=_JAVA),
}


def run_built(name: str, folder: Path, port: int, environ: Mapping[str, str]) -> Outcome:
    """Build a program in `folder`, and run it."""
    program = PROGRAMS[name]
    place = Path(shutil.copytree(HERE / name, folder / name))
    if program.shares:
        shutil.copy(_SHARED / Path(program.shares).name, place / program.shares)
    for command in program.build:
        why_not = run_program(command, place, quiet=True)
        if why_not:
            return skipped(why_not)
    return "failed" if run_program([*program.run, program.told.format(port=port)], place, environ) else "content"
