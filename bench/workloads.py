"""What is measured: six verbs at three sizes, in the order in which each finds what the one before left."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from bench.client import Request
from bench.signing import Endpoint

KIB = 1024
MIB = 1024 * KIB
LIST_KEYS = 1000
RANGE_BYTES = 64 * KIB
SAMPLE_EVERY = 16
STAMP_SIZE = 16


@dataclass(frozen=True, slots=True)
class Size:
    """A size of object: how many are put, how many requests run at a time, and in how many turns each workload is measured."""

    label: str
    size_bytes: int
    count: int
    connections: int
    turns: int = 1


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done in a round; seconds are those of all turns together."""

    rounds: int
    small: Size
    medium: Size
    large: Size
    read_seconds: float  # GET, HEAD, LIST and range run this long
    write_seconds: float  # PUT and DELETE stop after this long even when objects are left


FULL = Scale(2, Size("4 KiB", 4 * KIB, 4000, 16, 4), Size("1 MiB", MIB, 512, 8, 4), Size("64 MiB", 64 * MIB, 16, 4, 2), 3.2, 24.0)
QUICK = Scale(1, Size("4 KiB", 4 * KIB, 600, 16, 2), Size("1 MiB", MIB, 64, 8, 2), Size("64 MiB", 64 * MIB, 8, 4), 0.8, 6.0)


@dataclass(frozen=True, slots=True)
class Workload:
    """One measurement: `requests` builds what is sent, from the indices of the objects that exist."""

    name: str
    size: Size
    connections: int
    seconds: float
    repeat: bool
    fills: bool  # its requests create the size's objects
    in_bytes: bool  # MB/s says something
    requests: Builder

    @property
    def turn_seconds(self) -> float:
        return self.seconds / self.size.turns


class Payload:
    """The contents of a size's objects: one random block, led by a stamp that is different for every object."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self._block = os.urandom(size.size_bytes - STAMP_SIZE)

    def pieces(self, index: int) -> tuple[bytes, memoryview]:
        return self.stamp(index), memoryview(self._block)

    def whole(self, index: int) -> bytes:
        return self.stamp(index) + self._block

    def part(self, start: int, length: int) -> bytes:
        """Return bytes behind the stamp, the same in every object."""
        return self._block[start - STAMP_SIZE :][:length]

    @staticmethod
    def stamp(index: int) -> bytes:
        return b"%0*d" % (STAMP_SIZE, index)


def plan(scale: Scale) -> list[Workload]:
    """Return the workloads of a round, in order."""
    sizes = (scale.small, scale.medium, scale.large)
    workloads = []
    for size in sizes:
        workloads.append(_write(scale, "PUT", size, puts, fills=True))
        workloads.append(_read(scale, "GET", size, gets, in_bytes=True))
        if size is scale.large:
            workloads.append(_read(scale, "range 64 KiB", size, ranges, in_bytes=True, connections=scale.medium.connections))
        workloads.append(_read(scale, "HEAD", size, heads, connections=scale.small.connections))
        if size is scale.small:
            workloads.append(_read(scale, f"LIST {LIST_KEYS} keys", size, lists, connections=scale.large.connections))
    # Last, all of them: a server that deletes files would make its own next puts slow (see the rounds).
    return workloads + [_write(scale, "DELETE", size, deletes) for size in sizes]


def choose(workloads: Sequence[Workload], names: Collection[str] | None) -> list[Workload]:
    """Return the workloads of these names, with the puts that fill what they read; all of them if there are no names."""
    if not names:
        return list(workloads)
    chosen = [workload for workload in workloads if f"{workload.name} {workload.size.label}" in names]
    if len(chosen) < len(names):
        raise ValueError(f"no such workload; there are: {', '.join(f'{workload.name} {workload.size.label}' for workload in workloads)}")
    filled = {workload.size for workload in chosen}
    return [workload for workload in workloads if workload in chosen or (workload.fills and workload.size in filled)]


def listed_keys(payload: Payload, endpoint: Endpoint) -> list[Request]:
    """Build the puts of the folder that LIST lists; they warm the server too."""
    return [_put(payload, endpoint, f"/bench/list/{index:06d}", index) for index in range(LIST_KEYS)]


def first_objects(payloads: Iterable[Payload], endpoint: Endpoint) -> list[Request]:
    """Build one put into each folder: rclone fails when several clients make the same folder at once."""
    sizes = list(payloads)
    folders = [_path(payload.size, 0) for payload in sizes]
    return [_put(sizes[0], endpoint, path, 0) for path in [*folders, "/bench/list/000000"]]


def puts(payload: Payload, endpoint: Endpoint, existing: Sequence[int]) -> list[Request]:  # noqa: ARG001 -- nothing exists yet
    return [_put(payload, endpoint, _path(payload.size, index), index) for index in range(payload.size.count)]


def gets(payload: Payload, endpoint: Endpoint, existing: Sequence[int]) -> list[Request]:
    size = payload.size.size_bytes
    # Comparing 64 MiB costs the client about as much as receiving it: one such body a pass, more of the small ones.
    every = SAMPLE_EVERY if size <= MIB else len(existing)
    return [
        Request(
            endpoint.sign("GET", _path(payload.size, index)),
            answer_bytes=size,
            answer_starts=payload.whole(index) if position % every == 0 else b"",
            moved_bytes=size,
        )
        for position, index in enumerate(existing)
    ]


def ranges(payload: Payload, endpoint: Endpoint, existing: Sequence[int]) -> list[Request]:
    """Build ranges spread over the objects, off every alignment."""
    requests = []
    for position in range(256):
        index = existing[position % len(existing)]
        start = STAMP_SIZE + (position * 7_654_321) % (payload.size.size_bytes - RANGE_BYTES - STAMP_SIZE)
        requests.append(
            Request(
                endpoint.sign("GET", _path(payload.size, index), extra={"Range": f"bytes={start}-{start + RANGE_BYTES - 1}"}),
                statuses=(206, 200),  # rclone says 200 over the right bytes
                answer_bytes=RANGE_BYTES,
                answer_starts=payload.part(start, RANGE_BYTES) if position % SAMPLE_EVERY == 0 else b"",
                moved_bytes=RANGE_BYTES,
            )
        )
    return requests


def heads(payload: Payload, endpoint: Endpoint, existing: Sequence[int]) -> list[Request]:
    return [Request(endpoint.sign("HEAD", _path(payload.size, index)), bodiless=True) for index in existing]


def lists(payload: Payload, endpoint: Endpoint, existing: Sequence[int]) -> list[Request]:  # noqa: ARG001 -- it has a folder of its own
    query = f"list-type=2&max-keys={LIST_KEYS}&prefix=list%2F"
    return [Request(endpoint.sign("GET", "/bench", query), answer_starts=b"<?xml")] * 16


def deletes(payload: Payload, endpoint: Endpoint, existing: Sequence[int]) -> list[Request]:
    return [Request(endpoint.sign("DELETE", _path(payload.size, index)), statuses=(204,)) for index in existing]


def _write(scale: Scale, name: str, size: Size, build: Builder, *, fills: bool = False) -> Workload:
    return Workload(name, size, size.connections, scale.write_seconds, repeat=False, fills=fills, in_bytes=fills, requests=build)


def _read(scale: Scale, name: str, size: Size, build: Builder, *, in_bytes: bool = False, connections: int | None = None) -> Workload:
    return Workload(
        name, size, connections or size.connections, scale.read_seconds, repeat=True, fills=False, in_bytes=in_bytes, requests=build
    )


def _put(payload: Payload, endpoint: Endpoint, path: str, index: int) -> Request:
    size = payload.size.size_bytes
    return Request(endpoint.sign("PUT", path, body_bytes=size), body=payload.pieces(index), moved_bytes=size)


def _path(size: Size, index: int) -> str:
    return f"/bench/{size.label.replace(' ', '')}/{index:06d}"


Builder = Callable[[Payload, Endpoint, Sequence[int]], list[Request]]
