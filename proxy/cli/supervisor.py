"""The supervisor: keeps several worker processes running, restarts those that die, and stops them all.

A signal only sets a flag; the loop alone starts, restarts and stops workers, so that no signal can fall between. Each worker's standard
input is a pipe from here: it ends when the supervisor does, even by SIGKILL, and the worker with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import FrameType

from proxy.cli.saying import say
from proxy.errors import ProxyError

READY = b"ready\n"  # a worker writes it to standard output once it accepts connections
POLL_SECONDS = 0.05
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
START_SECONDS = 120.0  # a worker started again that does not serve by then is ended: it waits ten seconds for a store, and for a manifest
STEADY_SECONDS = 60.0  # a worker that lived this long starts again with the first back-off
STOP_SECONDS = 60.0  # the server gives requests in flight 30 s, and late puts 10 s after that
REAP_SECONDS = 10.0  # a killed process that has not ended by then waits in the kernel, for a disk that hangs: no signal reaches it there


class Supervisor:
    """Runs a process of each command.

    `ready` is called once, when all of them accept connections; `ended` with the place, from 0, of a process that will be replaced;
    `stopping` before they are told to stop. They have these `files`, by the same numbers.
    """

    def __init__(
        self,
        commands: Iterable[Sequence[str]],
        *,
        ready: Callable[[], None],
        ended: Callable[[int], object],
        stopping: Callable[[], object] = lambda: None,
        files: Sequence[int] = (),
        start_seconds: float = START_SECONDS,
        reap_seconds: float = REAP_SECONDS,
    ) -> None:
        self._reap_seconds = reap_seconds
        self._stopping = stopping
        self._workers = [
            Worker(command, partial(ended, place), files=files, start_seconds=start_seconds) for place, command in enumerate(commands)
        ]
        self._ready = ready
        self._signals = 0

    def run(self) -> None:
        """Return when told to stop by SIGINT or SIGTERM, after the workers have ended.

        Raises `ProxyError` if they cannot start, or if one cannot be ended: it is left behind.
        """
        former = {number: signal.signal(number, self._heed) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            try:
                self._start()
                while not self._signals:
                    self._tend()
            finally:
                self._stop()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1

    def _start(self) -> None:
        for worker in self._workers:
            worker.start()
        while not self._signals:
            if any(worker.ended for worker in self._workers):
                raise ProxyError("a worker ended before it could serve: see its message above")
            if all(worker.is_ready() for worker in self._workers):
                self._ready()
                return
            time.sleep(POLL_SECONDS)

    def _tend(self) -> None:
        for worker in self._workers:
            worker.tend()
        time.sleep(POLL_SECONDS)

    def _stop(self) -> None:
        if self._signals:
            say("shardgate: stopping, once the requests in flight have their answers; another signal ends it at once")
        self._stopping()
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        # A second signal means now.
        while self._signals < 2 and time.monotonic() < deadline and not all(worker.ended for worker in self._workers):
            time.sleep(POLL_SECONDS)
        for worker in self._workers:
            worker.send(signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        deadline = time.monotonic() + self._reap_seconds
        left = [worker.reap(max(deadline - time.monotonic(), 0)) for worker in self._workers]
        if behind := ", ".join(str(pid) for pid in left if pid is not None):
            raise ProxyError(
                f"these workers were killed and do not end: {behind}; they wait in the kernel, most likely for the disk of a store that "
                "hangs, and are left behind: they end when it answers, or at the next boot"
            )


class Worker:
    """One place among the workers, and the process that fills it."""

    def __init__(
        self, command: Sequence[str], report_end: Callable[[], object], *, files: Sequence[int] = (), start_seconds: float = START_SECONDS
    ) -> None:
        self._command = command
        self._files = files
        self._report_end = report_end
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._output = b""
        self._started = 0.0
        self._backoff_seconds = FIRST_BACKOFF_SECONDS
        self._restart_at: float | None = None

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        # A session of its own: Ctrl-C at a terminal reaches the supervisor alone, which passes it on once.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, pass_fds=self._files
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._output = b""
        self._started = time.monotonic()
        self._restart_at = None

    def is_ready(self) -> bool:
        """Tell whether the process has said that it accepts connections."""
        if self._output != READY and self._process is not None and self._process.stdout is not None:
            self._output = (self._output + (self._process.stdout.read() or b""))[-len(READY) :]
        return self._output == READY

    def tend(self) -> None:
        """Start the process again if it has ended, after a back-off that grows as long as it keeps ending; end one that does not start."""
        now = time.monotonic()
        if not self.ended:
            if not self.is_ready() and now - self._started >= self._start_seconds:
                self.send(signal.SIGKILL)
        elif self._restart_at is None:
            if now - self._started >= STEADY_SECONDS and self.is_ready():
                self._backoff_seconds = FIRST_BACKOFF_SECONDS
            assert self._process is not None
            self._report_end()
            self._back_off(now, f"worker {self._process.pid} ended with {self._process.returncode}")
        elif now >= self._restart_at:
            self._restart(now)

    def send(self, number: signal.Signals) -> None:
        """Signal the process, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def reap(self, timeout_seconds: float = 0) -> int | None:
        """Wait for the end of the process, and close its pipes. Returns the id of one that has not ended by then."""
        if self._process is None:
            return None
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return self._process.pid
        finally:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = None
        return None

    def _restart(self, now: float) -> None:
        self.reap()
        try:
            self.start()
        except OSError as error:  # too many processes, no memory: it passes, and the other workers serve meanwhile
            self._back_off(now, f"cannot start a worker: {error.strerror}")

    def _back_off(self, now: float, why: str) -> None:
        say(f"shardgate: {why}; starting another in {self._backoff_seconds:g} s")
        self._restart_at = now + self._backoff_seconds
        self._backoff_seconds = min(self._backoff_seconds * 2, MAX_BACKOFF_SECONDS)
