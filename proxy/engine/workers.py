"""Workers: all background work is of one kind, and one runner keeps it going.

A worker does one bounded unit a `step`, and says what that did. The runner takes turns for it: a turn is leased in the manifest, so one
of many processes works at a time, and another takes over when the lease of a process that died has expired. Between turns nobody holds
the job. What must run in every process, such as keeping that process's own leases alive, says so, and is not leased.

A step that fails is tried again later and later, with jitter, so that many processes do not come back at the same instant. Whatever a step
raises, the worker goes on: if it ended, garbage would pile up and leases would expire, and nobody would know.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from math import ldexp
from typing import Protocol, runtime_checkable

from msgspec import Struct

from proxy.clock import Clock
from proxy.errors import ManifestFenced, ProxyError
from proxy.manifest import jobs
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import JobReport

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0  # kept alive while a step runs; a process that dies holds the job up for as long
POLL_SECONDS = 15.0  # how soon a job that was resumed, or whose holder died, is looked at again
FIRST_BACKOFF_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 300.0
GIVE_BACK_SECONDS = 5.0  # a manifest that hangs does not hold up the end: the lease expires by itself


class Progress(Struct, frozen=True, kw_only=True):
    """What one step did. `idle`: there is no more to do now. `trouble` is what did not work out, though the rest was done."""

    idle: bool
    done: int = 0
    remaining: int | None = None
    requests: int = 0
    size_bytes: int = 0
    trouble: str = ""


class Worker(Protocol):
    """Background work. A step may be cancelled, and may be run again by another process after it broke off anywhere."""

    @property
    def name(self) -> str: ...

    @property
    def idle_seconds(self) -> float: ...  # how long to wait when there is nothing to do

    @property
    def everywhere(self) -> bool: ...  # whether each process must run it: then it is not leased, and cannot be paused

    async def step(self) -> Progress: ...


@runtime_checkable
class Asked(Worker, Protocol):
    """A worker that looks every second or two, and mostly in vain: a turn of it is taken only if it is wanted, or to be shown again."""

    async def is_wanted(self) -> bool: ...


class Runner:
    """Keeps the workers of this process going. `holder` names the process in the manifest."""

    def __init__(
        self,
        manifest: Manifest,
        clock: Clock,
        workers: Sequence[Worker],
        *,
        holder: str,
        jitter: Callable[[], float] = random.random,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._manifest = manifest
        self._clock = clock
        self._workers = workers
        self._holder = holder
        self._jitter = jitter
        self._lease_seconds = lease_seconds
        self._failures: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the workers; on leaving, break their steps off and give their leases back."""
        tasks = [asyncio.create_task(self._keep_going(worker)) for worker in self._workers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def turn(self, worker: Worker) -> float:
        """Take one turn, if it is this process's to take; return after how many seconds to ask again. Nothing is raised."""
        try:
            if not worker.everywhere and not await self._take(worker):
                return min(POLL_SECONDS, worker.idle_seconds)
            started = self._clock.monotonic()
            try:
                progress = await self._step(worker)
            except ManifestFenced:
                raise
            except Exception as error:
                return await self._failed(worker, error)
            return await self._finished(worker, progress, self._clock.monotonic() - started)
        except ManifestFenced:
            return POLL_SECONDS  # it was said when it was found
        except ProxyError as error:  # of the manifest, before a step or after it
            logger.warning("%s: %s", worker.name, error)
            return self._backoff_seconds(worker)

    async def _keep_going(self, worker: Worker) -> None:
        wait = worker.idle_seconds  # a start, and many at once after a power cut, has other work to do
        while True:
            await asyncio.sleep(wait)
            wait = await self.turn(worker)

    async def _take(self, worker: Worker) -> bool:
        now, lease_ms = self._clock.now_ms(), int(self._lease_seconds * 1000)
        job = await self._manifest.find_job(worker.name)  # to look costs no write
        if jobs.take(job, self._holder, now_ms=now, lease_ms=lease_ms) is None:
            return False
        was_shown = now - int(POLL_SECONDS * 1000) <= job.due_ms  # a moment ago, that there is nothing to do
        if was_shown and isinstance(worker, Asked) and not await _is_wanted(worker):
            return False
        taken = await self._manifest.take_job(worker.name, self._holder, now_ms=now, lease_ms=lease_ms)
        self._failures[worker.name] = taken.failures if taken else 0
        return taken is not None

    async def _step(self, worker: Worker) -> Progress:
        if worker.everywhere:
            return await worker.step()
        step = asyncio.create_task(worker.step())
        try:
            while not (await asyncio.wait({step}, timeout=self._lease_seconds / 3))[0]:
                await self._extend(worker)
            return step.result()
        except BaseException as error:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
            if not isinstance(error, Exception):  # of a failure there is a report to come
                await self._give_back(worker)
            raise

    async def _extend(self, worker: Worker) -> None:
        now = self._clock.now_ms()
        held = await self._manifest.extend_job(worker.name, self._holder, now_ms=now, lease_ms=int(self._lease_seconds * 1000))
        if held is None:
            raise ProxyError("the lease expired during a step, and another process has taken over")

    async def _give_back(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._manifest.give_job_back(worker.name, self._holder)
        except (ProxyError, TimeoutError) as error:
            logger.debug("%s: the lease was not given back, and will expire: %s", worker.name, error)

    async def _finished(self, worker: Worker, progress: Progress, seconds: float) -> float:
        recovered = self._failures.pop(worker.name, 0) > 0
        wait = worker.idle_seconds if progress.idle else 0.0
        report = JobReport(
            done=progress.done,
            remaining=progress.remaining,
            requests=progress.requests,
            size_bytes=progress.size_bytes,
            seconds=seconds,
            error=progress.trouble,
            due_ms=self._clock.now_ms() + int(wait * 1000),
        )
        if not worker.everywhere or progress.done or progress.trouble or recovered:  # else each process would write that nothing happened
            await self._report(worker, report)
        return wait

    async def _failed(self, worker: Worker, error: Exception) -> float:
        self._failures[worker.name] += 1
        wait = self._backoff_seconds(worker)
        # What nobody foresaw is told with its place, once: what was raised on purpose says enough.
        logger.warning(
            "%s failed, and is tried again in %.0f s: %s",
            worker.name,
            wait,
            error,
            exc_info=None if isinstance(error, ProxyError) else error,
        )
        text = str(error) or type(error).__name__
        await self._report(worker, JobReport(error=text, failed=True, due_ms=self._clock.now_ms() + int(wait * 1000)))
        return wait

    async def _report(self, worker: Worker, report: JobReport) -> None:
        now = self._clock.now_ms()
        if worker.everywhere:
            await self._manifest.report_job(worker.name, report, now_ms=now)
        else:
            await self._manifest.finish_job(worker.name, self._holder, report, now_ms=now)

    def _backoff_seconds(self, worker: Worker) -> float:
        """Return a wait that doubles with each failure in a row, no longer than an everyday wait of one that must not be late."""
        longest = min(MAX_BACKOFF_SECONDS, worker.idle_seconds) if worker.everywhere else MAX_BACKOFF_SECONDS
        return min(ldexp(FIRST_BACKOFF_SECONDS, min(self._failures[worker.name], 16)), longest) * (0.5 + self._jitter() / 2)


async def _is_wanted(worker: Asked) -> bool:
    try:
        return await worker.is_wanted()
    except ProxyError:
        raise
    except Exception:  # the step meets it, too, and there it is told
        return True
