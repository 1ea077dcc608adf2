"""`python -m bench.primitives`: what a large PUT is made of, each part alone on one thread. A PUT cannot cost less than their sum."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from proxy.codec.format import SHARE_SIZE
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.memory import tune_allocator
from proxy.s3.checksums import new_hasher

SIZE = 16 * 1024 * 1024  # one segment
STRIDE = 1024 * 1024
ROUNDS = 12
SCHEME = Scheme(4, 2)


def main() -> None:
    """Print CPU seconds per GiB of plaintext."""
    tune_allocator()
    data = os.urandom(SIZE)
    shards = _code_and_seal(data)
    table = Table("primitive", "CPU s/GiB", title=f"scheme {SCHEME}, {SIZE >> 20} MiB at a time")
    total = 0.0
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for name, step in _steps(data, shards, Path(folder)).items():
            seconds = _cpu_seconds_per_gib(step)
            total += seconds
            table.add_row(name, f"{seconds:.2f}")
    table.add_section()
    table.add_row("sum", f"{total:.2f}")
    Console().print(table)


def _steps(data: bytes, shards: list[list[bytes]], folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "receive from a socket": lambda: _receive(data),
        "MD5": lambda: hashlib.md5(data, usedforsecurity=False).digest(),
        "CRC64NVME": lambda: new_hasher("CRC64NVME").update(data),
        "code and seal": lambda: _code_and_seal(data),
        "write six shards, without fsync": lambda: _write(shards, folder),
    }


def _cpu_seconds_per_gib(step: Callable[[], object]) -> float:
    step()
    started = time.process_time()
    for _ in range(ROUNDS):
        step()
    return (time.process_time() - started) / ROUNDS * 1024**3 / SIZE


def _receive(data: bytes) -> None:
    # Sending is counted as well: the kernel copies once on either side, and the sender is a client's in a PUT.
    ours, theirs = socket.socketpair()
    sender = threading.Thread(target=lambda: (theirs.sendall(data), theirs.close()))
    sender.start()
    while ours.recv(256 * 1024):
        pass
    sender.join()
    ours.close()


def _code_and_seal(data: bytes) -> list[list[bytes]]:
    geometry = SegmentGeometry(SCHEME, len(data))
    keys = SegmentKeys(geometry, segment_id=bytes(16), data_key=bytes(32), tenant_key_id=str(uuid.UUID(int=0)))
    sealer = SegmentSealer(keys)
    for offset in range(0, len(data), STRIDE):
        sealer.add([data[offset : offset + STRIDE]])
    return sealer.shards(label=b"", wrapped_shares=[bytes(SHARE_SIZE)] * SCHEME.n)


def _write(shards: list[list[bytes]], folder: Path) -> None:
    for shard in shards:
        with (folder / uuid.uuid4().hex).open("wb", buffering=0) as file:
            for cell in shard:
                file.write(cell)


if __name__ == "__main__":
    main()
