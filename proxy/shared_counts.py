"""How the counts of several workers are told as one.

Each place among the workers has its files in a folder that all share, by the library's own way; whichever worker answers a scrape tells
those of all. A worker that takes the place of one that ended counts on in its files, so nothing that came there is lost, and no file is
left over.

The files are mapped into memory: on a disk that is full, writing to a page without a block would end the process by SIGBUS. So the blocks
are taken at the start, and a worker that gets none counts alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

logger = logging.getLogger(__name__)

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's own variable
# KiB of a file, and of that for each store: every operation, status, verb and outcome there may be fills some two thirds.
_ROOM = {"counter": (256, 8), "histogram": (512, 32), "gauge_livesum": (64, 0)}


@contextmanager
def shared_by_workers() -> Iterator[None]:
    """Let workers started within count together, if there is room for a folder."""
    try:
        folder = TemporaryDirectory(prefix="shardgate-metrics-", ignore_cleanup_errors=True)
    except OSError as error:
        logger.warning("each worker counts alone: %s", error)
        yield
        return
    with folder as path:
        os.environ[SHARED_FOLDER] = path
        try:
            yield
        finally:
            del os.environ[SHARED_FOLDER]


def share_counts(worker: int, *, stores: int) -> None:
    """Count into the shared folder, as the worker of this place. To be called before anything is counted."""
    from prometheus_client import values  # here and below: the supervisor has no other use for it

    try:
        for kind, (base, each) in _ROOM.items():
            _reserve(Path(os.environ[SHARED_FOLDER], f"{kind}_{worker}.db"), (base + each * stores) * 1024)
    except (KeyError, OSError) as error:
        os.environ.pop(SHARED_FOLDER, None)
        values.ValueClass = values.MutexValue
        logger.warning("this worker counts alone: no room to share counts: %s", error)
    else:
        values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]  # the library's


def forget_gauges(worker: int) -> None:
    """Take what a worker that has ended was doing out of the counts."""
    from prometheus_client.multiprocess import mark_process_dead

    if SHARED_FOLDER in os.environ:
        mark_process_dead(worker)  # type: ignore[no-untyped-call]  # the library's


def _reserve(path: Path, size: int) -> None:
    if path.exists():
        return
    temporary = path.with_suffix(".new")  # under its name, others read it, and an empty one is no file of counts
    try:
        with temporary.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
