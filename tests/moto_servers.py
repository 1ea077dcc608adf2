"""`python -m tests.moto_servers PORT …`: an S3 server by moto on each port, with buckets of its own, until SIGTERM.

One process imports moto and forks the servers off: the import takes a second, six servers that begin by themselves take six.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Sequence

from moto.server import main as serve


def main(ports: Sequence[str]) -> None:
    """Run until SIGTERM; the servers end before their parent."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    fork = multiprocessing.get_context("fork")
    servers = [fork.Process(target=serve, args=(["-H", "127.0.0.1", "-p", port],)) for port in ports]
    try:
        for server in servers:
            server.start()
        signal.pause()
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.join()


if __name__ == "__main__":
    main(sys.argv[1:])
