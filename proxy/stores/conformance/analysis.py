"""The analysis of one store: which probes there are, in their order, and what a failure of each means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from proxy.clock import Clock
from proxy.errors import StoreError, StoreRejected
from proxy.stores.conformance import contents, loads, particulars, visibility
from proxy.stores.conformance.findings import Conformance, Defect, Finding, Peculiarity, Untold, is_fit
from proxy.stores.conformance.trial import Trial, random_bytes
from proxy.stores.protocol import Store

Result = TypeVar("Result")
PATIENCE_SECONDS = 10.0
QUICK_MANY = 50
QUICK_ROUNDS = 10
_OTHER_STORE = "Ask the provider, or use another one."
_CACHE = "Look for a cache or a gateway between here and the bucket, and go around it."
_REFUSED = "Check the credentials, the bucket's name and its region, and that they allow: put, get, list and delete of objects."


class Probe(NamedTuple):
    """One thing to try. It returns what it found where all is well, and raises `Defect`, `Peculiarity` or `StoreError`."""

    check: str
    run: Callable[[Trial], Awaitable[str]]
    meaning: str
    remedy: str
    needed: bool = True  # whether a store that fails it altogether is unfit
    full_only: bool = False  # whether it moves much data
    basic: bool = False  # whether nothing else need be tried once it fails


async def _usable(trial: Trial) -> str:
    """Put a shard and ask for it. That it is not there is for the next probe to look into."""
    name = trial.name("first")
    await trial.put(name, random_bytes(1024))
    await trial.readable(name)
    return "an object can be put and asked for"


_PROBES = (
    Probe(
        "put and ask",
        _usable,
        "The store cannot be used at all.",
        "Look at the network, the endpoint and the provider's status page; then check again.",
        basic=True,
    ),
    Probe(
        "read after write",
        visibility.read_after_write,
        "A read right after a write would take the shard for missing, go to other stores, and have it repaired for nothing.",
        _CACHE,
    ),
    Probe(
        "bytes as they were put",
        contents.whole,
        "Shardgate finds such bytes forged, and reads around them; each read of this store costs a second one elsewhere.",
        _OTHER_STORE,
    ),
    Probe(
        "ranges",
        contents.ranges,
        "Reads of parts of objects are ranges. Without them each such read fails here, and goes to other stores.",
        "Use an endpoint that honours the Range header; a gateway or cache in between may be what drops it.",
    ),
    Probe(
        "ranges beyond the end",
        contents.ranges_beyond,
        "A truncated shard would not be told from a whole one, or from a store that fails.",
        _OTHER_STORE,
    ),
    Probe("an empty object", contents.empty, "No shard is empty; but a store that mistakes these may mistake others.", _OTHER_STORE),
    Probe(
        "list after write",
        visibility.list_after_write,
        "Scrub and recovery find shards by listings; they would take new ones for missing until they are listed.",
        "Let scrub wait longer than that after a write; a store that never lists what it holds is of no use.",
    ),
    Probe(
        "an object that is not there",
        visibility.missing,
        "A shard that is missing would be taken for a store that fails, and the store be left out.",
        "Allow listing (s3:ListBucket): without it S3 answers 403 instead of 404.",
    ),
    Probe(
        "put twice",
        visibility.put_twice,
        "A put whose answer got lost is made again; here the second one would fail, and a whole shard count as missing.",
        "Turn off rules that forbid overwriting: object lock, retention, or a policy that demands If-None-Match.",
    ),
    Probe(
        "overwrite",
        visibility.overwrite,
        "Shardgate never puts other bytes under a name, so this does no harm. It is the sign of a cache.",
        _CACHE,
    ),
    Probe(
        "delete",
        visibility.delete,
        "A deleted shard that is seen for a while may be counted as an orphan, and be deleted once more.",
        "Nothing, if it is a matter of seconds.",
    ),
    Probe(
        "delete what is not there",
        visibility.delete_absent,
        "A delete whose answer got lost is made again; here it would fail for ever, and stay in the queue.",
        _OTHER_STORE,
    ),
    Probe(
        "puts of one name at once",
        loads.one_name,
        "Shardgate draws a new name for each put, so it does not depend on this.",
        "Nothing.",
    ),
    Probe(
        "the largest shard",
        loads.largest_shard,
        "Shards of large segments cannot be stored here.",
        "Raise the store's limit on the size of an object, or limits.put_timeout_seconds if the line is slow.",
        full_only=True,
    ),
    Probe(
        "64 MiB in one object",
        loads.large,
        "No shard is as large, so it does no harm today.",
        "Nothing, or raise limits.put_timeout_seconds if the line is slow.",
        needed=False,
        full_only=True,
    ),
    Probe(
        "many objects",
        loads.many,
        "Scrub, fsck and recovery list all of a bucket; what is not listed counts as missing, or is never found again.",
        "Check that the endpoint pages its listings (ListObjectsV2, ContinuationToken, StartAfter).",
        full_only=True,
    ),
    Probe("latency", loads.latency, "", "", needed=False),
    Probe(
        "conditional put",
        particulars.conditional_put,
        "Shardgate does without, as no name is ever put anew with other bytes.",
        "Nothing.",
        needed=False,
    ),
    Probe(
        "clock",
        particulars.clock,
        "Requests are signed with the time. From 15 minutes on, S3 refuses them all.",
        "Set this machine's clock by NTP; if it is right, tell the provider.",
        needed=False,
    ),
    Probe(
        "versions",
        particulars.versions,
        "Deleted shards cost money for as long as they stay, and whoever gets at the bucket has them.",
        "Turn versioning off, or add a lifecycle rule that removes noncurrent versions.",
        needed=False,
    ),
    Probe("ETag", particulars.etag, "The store is mistaken about what it holds.", _OTHER_STORE, needed=False),
    Probe(
        "leftovers",
        particulars.leftovers,
        "They cost a little money, and nothing else.",
        "If no other check runs, delete all below check/ in this bucket.",
        needed=False,
    ),
)
_QUICK = {"many objects": partial(loads.many, count=QUICK_MANY), "latency": partial(loads.latency, rounds=QUICK_ROUNDS)}


async def analyze(
    store: Store,
    clock: Clock,
    *,
    put_seconds: float,
    get_seconds: float,
    quick: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    tell_left: Callable[[Sequence[str]], None] = lambda _: None,
    patience_seconds: float = PATIENCE_SECONDS,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Conformance:
    """Try all that Shardgate needs of a store. `store` is the bare one: without breaker, limits and deadlines.

    `tell` hears what is tried now. However this ends, by Ctrl-C too, the store is cleaned; `tell_left` hears what could not be removed.
    """
    trial = Trial(store, clock, put_seconds=put_seconds, get_seconds=get_seconds, patience_seconds=patience_seconds, sleep=sleep)
    try:
        findings = await _try_all(trial, quick=quick, tell=tell)
    finally:
        tell(f"removing what was put below {trial.prefix}")
        left = await _to_the_end(_clean(trial, tell_left))
    return Conformance(
        store=store.info.name,
        prefix=trial.prefix,
        findings=findings,
        timings=tuple(trial.timings),
        left=left,
        fit=is_fit(findings),
    )


async def _clean(trial: Trial, tell_left: Callable[[Sequence[str]], None]) -> tuple[str, ...]:
    left = await trial.clean()
    if left:
        tell_left(left)
    return left


async def _to_the_end(cleaning: Coroutine[None, None, Result]) -> Result:
    """Wait for the end of the cleaning, also if Ctrl-C comes amid it."""
    task = asyncio.create_task(cleaning)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _try_all(trial: Trial, *, quick: bool, tell: Callable[[str], None]) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    for probe in _quick_probes() if quick else _PROBES:
        tell(probe.check)
        findings.append(await _try(probe, trial))
        if probe.basic and findings[-1].outcome == "failed":
            break
    return tuple(findings)


def _quick_probes() -> Iterator[Probe]:
    for probe in _PROBES:
        if probe.check in _QUICK:
            yield probe._replace(run=_QUICK[probe.check])
        elif not probe.full_only:
            yield probe


async def _try(probe: Probe, trial: Trial) -> Finding:
    try:
        found = await probe.run(trial)
    except Untold as untold:
        return Finding(check=probe.check, outcome="note", found=untold.found)
    except Peculiarity as peculiarity:
        return _finding(probe, peculiarity, failed=False)
    except Defect as defect:
        return _finding(probe, defect, failed=True)
    except StoreRejected as error:
        return _finding(probe, Defect(str(error), remedy=_REFUSED), failed=probe.needed)
    except StoreError as error:
        return _finding(probe, Defect(str(error)), failed=probe.needed)
    return Finding(check=probe.check, outcome="passed", found=found)


def _finding(probe: Probe, defect: Defect, *, failed: bool) -> Finding:
    return Finding(
        check=probe.check,
        outcome="failed" if failed else "note",
        found=defect.found,
        meaning=defect.meaning or probe.meaning,
        remedy=defect.remedy or probe.remedy,
    )
