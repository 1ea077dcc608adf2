"""Log lines: for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from typing import Literal

import pytest

from proxy.config import LogConfig
from proxy.log import JsonFormatter, TextFormatter, configure_logging


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root logger is as before after the test."""
    root = logging.getLogger()
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(root, "level", root.level)


def test_text_has_time_level_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig())
    logging.getLogger("proxy.test").warning("%d of %s", 3, "four")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING proxy\.test: 3 of four\n", capsys.readouterr().err)


def test_levels_below_the_configured_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig(level="error"))
    logging.getLogger("proxy.test").warning("no")
    assert capsys.readouterr().err == ""


def test_json_has_the_facts_and_the_exception(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig(format="json"))
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("proxy.test").exception("seen", extra={"facts": {"status": 500}})
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["message"], line["status"]) == ("error", "proxy.test", "seen", 500)
    assert "ValueError: broken" in line["exception"]
    assert line["time"].endswith("+00:00")


def test_the_time_is_that_of_each_record() -> None:
    formatter = TextFormatter("%(asctime)s")
    now = time.time()
    for created in (now, now + 1.25, now):
        record = logging.makeLogRecord({"created": created, "msecs": created % 1 * 1000})
        assert formatter.format(record) == logging.Formatter("%(asctime)s").format(record)
    assert isinstance(JsonFormatter().format(logging.makeLogRecord({"msg": "x"})), str)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_bytes_that_are_no_text_do_not_cost_the_line(log_format: Literal["text", "json"], monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr("sys.stderr", written)
    configure_logging(LogConfig(format=log_format))
    logging.getLogger("proxy.test").warning("GET %s", "/\udcff\u00fc", extra={"facts": {"resource": "/\udcff", "status": 400}})
    written.seek(0)
    line = written.read()
    assert "GET /\\udcff" in (json.loads(line)["message"] if log_format == "json" else line)
    assert "\u00fc" in line
    if log_format == "json":
        assert (json.loads(line)["resource"], json.loads(line)["status"]) == ("/\\udcff", 400)


def test_a_message_is_one_line_whatever_a_key_has_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig())
    logging.getLogger("a").warning("%s cannot be read", "k\n2026-01-01 00:00:00,000 INFO a: all is well\x1b[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"k\n2026-01-01 00:00:00,000 INFO a: all is well\x1b[2J cannot be read")
