"""Does something, and is killed at a chosen step of it. Run as a process of its own: python -m tests.fault.crash_child DATA WHAT STEP.

A step is "before commit 2", "after commit 1", "at put 3" or "after tell 1": the second commit of the manifest, the third put to any store,
or the first event that a target was told, since what is to be interrupted began. All of it goes through the classes themselves, so nothing
escapes that opens stores or a manifest of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from proxy.config import JournalConfig
from proxy.engine.journal.checkpointing import request_checkpoint
from proxy.engine.repack.merging import FEWEST
from proxy.manifest.damage import Damage
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import ObjectAttributes, ObjectKey
from proxy.manifest.sqlite.group_commit import GroupCommitter
from proxy.recovering import recover
from proxy.stores.directory import DirectoryStore
from proxy.targets.log_file import LogFile
from proxy.upkeep import make_mover
from tests.fault.crash_features import FEATURES, adjust
from tests.laboratory import BytesBody, Laboratory, laboratory, laboratory_config, stored
from tests.packing import bodies, put_pack, repack

OLD, NEW = b"old", b"new" * 100_000
PACKED = b"new" * 1000
BESIDE = ("a", "b")  # keys of what is packed together with "k"
SMALL_PACKS = bodies(*[4000] * FEWEST, prefix="small")  # each in a pack of its own, that become one
KEPT = JournalConfig(interval_ms=3_600_000)
IN_A_PACK = " of a pack"  # behind what is done: the object that it is done to lies in one


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Steps:
    """Counts what a process does to the world, and ends it at one step."""

    def __init__(self, fatal: str) -> None:
        self._fatal = fatal
        self._counts: Counter[str] = Counter()
        self.armed = False

    def reach(self, step: str) -> None:
        if self.armed:
            self._counts[step] += 1
            if self._fatal == f"{step} {self._counts[step]}":
                die()

    def watch(self) -> None:
        """Put the counting around every store and every manifest of this process."""
        for verb in ("put", "delete", "get", "get_range"):
            setattr(DirectoryStore, verb, self._at(f"at {verb}", getattr(DirectoryStore, verb)))
        GroupCommitter.run = self._around("commit", GroupCommitter.run)  # type: ignore[method-assign]
        LogFile.tell = self._around("tell", LogFile.tell)  # type: ignore[method-assign]

    def _at(self, step: str, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def counted(*args: object, **options: object) -> object:
            self.reach(step)
            return await call(*args, **options)

        return counted

    def _around(self, step: str, run: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def counted(*args: object, **options: object) -> object:
            self.reach(f"before {step}")
            result = await run(*args, **options)
            self.reach(f"after {step}")
            return result

        return counted


async def write(lab: Laboratory, steps: Steps) -> None:
    lab.services.parts.ledger._free.clear()  # so that the lease is a step, too
    steps.armed = True
    await lab.put("k", NEW)


async def pack(lab: Laboratory, steps: Steps) -> None:
    lab.services.parts.ledger._free.clear()
    steps.armed = True
    await asyncio.gather(*(lab.put_promptly(key, PACKED) for key in ("k", *BESIDE)))
    await lab.settled()


async def merge(lab: Laboratory, steps: Steps) -> None:
    for key, data in SMALL_PACKS.items():
        await put_pack(lab, {key: data})
    lab.services.parts.ledger._free.clear()
    steps.armed = True
    await repack(lab)
    await lab.collect()


async def complete(lab: Laboratory, steps: Steps) -> None:
    engine = lab.services.engine
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("k"), ObjectAttributes())
    part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(NEW))
    await lab.settled()
    steps.armed = True
    await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])


async def delete(lab: Laboratory, steps: Steps) -> None:
    steps.armed = True
    await lab.services.engine.delete_latest(lab.bucket, ObjectKey("k"))
    await lab.collect()


async def repair(lab: Laboratory, steps: Steps) -> None:
    extent, segment = await stored(lab)
    store = segment.stores[1]
    await lab.stores[store].inner.delete(segment.shard_name(1))  # type: ignore[arg-type]
    lost = Damage(extent_id=extent.id, segment_id=segment.id, shard_index=1, kind="missing", store=store)
    await lab.services.manifest.report_damage([lost], now_ms=lab.clock.now_ms())
    lab.clock.advance(2 * 3600)
    steps.armed = True
    await lab.worker("repair").step()


async def move(lab: Laboratory, steps: Steps) -> None:
    extent, segment = await stored(lab)
    parts = lab.services.parts
    steps.armed = True
    await make_mover(parts, parts.throttle.share()).copy(extent, segment, {2: segment.stores[2]})
    await lab.collect()


async def flush(lab: Laboratory, steps: Steps) -> None:
    await lab.put("k", NEW)
    assert lab.services.journal is not None
    steps.armed = True
    await lab.services.journal.flusher.flush()


async def checkpoint(lab: Laboratory, steps: Steps) -> None:
    await request_checkpoint(lab.services.manifest)
    steps.armed = True
    while not (await lab.worker("checkpoint").step()).idle:
        pass


async def recovery(data: Path, steps: Steps, *, packs: bool) -> None:
    """The manifest is lost, and recovered."""
    async with laboratory(data, journal=KEPT, packs=packs) as lab:
        await lab.put("k", PACKED if packs else NEW)
    lose_manifest(data)
    steps.armed = True
    await recover(laboratory_config(data, journal=KEPT), lambda phase, done, total: None)


def lose_manifest(data: Path) -> None:
    for path in data.glob("manifest.sqlite*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


ACTS: dict[str, Callable[[Laboratory, Steps], Awaitable[None]]] = {
    "write": write,
    "pack": pack,
    "merge": merge,
    "complete": complete,
    "delete": delete,
    "repair": repair,
    "move": move,
    "journal flush": flush,
    "checkpoint": checkpoint,
}


async def main(data: Path, what: str, step: str) -> None:
    steps = Steps(step)
    steps.watch()
    packs, what = what == "pack" or what.endswith(IN_A_PACK), what.removesuffix(IN_A_PACK)
    async with laboratory(data, journal=KEPT, packs=packs, adjust=adjust) as lab:
        await lab.put("k", OLD)
        if what in ACTS:
            await ACTS[what](lab, steps)
        elif what in FEATURES:
            await FEATURES[what].prepare(lab)
            steps.armed = True
            await FEATURES[what].act(lab)
    if what == "recover":
        await recovery(data, steps, packs=packs)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
