"""Events are told: the worker that hands what is queued to its targets.

Each target has a queue of its own in the manifest, so one that is down holds up nobody else: its events wait, and it is asked again later
and later. Told is what the target has acknowledged; a process that dies in between tells it again, with the same id. Several are under way
at a time, so the order is not kept, as on AWS: the sequencer tells which of two events of a key came last.

What waits longer than `notifications.keep_days` is forgotten, so that a target that never comes back does not fill the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ldexp

from proxy.clock import Clock
from proxy.engine.workers import Progress
from proxy.errors import TargetFailed
from proxy.manifest.events import Delivery
from proxy.manifest.protocol import Manifest
from proxy.notice import Notice
from proxy.s3.notification import TEST_EVENT, message_of, test_message_of
from proxy.targets.protocol import Target

logger = logging.getLogger(__name__)

AT_ONCE = 128  # events of one target in one step
UNDER_WAY = 16
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 300.0
IDLE_SECONDS = 1.0


@dataclass(slots=True)
class _Trouble:
    """How a target has failed: how often in a row, until when it is left alone, and what it said."""

    failures: int
    until: float
    text: str


class Teller:
    """The worker that tells events."""

    name = "notifications"
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(self, manifest: Manifest, clock: Clock, targets: Mapping[str, Target], *, region: str, keep_seconds: float) -> None:
        self._manifest = manifest
        self._clock = clock
        self._targets = targets
        self._region = region
        self._keep_seconds = keep_seconds
        self._troubles: dict[str, _Trouble] = {}
        self._notices: defaultdict[str, Notice] = defaultdict(Notice)

    async def is_wanted(self) -> bool:
        return bool(await self._manifest.event_backlogs())

    async def step(self) -> Progress:
        backlogs = await self._manifest.event_backlogs()
        if not backlogs:
            return Progress(idle=True)
        dropped = await self._drop_old()
        ready = [backlog.target for backlog in backlogs if self._is_ready(backlog.target)]
        told = await asyncio.gather(*(self._tell_target(target) for target in ready))
        remaining = max(sum(backlog.count for backlog in backlogs) - sum(told) - dropped, 0)
        trouble = self._trouble([backlog.target for backlog in backlogs])
        return Progress(idle=not any(told), done=sum(told), remaining=remaining, trouble=trouble)

    def _is_ready(self, target: str) -> bool:
        trouble = self._troubles.get(target)
        return target in self._targets and (trouble is None or trouble.until <= self._clock.monotonic())

    async def _tell_target(self, name: str) -> int:
        """Tell one target what waits for it; return how many events it took."""
        deliveries = await self._manifest.due_events(name, limit=AT_ONCE)
        turn, failures = asyncio.Semaphore(UNDER_WAY), list[str]()
        outcomes = await asyncio.gather(*(self._tell(name, delivery, turn, failures) for delivery in deliveries))
        told = [delivery.sequence for delivery, failure in zip(deliveries, outcomes, strict=True) if failure is None]
        if told:
            await self._manifest.finish_events(told)
        self._note(name, next((failure for failure in outcomes if failure is not None), None))
        return len(told)

    async def _tell(self, name: str, delivery: Delivery, turn: asyncio.Semaphore, failures: list[str]) -> str | None:
        """Return why the event could not be told, or None.

        After as many failures as are under way at once no more is asked: a target that hangs costs the others one timeout, not eight.
        """
        async with turn:
            if len(failures) >= UNDER_WAY:
                return failures[0]
            try:
                await self._targets[name].tell(self._message(delivery), message_id=_sequencer(delivery))
            except TargetFailed as error:
                failures.append(str(error))
                return str(error)
        return None

    def _note(self, target: str, failure: str | None) -> None:
        before = self._troubles.pop(target, None)
        if failure is None:
            if self._notices[target].ends():
                logger.info("target %s takes events again", target)
            return
        if (more := self._notices[target].meets(1, self._clock.monotonic())) is not None:
            logger.warning("target %s does not take events; they are kept, and told later: %s%s", target, failure, more)
        failures = 1 if before is None else before.failures + 1
        wait = min(ldexp(FIRST_BACKOFF_SECONDS, min(failures - 1, 16)), MAX_BACKOFF_SECONDS)
        self._troubles[target] = _Trouble(failures, self._clock.monotonic() + wait, failure)

    def _trouble(self, waiting: Sequence[str]) -> str:
        gone = [f"{target}: it is not configured any more" for target in waiting if target not in self._targets]
        return "; ".join([*gone, *(f"{target}: {trouble.text}" for target, trouble in sorted(self._troubles.items()))])

    async def _drop_old(self) -> int:
        before_ms = self._clock.now_ms() - int(self._keep_seconds * 1000)
        dropped = await self._manifest.drop_events(before_ms=before_ms, limit=10_000)
        if dropped:
            logger.warning("%d events waited longer than notifications.keep_days for their targets, and are forgotten", dropped)
        return dropped

    def _message(self, delivery: Delivery) -> bytes:
        event, cause = delivery.event, delivery.event.cause
        if cause.name == TEST_EVENT:
            return test_message_of(bucket=event.bucket, at_ms=event.at_ms, request_id=cause.request_id, host_id=cause.host_id)
        return message_of(
            region=self._region,
            event=cause.name,
            at_ms=event.at_ms,
            principal=cause.principal,
            source_ip=cause.source_ip,
            request_id=cause.request_id,
            host_id=cause.host_id,
            configuration=delivery.configuration,
            bucket=event.bucket,
            owner=cause.owner,
            key=event.key,
            size=event.size,
            etag=event.etag,
            version_id=event.version_id,
            sequencer=_sequencer(delivery),
        )


def _sequencer(delivery: Delivery) -> str:
    """Return a number that rises from event to event, as hex digits of one length. An event keeps it, whoever tells it and how often.

    A manifest that was recovered counts its events from 1 again, in a later epoch. So does a start begin a later epoch: it is that of the
    event which counts.
    """
    return f"{delivery.epoch:08X}{delivery.sequence:012X}"
