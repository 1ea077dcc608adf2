"""One side of a comparison: who is asked, over which lines, and what has come of it so far."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.servers import shardgate
from bench.wan.far import FarSide
from bench.wan.operations import Client, Measured, Operation
from bench.wan.stores import STORES, configuration


class Side:
    """Sends operations, a turn at a time. `measured` joins the turns of each operation, in order."""

    def __init__(self, client: Client, far: FarSide, lines: Collection[str]) -> None:
        self.client = client
        self._far = far
        self._lines = lines
        self._found: dict[str, _Found] = {}

    def prepare(self, operations: Sequence[Operation], seconds: float) -> None:
        """Put what is read, and do each operation for a while, so that the server knows its stores."""
        for operation in operations:
            if operation.method == "GET":
                self.client.fill(operation)
        for operation in operations:
            self.client.run(operation, seconds=seconds)

    def take_turn(self, operation: Operation, seconds: float) -> None:
        """Do an operation for so long."""
        before = self._asked()
        latencies, errors = self.client.run(operation, seconds=seconds)
        found = self._found.setdefault(operation.name, _Found())
        found.latencies += latencies
        found.errors += errors
        found.asked += self._asked() - before

    def measured(self) -> Mapping[str, Measured]:
        return {name: found.measured() for name, found in self._found.items()}

    def _asked(self) -> int:
        requests = self._far.requests()
        return sum(requests[line] for line in self._lines)


@dataclass(slots=True)
class _Found:
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    asked: int = 0

    def measured(self) -> Measured:
        return Measured(latencies=self.latencies, requests=self.asked / max(len(self.latencies), 1), errors=self.errors)


def line_name(side: str, store: str) -> str:
    """Return the name of the line that a store has on this side: each side has six of its own."""
    return f"{side}-{store}"


def lines_of(side: str) -> list[str]:
    return [line_name(side, store) for store in STORES]


@contextmanager
def proxy_side(folder: Path, far: FarSide, side: str) -> Iterator[Side]:
    """Run a proxy over the lines of this side. `folder` is for its data."""
    folder.mkdir(parents=True)
    config = folder.with_suffix(".toml")
    config.write_text(configuration({store: far.ports[line_name(side, store)] for store in STORES}))
    with shardgate(folder, workers=1, config=config) as server:
        yield Side(Client(server.endpoint), far, lines_of(side))
