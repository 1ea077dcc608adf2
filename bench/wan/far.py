"""The far side: buckets behind their lines, in a process of its own (`python -m bench.wan.far NAME=PORT …`).

Its standard input says what the lines are to be like: each command is one line of JSON, and each is answered by one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, cast

import uvloop

from bench.ports import free_port
from bench.servers import REPOSITORY, ServerFailed
from bench.wan.bucket import Bucket, BucketServer
from bench.wan.line import Connection, Line, State


class FarSide:
    """The buckets, as whoever measures sees them. `ports` by name."""

    def __init__(self, process: subprocess.Popen[str], ports: Mapping[str, int]) -> None:
        self._process = process
        self.ports = ports

    @property
    def pid(self) -> int:
        return self._process.pid

    def turn(self, states: Mapping[str, State]) -> None:
        """Set what lines are like; those that are not named are healthy."""
        self._ask({"states": dict(states)})

    def widen(self, megabytes_per_second: float) -> None:
        """Set the bandwidth of every line, in each direction."""
        self._ask({"bytes_per_second": megabytes_per_second * 1e6})

    def requests(self) -> dict[str, int]:
        """Return how many requests each line has had."""
        return cast(dict[str, int], self._ask({}))

    def _ask(self, command: Mapping[str, object]) -> object:
        asked, answered = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        asked.write(json.dumps(command) + "\n")
        asked.flush()
        line = answered.readline()
        if not line:
            raise ServerFailed("the buckets have ended")
        return json.loads(line)


@contextmanager
def far_side(names: Sequence[str], *, megabytes_per_second: float) -> Iterator[FarSide]:
    """Run a bucket of each name, behind a line."""
    ports = {name: free_port() for name in names}
    command = [sys.executable, "-m", "bench.wan.far", *(f"{name}={port}" for name, port in ports.items())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True)
    try:
        side = FarSide(process, ports)
        side.widen(megabytes_per_second)
        yield side
    finally:
        process.terminate()
        process.wait()


async def _serve(places: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    lines = {}
    for seed, place in enumerate(places):
        name, _, port = place.partition("=")
        lines[name] = line = Line(name, bytes_per_second=1e8, seed=seed)
        bucket = Bucket()
        await loop.create_server(partial(_connect, line, bucket), "127.0.0.1", int(port))
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, commands), sys.stdin)
    while command := await commands.readline():
        print(json.dumps(_obey(lines, json.loads(command))), flush=True)


def _connect(line: Line, bucket: Bucket) -> Connection:
    return Connection(line, BucketServer(bucket))


def _obey(lines: Mapping[str, Line], command: Mapping[str, object]) -> dict[str, int]:
    if "states" in command:
        states = cast(Mapping[str, State], command["states"])
        for name, line in lines.items():
            if line.state != states.get(name, "healthy"):
                line.turn(states.get(name, "healthy"))
    if "bytes_per_second" in command:
        for line in lines.values():
            line.bytes_per_second = cast(float, command["bytes_per_second"])
    return {name: line.requests for name, line in lines.items()}


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1:]))
