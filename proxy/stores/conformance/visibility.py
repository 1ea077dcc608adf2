"""Probes of what is seen when: after a put, an overwrite, a delete."""

from __future__ import annotations

from functools import partial

from proxy.errors import ShardMissing, StoreError
from proxy.stores.conformance.findings import Defect, Peculiarity
from proxy.stores.conformance.trial import Trial, random_bytes
from proxy.stores.protocol import ShardName

TRIES = 10
SIZE = 4096


async def read_after_write(trial: Trial) -> str:
    """Read each shard right after its put."""
    late: list[float] = []
    for number in range(TRIES):
        name, body = trial.name(f"read-{number}"), random_bytes(SIZE)
        await trial.put(name, body)
        if await trial.readable(name):
            continue
        waited = await trial.until(partial(trial.readable, name))
        if waited is None:
            raise Defect(
                f"a put was acknowledged, and the object is not there {_patience(trial)} later", meaning=_LOST, remedy=_LOST_REMEDY
            )
        late.append(waited)
    if late:
        raise Defect(f"{len(late)} of {TRIES} objects could not be read right after their put; the last one {max(late):.1f} s later")
    return f"{TRIES} of {TRIES} objects were read right after their put"


_LOST = "The store loses what it has acknowledged. Each such put is a missing shard, and several together a lost object."
_LOST_REMEDY = "Do not use this store."


def _patience(trial: Trial) -> str:
    return f"{trial.patience_seconds:g} s"


async def list_after_write(trial: Trial) -> str:
    """List each shard right after its put."""
    late: list[float] = []
    for number in range(TRIES):
        name = trial.name(f"list-{number}")
        await trial.put(name, random_bytes(SIZE + number))
        waited = await trial.until(partial(_is_listed, trial, name))
        if waited is None:
            raise Defect(f"an object that was put is not listed {_patience(trial)} later")
        if (size := await trial.listed(name)) != SIZE + number:
            raise Defect(f"an object of {SIZE + number} bytes is listed with {size}", meaning=_WRONG_SIZE)
        if waited:
            late.append(waited)
    if late:
        raise Peculiarity(f"{len(late)} of {TRIES} objects were not listed right after their put; the last one {max(late):.1f} s later")
    return f"{TRIES} of {TRIES} objects were listed right after their put, with their sizes"


_WRONG_SIZE = "Scrub compares sizes with the listing, so it would take whole shards for truncated ones."


async def _is_listed(trial: Trial, name: ShardName) -> bool:
    return await trial.listed(name) is not None


async def put_twice(trial: Trial) -> str:
    """Put the same shard twice, as a retry does after an answer that got lost."""
    name, body = trial.name("twice"), random_bytes(SIZE)
    await trial.put(name, body)
    try:
        await trial.put(name, body)
    except StoreError as error:
        raise Defect(f"the second put of the same object failed: {error}") from error
    if await trial.get(name) != body:
        raise Defect("after the second put of the same object, other bytes came back")
    return "the second put of the same object is a success"


async def overwrite(trial: Trial) -> str:
    """Put other bytes under the same name, and read them."""
    name, new = trial.name("overwritten"), random_bytes(SIZE)
    await trial.put(name, random_bytes(SIZE))
    await trial.put(name, new)
    waited = await trial.until(partial(_reads, trial, name, new))
    if waited is None:
        raise Peculiarity(f"the old bytes still come back {_patience(trial)} after an overwrite")
    if waited:
        raise Peculiarity(f"the new bytes came {waited:.1f} s after an overwrite")
    return "an overwrite is seen at once"


async def _reads(trial: Trial, name: ShardName, body: bytes) -> bool:
    return await trial.get(name) == body


async def delete(trial: Trial) -> str:
    """Delete; then neither a read nor a listing shows the shard."""
    name = trial.name("deleted")
    await trial.put(name, random_bytes(SIZE))
    try:
        await trial.delete(name)
    except StoreError as error:
        raise Defect(f"a delete failed: {error}", meaning=_KEEPS, remedy=_KEEPS_REMEDY) from error
    unread = await trial.until(partial(_is_gone, trial, name))
    unlisted = await trial.until(partial(_is_unlisted, trial, name))
    if unread is None or unlisted is None:
        what = "read" if unread is None else "listed"
        raise Defect(f"a deleted object is still {what} {_patience(trial)} later", meaning=_KEEPS, remedy=_KEEPS_REMEDY)
    if waited := max(unread, unlisted):
        raise Peculiarity(f"a deleted object was seen for {waited:.1f} s more")
    return "a deleted object is gone at once"


_KEEPS = "Deleted data stays in the store: it costs money, and whoever gets at the bucket has it."
_KEEPS_REMEDY = "Allow deletions (s3:DeleteObject), and turn off retention, object lock and legal holds for this bucket."


async def _is_gone(trial: Trial, name: ShardName) -> bool:
    return not await trial.readable(name)


async def _is_unlisted(trial: Trial, name: ShardName) -> bool:
    return await trial.listed(name) is None


async def delete_absent(trial: Trial) -> str:
    """Delete a shard that is not there, as collection does after an answer that got lost."""
    try:
        await trial.delete(trial.name("never-put"))
    except StoreError as error:
        raise Defect(f"deleting an object that is not there failed: {error}") from error
    return "deleting an object that is not there is a success"


async def missing(trial: Trial) -> str:
    """Read a shard that was never put: the answer must be that it is not there."""
    name = trial.name("absent")
    for what, call in (("a read", partial(trial.get, name)), ("a range", partial(trial.get_range, name, 0, 16))):
        try:
            data = await call()
        except ShardMissing:
            continue
        except StoreError as error:
            raise Defect(f"{what} of an object that is not there failed otherwise: {error}") from error
        raise Defect(f"{what} of an object that is not there gave {len(data):,} bytes", meaning=_INVENTED, remedy=_LOST_REMEDY)
    return "an object that is not there is told to be missing"


_INVENTED = "The store answers with what was never put: a missing shard looks like a forged one."
