"""Logging: lines of text for people, or of JSON for machines. Never a key, a signature or plaintext.

Most lines tell of requests, and to write each by itself takes a system call, which waits if whoever reads the log is slow. So lines are
gathered, and a thread writes what has come ten times a second. A warning or an error is written at once, with all that came before it: so
is the rest when the process ends, but not if it is killed.

What many lines tell of is put into words later, some at a time. To make one between two requests takes four times as long: the code for
it, and what it uses, is out of the processor's caches by then.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TextIO

import msgspec

from proxy.config import LogConfig

BATCH_SECONDS = 0.1
MADE_AT_ONCE = 32  # lines, in a tenth of a millisecond
MAX_LINES = 10_000  # some 2 MB, if whoever reads them is slow: then those who log wait for him


def configure_logging(config: LogConfig) -> None:
    """Send everything to standard error in the format asked for."""
    handler = BatchHandler(sys.stderr, JsonFormatter() if config.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    logging.getLogger("botocore").setLevel(logging.WARNING)
    # What no format here shows is not looked up: a quarter of the time of a line. https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class Told(Protocol):
    """What one of many lines tells of. It does not change."""

    def message(self) -> str: ...

    def facts(self) -> Mapping[str, object]: ...


def tell(logger: logging.Logger, told: Told) -> None:
    """Log one of many lines at INFO, as `logger.info` would with the facts as `extra`.

    The library makes a record of each line, and asks a dozen functions about it: 20 us, an eighth of a small request. Where all lines go to
    our handler alone, this takes one.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    handlers = logging.root.handlers
    if len(handlers) == 1 and isinstance(handlers[0], BatchHandler) and not logger.handlers:
        handlers[0].tell(logger.name, told)
    else:
        logger.info("%s", told.message(), extra={"facts": told.facts()})


class LineFormatter(Protocol):
    """What makes lines, of the library's records and of what is told without one."""

    def format(self, record: logging.LogRecord) -> str: ...

    def line(self, created: float, name: str, told: Told) -> str:
        """Return a line at INFO, of a moment in seconds since 1970."""
        ...


class BatchHandler(logging.Handler):
    """Writes lines by batches. Any thread may log."""

    def __init__(self, stream: TextIO, formatter: LineFormatter) -> None:
        super().__init__()
        self._stream = stream
        self._formatter = formatter
        self._told: deque[tuple[float, str, Told]] = deque()  # what is to be put into words, of later than all lines
        self._lines: deque[str] = deque()
        self._making = threading.RLock()  # whoever makes lines may be interrupted to log something
        self._come = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._write_forever, name="log", daemon=True).start()

    def createLock(self) -> None:
        """Make none: lines are made under a lock of their own. Whoever writes has another, and nobody who adds a line waits for that."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record that no filter keeps back. The library's own takes the lock for granted since Python 3.13."""
        kept = self.filter(record)
        if kept:
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return bool(kept)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._formatter.format(record)
        except Exception:  # as the library's handlers do: a line that cannot be made must not break what it tells of
            self.handleError(record)
        else:
            self._make()
            self._lines.append(line)
            self._see_to_it(at_once=record.levelno >= logging.WARNING)

    def tell(self, name: str, told: Told) -> None:
        """Write a line at INFO."""
        self._told.append((time.time(), name, told))
        if len(self._told) >= MADE_AT_ONCE:
            self._make()
            self._see_to_it(at_once=False)
        elif not self._come.is_set():
            self._come.set()

    def _make(self) -> None:
        """Put into words what was told so far."""
        with self._making:
            while self._told:
                created, name, told = self._told.popleft()
                try:
                    self._lines.append(self._formatter.line(created, name, told))
                except Exception:
                    self.handleError(logging.makeLogRecord({"created": created, "name": name, "msg": "a line that cannot be made"}))

    def _see_to_it(self, *, at_once: bool) -> None:
        """Have the lines written: soon, or at once."""
        if at_once or len(self._lines) > MAX_LINES:
            self.flush()
        elif not self._come.is_set():
            self._come.set()

    def flush(self) -> None:
        """Write what has come. This waits for whoever reads it."""
        self._make()
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                with suppress(OSError, ValueError):  # nobody reads it any more
                    self._stream.write("\n".join((*lines, "")))
                    self._stream.flush()

    def _write_forever(self) -> None:
        while True:
            self._come.wait()
            time.sleep(BATCH_SECONDS)
            self._come.clear()
            self.flush()


class TextFormatter(logging.Formatter):
    """Lines that begin with the local time, which is put into words once a second."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._second, self._words = 0, ""

    def line(self, created: float, name: str, told: Told) -> str:
        return _writable(f"{self._time(created, created % 1 * 1000)} INFO {name}: {_in_one_line(told.message())}")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002 - logging's own name
        return self._time(record.created, record.msecs)

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _in_one_line(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _writable(super().format(record))

    def _time(self, created: float, milliseconds: float) -> str:
        second = int(created)
        if second != self._second:
            self._second, self._words = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._words},{int(milliseconds):03d}"


class JsonFormatter(logging.Formatter):
    """One object a line; what a call put into `extra={"facts": {...}}` stands beside the message."""

    def line(self, created: float, name: str, told: Told) -> str:
        return _as_json(_fields(created, "info", name, told.message(), told.facts()))

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record.created, record.levelname.lower(), record.name, record.getMessage(), getattr(record, "facts", {}))
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _as_json(fields)


def _fields(created: float, level: str, name: str, message: str, facts: Mapping[str, object]) -> dict[str, object]:
    moment = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    return {"time": moment, "level": level, "logger": name, "message": message, **facts}


def _as_json(fields: Mapping[str, object]) -> str:
    try:
        return msgspec.json.encode(fields).decode()
    except UnicodeEncodeError:
        writable = {name: _writable(value) if isinstance(value, str) else value for name, value in fields.items()}
        return msgspec.json.encode(writable).decode()


def _in_one_line(text: str) -> str:
    """Return a message as one line that does nothing to a terminal: a client's key in it may have any characters."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _writable(text: str) -> str:
    """Return text that any stream takes: a request line that is not UTF-8 must not cost its own line in the log."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
