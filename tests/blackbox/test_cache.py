"""The cache of a server with several workers: one directory for all, which outlives them."""

from __future__ import annotations

import os
import re
import urllib.request
from pathlib import Path

from tests.blackbox.expect import until
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate

MIB = 1024 * 1024
ROUNDS = 12


def test_workers_share_the_directory_and_it_outlives_them(tmp_path: Path) -> None:
    folder, config = tmp_path / "cache", tmp_path / "cache.toml"
    cache = f'\n[cache]\nuse = "always"\nmemory_mib = 0\ndirectory = "{folder}"\ndirectory_mib = 64\n'
    config.write_text((ROOT / "config" / "bench.toml").read_text() + cache)
    bodies = {f"k{size}": os.urandom(size) for size in (1, 5000, 3 * MIB)}
    with shardgate(tmp_path, config=config, workers=2) as server:
        server.client().create_bucket(Bucket="bucket")
        for key, body in bodies.items():
            server.client().put_object(Bucket="bucket", Key=key, Body=body)
        for _ in range(ROUNDS):  # each over a new connection, so both workers get some
            assert _read(server) == bodies
        until(lambda: _sum(server, r'cache_served_bytes_total\{place="directory"') > 3 * MIB)
        # On a machine so busy that the disk is late, a store may be asked after all: less than the reads would take without a cache.
        assert _sum(server, r'store_calls_total\{outcome="ok",store=.*verb="get_range"') < ROUNDS * 10
    for file in [path for path in folder.rglob("*") if path.is_file()][::2]:
        file.write_bytes(os.urandom(file.stat().st_size))
    config.write_text(config.read_text().replace("memory_mib = 0", "memory_mib = 64"))
    with shardgate(tmp_path, config=config, workers=2) as server:
        assert _read(server) == bodies
        until(lambda: _sum(server, r'cache_looks_total\{outcome="spoilt"') > 0)
        until(lambda: _sum(server, r'cache_looks_total\{outcome="directory"') > 0)
        assert _sum(server, r"damage_found_total") == 0
        until(lambda: _sum(server, "cache_memory_bytes") > 3 * MIB)


def _read(server: Shardgate) -> dict[str, bytes]:
    s3 = server.client()
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    return {key: s3.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}


def _sum(server: Shardgate, pattern: str) -> float:
    with urllib.request.urlopen(f"{server.endpoint}/-/metrics", timeout=PATIENCE_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(f"shardgate_{pattern}", line))
