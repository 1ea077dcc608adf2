"""Log lines: for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Literal

import pytest

from proxy.config import LogConfig
from proxy.log import MADE_AT_ONCE, BatchHandler, JsonFormatter, TextFormatter, Told, configure_logging, tell
from tests.patience import PATIENCE_SECONDS


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


class Bare(logging.Formatter):
    """Makes lines of the message alone."""

    def line(self, created: float, name: str, told: Told) -> str:
        return told.message()


@dataclass(frozen=True)
class Seen:
    """What is told."""

    text: str

    def message(self) -> str:
        return self.text

    def facts(self) -> dict[str, object]:
        return {"status": 200, "resource": "/\udcff"}


class Unspeakable(Seen):
    """What no line can be made of."""

    def message(self) -> str:
        raise LookupError(self.text)


@pytest.fixture
def handler() -> tuple[BatchHandler, io.StringIO]:
    stream = io.StringIO()
    return BatchHandler(stream, Bare()), stream


def _info(handler: BatchHandler, text: str, level: int = logging.INFO) -> None:
    handler.handle(logging.makeLogRecord({"msg": text, "levelno": level}))


def test_lines_are_written_soon_and_in_their_order(handler: tuple[BatchHandler, io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    batch, stream = handler
    written = threading.Event()
    monkeypatch.setattr(stream, "flush", written.set)
    for number in range(3):
        _info(batch, f"line {number}")
    assert written.wait(PATIENCE_SECONDS)
    batch.flush()
    assert stream.getvalue() == "line 0\nline 1\nline 2\n"


def test_a_warning_is_written_at_once_with_what_came_before(handler: tuple[BatchHandler, io.StringIO]) -> None:
    batch, stream = handler
    _info(batch, "before")
    _info(batch, "trouble", logging.WARNING)
    assert stream.getvalue() == "before\ntrouble\n"


def test_a_line_needs_no_lock_of_the_library(handler: tuple[BatchHandler, io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(self: logging.Handler, record: logging.LogRecord) -> None:  # as since Python 3.13
        with self.lock:  # type: ignore[union-attr]
            self.emit(record)

    monkeypatch.setattr(logging.Handler, "handle", handle)
    _info(handler[0], "in any Python", logging.WARNING)
    assert handler[1].getvalue() == "in any Python\n"


def test_a_filter_keeps_a_line_back(handler: tuple[BatchHandler, io.StringIO]) -> None:
    handler[0].addFilter(lambda record: "kept back" not in record.getMessage())
    _info(handler[0], "kept back", logging.WARNING)
    _info(handler[0], "let through", logging.WARNING)
    assert handler[1].getvalue() == "let through\n"


def test_nobody_who_logs_waits_for_whoever_reads_the_log_until_there_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = threading.Event(), threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            writing.set()
            reading.wait(PATIENCE_SECONDS)
            return super().write(text)

    stream = Slow()
    batch = BatchHandler(stream, Bare())
    monkeypatch.setattr("proxy.log.MAX_LINES", 50)
    _info(batch, "first")
    assert writing.wait(PATIENCE_SECONDS)
    for number in range(50):
        _info(batch, f"{number}")  # which returns, though nothing can be written
    last = threading.Thread(target=_info, args=(batch, "last"))
    last.start()
    last.join(0.1)
    assert last.is_alive()
    reading.set()
    last.join(PATIENCE_SECONDS)
    assert stream.getvalue().splitlines() == ["first", *map(str, range(50)), "last"]


def test_what_waits_is_written_when_the_process_ends() -> None:
    script = "import logging; from proxy.log import *; from proxy.config import LogConfig; configure_logging(LogConfig()); "
    done = subprocess.run([sys.executable, "-c", script + "logging.info('the last')"], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("root: the last\n")


def test_a_stream_that_is_closed_breaks_nothing(handler: tuple[BatchHandler, io.StringIO]) -> None:
    batch, stream = handler
    stream.close()
    _info(batch, "unheard", logging.ERROR)


def test_what_is_told_keeps_its_place_among_what_is_logged(handler: tuple[BatchHandler, io.StringIO]) -> None:
    batch, stream = handler
    for number in range(MADE_AT_ONCE + 3):
        batch.tell("proxy.test", Seen(f"told {number}"))
    _info(batch, "logged")
    batch.tell("proxy.test", Seen("told after"))
    _info(batch, "trouble", logging.WARNING)
    assert stream.getvalue().splitlines() == [*(f"told {n}" for n in range(MADE_AT_ONCE + 3)), "logged", "told after", "trouble"]


def test_what_is_told_is_written_soon_and_in_its_order_whoever_tells(handler: tuple[BatchHandler, io.StringIO]) -> None:
    batch, stream = handler

    def chatter(name: str) -> None:
        for number in range(500):
            batch.tell("proxy.test", Seen(f"{name} {number}"))
            if number % 50 == 0:
                batch.flush()

    threads = [threading.Thread(target=chatter, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batch.flush()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1500
    for name in "abc":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(500)]


def test_whoever_tells_writes_nothing(handler: tuple[BatchHandler, io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    batch, stream = handler
    writers, over, write = set[str](), threading.Event(), stream.write

    def written(text: str) -> int:
        writers.add(threading.current_thread().name)
        over.set()
        return write(text)

    monkeypatch.setattr(stream, "write", written)
    for number in range(3 * MADE_AT_ONCE):
        batch.tell("proxy.test", Seen(f"told {number}"))
    assert over.wait(PATIENCE_SECONDS)
    assert writers == {"log"}


def test_what_cannot_be_put_into_words_costs_nobody_else_a_line(
    handler: tuple[BatchHandler, io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    batch, stream = handler
    for told in (Seen("before"), Unspeakable("of what"), Seen("after")):
        batch.tell("proxy.test", told)
    batch.flush()
    assert stream.getvalue() == "before\nafter\n"
    assert "LookupError: of what" in capsys.readouterr().err


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
    formatter, plain = TextFormatter(), logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    now = time.time()
    for created in (now, now + 1.25, now):
        record = logging.makeLogRecord({"created": created, "msecs": created % 1 * 1000})
        assert formatter.format(record) == plain.format(record)
    assert isinstance(JsonFormatter().format(logging.makeLogRecord({"msg": "x"})), str)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_told_is_the_line_that_the_library_would_make(
    log_format: Literal["text", "json"], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging(LogConfig(format=log_format))
    monkeypatch.setattr(time, "time", lambda: 1_750_000_000.125)
    monkeypatch.setattr(time, "time_ns", lambda: 1_750_000_000_125_000_000)  # the library asks this one since Python 3.13
    logger, told = logging.getLogger("proxy.test"), Seen("k\n\x1b[2J \u00fc \udcff")
    logger.info("%s", told.message(), extra={"facts": told.facts()})
    tell(logger, told)
    (handler,) = logging.getLogger().handlers
    handler.flush()
    theirs, ours = capsys.readouterr().err.splitlines()
    assert ours == theirs
    assert "INFO proxy.test: k" in ours or json.loads(ours)["status"] == 200


def test_what_is_told_goes_to_whoever_else_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell(logging.getLogger("proxy.test"), Seen("100 %"))
    assert (caplog.records[0].getMessage(), vars(caplog.records[0])["facts"]["status"]) == ("100 %", 200)


def test_what_is_told_below_the_level_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig(level="warning"))
    tell(logging.getLogger("proxy.test"), Unspeakable("no"))
    (handler,) = logging.getLogger().handlers
    handler.flush()
    assert capsys.readouterr().err == ""


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
