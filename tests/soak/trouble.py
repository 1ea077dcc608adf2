"""What goes wrong, one thing after the other, and how often each did."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from typing import NamedTuple

import psutil

from tests.fault.machine.providers import PASSING, mend
from tests.soak.site import BUCKET, LEFT, Site, planned

TROUBLE_SECONDS = 4.0  # between one and the next
HARMED = 10  # shards at once
WORST_SECONDS = 2.0  # by which the provider is slow: longer than its deadline is "hangs"


class _Step(NamedTuple):
    """Something that goes wrong, and what it is counted as."""

    name: str
    run: Callable[[], int]


class Trouble:
    """All faults are of one provider; processes die at random; operators move what is stored."""

    def __init__(self, site: Site, until: float) -> None:
        self._site = site
        self._until = until
        self._random = random.Random(0)
        self._draining = ""  # the campaign
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        began = time.monotonic()
        recovery_at = began + 0.6 * (self._until - began)
        for step in cycle(self._steps()):
            if time.monotonic() >= self._until - TROUBLE_SECONDS:
                break
            time.sleep(TROUBLE_SECONDS)
            if time.monotonic() > recovery_at and not self._site.recoveries_amid_trouble:
                self._site.provider.change(mend)
                self._site.lose_the_manifest()
                self.counts["manifest lost"] += 1
            self.counts[step.name] += step.run()
        self._site.provider.change(mend)

    def _steps(self) -> list[_Step]:
        """Return all there is, so that kills, damage and commands come between the faults of the provider."""
        others = cycle(
            (
                _Step("kill", lambda: self._signal(signal.SIGKILL)),
                _Step("lose shards", lambda: self._harm(lambda data: None)),
                _Step("scrub", lambda: self._command("scrub", "--now")),
                _Step("kill", lambda: self._signal(signal.SIGKILL)),
                _Step("drain", self._drain),
                _Step("flip shards", lambda: self._harm(_flipped)),
                _Step("suspend", self._suspend),
                _Step("deep scrub", lambda: self._command("scrub", "--now", "--deep")),
                _Step("kill", lambda: self._signal(signal.SIGKILL)),
                _Step("truncate shards", lambda: self._harm(lambda data: data[: len(data) // 2])),
                _Step("policy move", self._move_policy),
                _Step("fsck", lambda: self._command("fsck", "--apply")),
                _Step("rebalance", self._rebalance),
            )
        )
        faults = [_Step(name, lambda name=name: self._misbehave(name)) for name in sorted(PASSING)]
        faults.append(_Step("loses puts", lambda: self._change(lambda store: setattr(store, "loses_puts", True))))
        return [step for fault in faults for step in (fault, next(others), _Step("mend", self._mend))]

    # The provider

    def _misbehave(self, fault: str) -> int:
        if fault == "slow":
            return self._change(lambda store: setattr(store, "slow_seconds", WORST_SECONDS))
        return self._change(lambda store: PASSING[fault](store, self._random))

    def _change(self, how: Callable[[object], None]) -> int:
        self._site.provider.change(how)
        return 1

    def _mend(self) -> int:
        self._site.provider.change(mend)
        return 0

    def _harm(self, harm: Callable[[bytes], bytes | None]) -> int:
        """Do harm to some shards that the provider has stored well, behind everybody's back."""
        self._site.provider.change(lambda store: self._harm_some(harm))
        return HARMED

    def _harm_some(self, harm: Callable[[bytes], bytes | None]) -> None:
        objects = self._site.provider.held.objects
        for name in self._random.sample(sorted(objects), min(HARMED, len(objects))):
            changed = harm(objects[name])
            if changed is None:
                del objects[name]
            else:
                objects[name] = changed

    # Processes

    def _suspend(self) -> int:
        """Stop a worker for a while, longer than some of its deadlines."""
        stopped = self._signal(signal.SIGSTOP)
        time.sleep(TROUBLE_SECONDS)
        for worker in self._site.workers():
            with suppress(psutil.Error):
                worker.send_signal(signal.SIGCONT)
        return stopped

    def _signal(self, number: signal.Signals) -> int:
        workers = self._site.workers()
        if not workers:
            return 0
        with suppress(psutil.Error):
            self._random.choice(workers).send_signal(number)
        return 1

    # Operators

    def _command(self, *arguments: str) -> int:
        self._site.command(*arguments)
        return 1

    def _drain(self) -> int:
        """Leave a store: its shards move while everything else goes on. Later it is given up, and begun anew."""
        verb = ("stores", "drain", LEFT)
        if not self._draining:
            self._draining = self._apply(*verb)
            return bool(self._draining)
        for order in self._random.choice((("--pause", "--resume"), ("--cancel",))):
            self._site.command(*verb, order, self._draining, *(["--detach"] if order == "--resume" else []))
            if order == "--cancel":
                self._draining = ""
        return 1

    def _rebalance(self) -> int:
        return bool(self._apply("rebalance"))

    def _move_policy(self) -> int:
        """Move the bucket to the other policy; most of it is stored anew."""
        return bool(self._apply("policy", "move", BUCKET, self._random.choice(("thrifty", "standard"))))

    def _apply(self, *verb: str) -> str:
        """Plan, and carry it out; return the campaign's id, "" if it was refused or not answered."""
        plan = planned(self._site.command(*verb, "--json"))
        if plan:
            self._site.command(*verb, "--apply", plan, "--detach")
        return plan


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data
