"""The servers of `python -m bench --distant`: each over buckets with a round trip of 30 ms, behind lines as those of `bench.wan`.

Shardgate has six buckets, and rclone's crypt remote has one. The third is such a bucket itself, used directly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.servers import ACCESS_KEY, SECRET_KEY, Running, rclone_over, shardgate
from bench.signing import Endpoint
from bench.wan.far import FarSide, far_side
from bench.wan.stores import STORES, configuration
from bench.workloads import KIB, MIB, Scale, Size

MEGABYTES_PER_SECOND = 125.0
BUCKET = "bucket"

FULL = Scale(1, Size("4 KiB", 4 * KIB, 2000, 16, 2), Size("1 MiB", MIB, 192, 8, 2), Size("64 MiB", 64 * MIB, 8, 4, 2), 2.0, 8.0)
QUICK = Scale(1, Size("4 KiB", 4 * KIB, 600, 16), Size("1 MiB", MIB, 64, 8), Size("64 MiB", 64 * MIB, 4, 4), 0.7, 3.0)


@contextlib.contextmanager
def distant_shardgate(data: Path, *, workers: int) -> Iterator[Running]:
    """Run Shardgate over six buckets, without a cache."""
    with far_side(tuple(STORES), megabytes_per_second=MEGABYTES_PER_SECOND) as far:
        config = data / "distant.toml"
        config.write_text(configuration(far.ports))
        with shardgate(data, workers=workers, config=config) as server:
            yield replace(server, asked=partial(_asked, far, tuple(STORES)))


@contextlib.contextmanager
def distant_rclone(data: Path) -> Iterator[Running]:
    """Run `rclone serve s3` over a crypt remote on one bucket."""
    with far_side((BUCKET,), megabytes_per_second=MEGABYTES_PER_SECOND) as far:
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": f"http://127.0.0.1:{far.ports[BUCKET]}",
            "REGION": "us-east-1",
            "ACCESS_KEY_ID": ACCESS_KEY,
            "SECRET_ACCESS_KEY": SECRET_KEY,
            "FORCE_PATH_STYLE": "true",
            "LIST_VERSION": "2",
            "NO_CHECK_BUCKET": "true",
            "USE_MULTIPART_ETAG": "false",  # its ETags are numbers
        }
        variables = {f"RCLONE_CONFIG_FAR_{name}": value for name, value in remote.items()}
        with rclone_over("far:bench", data, variables) as server:
            yield replace(server, asked=partial(_asked, far, (BUCKET,)))


@contextlib.contextmanager
def distant_bucket(data: Path) -> Iterator[Running]:  # noqa: ARG001 -- it keeps everything in memory
    """Run one bucket, to be used directly."""
    with far_side((BUCKET,), megabytes_per_second=MEGABYTES_PER_SECOND) as far:
        endpoint = Endpoint("127.0.0.1", far.ports[BUCKET], ACCESS_KEY, SECRET_KEY)
        yield Running("direct", endpoint, far.pid)


def _asked(far: FarSide, lines: Collection[str]) -> int:
    requests = far.requests()
    return sum(requests[line] for line in lines)
