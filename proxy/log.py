"""Logging: lines of text for people, or of JSON for machines. Never a key, a signature or plaintext."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from proxy.config import LogConfig


def configure_logging(config: LogConfig) -> None:
    """Send everything to standard error in the format asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if config.format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    logging.getLogger("botocore").setLevel(logging.WARNING)


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
        return msgspec.json.encode(line).decode()
