"""Logging: lines of text for people, or of JSON for machines. Never a key, a signature or plaintext."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime

import msgspec

from proxy.config import LogConfig


def configure_logging(config: LogConfig) -> None:
    """Send everything to standard error in the format asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    logging.getLogger("botocore").setLevel(logging.WARNING)
    # What no format here shows is not looked up: a quarter of the time of a line. https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class TextFormatter(logging.Formatter):
    """Lines that begin with the local time, which is put into words once a second."""

    def __init__(self, format_string: str) -> None:
        super().__init__(format_string)
        self._second, self._words = 0, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002 - logging's own name
        second = int(record.created)
        if second != self._second:
            self._second, self._words = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._words},{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _in_one_line(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _writable(super().format(record))


class JsonFormatter(logging.Formatter):
    """One object a line; what a call put into `extra={"facts": {...}}` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line).decode()
        except UnicodeEncodeError:
            return msgspec.json.encode(
                {name: _writable(value) if isinstance(value, str) else value for name, value in line.items()}
            ).decode()


def _in_one_line(text: str) -> str:
    """Return a message as one line that does nothing to a terminal: a client's key in it may have any characters."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _writable(text: str) -> str:
    """Return text that any stream takes: a request line that is not UTF-8 must not cost its own line in the log."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
