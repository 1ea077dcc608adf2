"""The drill: of many small objects the manifest is deleted, and one store. Recover, compare every object, and say how long it took.

    python -m tests.drill --objects 100000
    python -m tests.drill --objects 100000 --labels   # the journal is cut off behind tenants and buckets: labels and tables tell of all
    python -m tests.drill --objects 100000 --labels --alone   # and each object is a segment of its own: the slowest way

The objects are written by a process that kills itself when the last one is acknowledged, so nothing is flushed. All of it lies under a
temporary directory.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from proxy.config import Config, load_config
from proxy.config.sections import PacksConfig
from proxy.engine.recover.report import Report
from proxy.manifest.records import Bucket, BucketName, ExtentId, ObjectAttributes, ObjectKey, Tenant
from proxy.recovering import recover
from proxy.services import Services, open_services
from proxy.tenancy import add_tenant
from tests.laboratory import ROOT, BytesBody

AT_ONCE = 64
GONE = "cedar"
BUCKETS = ("drill-one", "drill-two", "drill-three")
PACKS, ALONE = PacksConfig(below_kib=128), PacksConfig(below_kib=0)
ACCOUNTS = "accounts"  # a file with the number of the journal segment that has tenant and buckets


def main() -> None:
    arguments = _arguments()
    if arguments.fill is not None:
        asyncio.run(fill(arguments.fill, arguments.objects, packs=not arguments.alone))
    with tempfile.TemporaryDirectory(prefix="shardgate-drill-", dir=arguments.directory) as folder:
        lost = drill(Path(folder), arguments.objects, labels=arguments.labels, packs=not arguments.alone)
    sys.exit(1 if lost else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description="Recover from the loss of the manifest and of one store.")
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--labels", action="store_true", help="let only labels tell of the objects")
    parser.add_argument("--alone", action="store_true", help="store each object as a segment of its own, not in a pack")
    parser.add_argument("--directory", type=Path, help="where the temporary directory is made")
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def drill(data: Path, objects: int, *, labels: bool, packs: bool) -> int:
    """Run the drill; return how many objects were lost."""
    started = time.monotonic()
    options = [] if packs else ["--alone"]
    command = [sys.executable, "-m", "tests.drill", "--fill", str(data), "--objects", str(objects), *options]
    filled = subprocess.run(command, check=False, cwd=ROOT)
    if filled.returncode != -signal.SIGKILL:
        raise SystemExit(f"the objects could not be written: exit code {filled.returncode}")
    say(f"written   {objects:,} objects in {time.monotonic() - started:.1f} s, by a process that was killed")
    for path in data.glob("manifest.sqlite*"):
        path.unlink()
    shutil.rmtree(data / "stores" / GONE)
    say(f"deleted   the manifest, and store {GONE}")
    if labels:
        cut_journal(data)
    config = drill_config(data, packs=packs)
    report = asyncio.run(recover(config, silence))
    told(report)
    started = time.monotonic()
    lost, packed = asyncio.run(verify(config, objects))
    say(f"packed    {packed}")
    say(f"verified  {objects:,} objects byte for byte in {time.monotonic() - started:.1f} s: lost = {lost}")
    return lost


def told(report: Report) -> None:
    versions, from_labels = report.counts["version"], report.versions_from_labels
    say(
        f"recovered {versions:,} versions in {report.seconds:.1f} s: {versions - from_labels:,} from {report.journal.segments} journal "
        f"segments and checkpoint {report.journal.checkpoint}, {from_labels:,} from labels; did not come back: {report.finding_counts or 0}"
    )


def cut_journal(data: Path) -> None:
    """Delete all of the journal that tells of objects, in all stores. What a process that was killed left half written is not of it."""
    last = int((data / ACCOUNTS).read_text())
    cut = [path for path in data.glob("stores/*/[jcr]/*/[0-9]*") if int(path.name.partition("-")[0]) > last]
    for path in cut:
        path.unlink()
    say(f"cut off   {len(cut):,} shards of the journal, behind segment {last}")


def drill_config(data: Path, *, packs: bool) -> Config:
    """Six directories under `data`."""
    config = load_config(ROOT / "config/bench.toml", {"SHARDGATE_DATA": str(data)})
    limits = msgspec.structs.replace(config.limits, manifest_timeout_seconds=60.0)  # the machine may be busy with other things
    return msgspec.structs.replace(config, limits=limits, packs=PACKS if packs else ALONE)


def body_of(number: int) -> bytes:
    """Return what object `number` holds: 32 to 2,048 bytes."""
    return hashlib.sha256(b"%d" % number).digest() * (1 + number % 64)


def place_of(number: int) -> tuple[str, ObjectKey]:
    return BUCKETS[number % len(BUCKETS)], ObjectKey(f"{number % 100:02d}/object-{number:09d}")


async def fill(data: Path, objects: int, *, packs: bool) -> None:
    """Write all objects, and die when the last one is acknowledged."""
    async with open_services(drill_config(data, packs=packs), serving=True) as services:
        await add_tenant(services.manifest, services.keyring, services.clock, "drill")
        (tenant,) = await services.manifest.list_tenants()
        buckets = {}
        for name in BUCKETS:
            bucket = Bucket(name=BucketName(name), tenant_id=tenant.id, policy=services.default_policy, created_ms=services.clock.now_ms())
            buckets[name] = await services.manifest.create_bucket(bucket)
        (data / ACCOUNTS).write_text(str((await services.manifest.journal_position()).number))
        await _for_all(range(objects), lambda number: _put(services, tenant, buckets, number))
        os.kill(os.getpid(), signal.SIGKILL)  # within the services: leaving them would flush the journal


async def _put(services: Services, tenant: Tenant, buckets: dict[str, Bucket], number: int) -> None:
    bucket, key = place_of(number)
    await services.engine.put_object(buckets[bucket], tenant, key, BytesBody(body_of(number)), ObjectAttributes())


async def verify(config: Config, objects: int) -> tuple[int, str]:
    """Read every object; return how many are not what was written, and how they were packed."""
    lost = 0
    async with open_services(config) as services:
        (tenant,) = await services.manifest.list_tenants()
        buckets = {bucket.name: bucket for bucket in await services.manifest.list_buckets(tenant.id)}

        async def check(number: int) -> None:
            nonlocal lost
            name, key = place_of(number)
            found = await services.engine.find_readable(buckets[BucketName(name)], key)
            if found is None:
                lost += 1
                return
            reading = await services.engine.open_read(found.version, tenant, 0, found.version.size, extents=found.extents)
            lost += b"".join([bytes(piece) async for piece in reading]) != body_of(number)

        await _for_all(range(objects), check)
        packs = await services.manifest.packs_between(first=ExtentId(0), last=ExtentId(2**62))
    return lost, f"{sum(pack.slots for pack in packs):,} objects in {len(packs):,} packs"


async def _for_all(numbers: Iterable[int], act: Callable[[int], Awaitable[None]]) -> None:
    """Do it for each, some side by side."""
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            await act(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def silence(phase: str, done: int, total: int | None) -> None:
    """Only the end is told."""


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
