"""The inside of aiohttp: what `proxy.server.wire.inside` and `proxy.server.wire.inflow` rely on is as it was when they were written.

A failure here is no fault. It says that aiohttp has changed where we know more of it than it promises: read what has changed beside these
two modules, mend them, and write the new digests down. `python -m tests.unit.server.test_inside` prints them.
"""

from __future__ import annotations

import hashlib
import inspect
import tomllib
from pathlib import Path

import aiohttp
import pytest
from aiohttp import _http_parser  # type: ignore[attr-defined]  # a module in C, without stubs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

ROOT = Path(__file__).parents[3]
READ = {
    RequestHandler: [
        "__init__", "shutdown", "connection_made", "connection_lost", "data_received", "_resume_reading_if_drained", "close", "force_close",
        "_process_keepalive", "start", "_handle_request", "finish_response",
    ],
    BaseProtocol: ["pause_reading", "resume_reading", "_pause_reading_for_buffer", "_resume_reading_for_buffer", "connection_lost",
        "pause_writing", "resume_writing", "_drain_helper"],
    StreamReader: ["__init__", "feed_data", "feed_eof", "is_eof", "readany", "read_nowait", "_read_nowait", "_wait", "set_exception"],
    StreamWriter: ["drain"],
}  # fmt: skip
DIGESTS = {
    "RequestHandler.__init__": "46c577d1f419158f",
    "RequestHandler.shutdown": "5eb4bd473db61e84",
    "RequestHandler.connection_made": "44d50b5763b2c7e4",
    "RequestHandler.connection_lost": "df2fe6e95fd04c7c",
    "RequestHandler.data_received": "1ee57ebe052e6c80",
    "RequestHandler._resume_reading_if_drained": "27f2a6fbbb3a790e",
    "RequestHandler.close": "84518f965e198ee3",
    "RequestHandler.force_close": "38d0e1e798e4d3b7",
    "RequestHandler._process_keepalive": "b472e0fb8445ce42",
    "RequestHandler.start": "2e565fd40c8e04fb",
    "RequestHandler._handle_request": "a88a34ee65a2714c",
    "RequestHandler.finish_response": "b7eb53db8f4b30ca",
    "BaseProtocol.pause_reading": "c35fb392028cd397",
    "BaseProtocol.resume_reading": "21dee847a31af724",
    "BaseProtocol._pause_reading_for_buffer": "8a07d84ad8d45025",
    "BaseProtocol._resume_reading_for_buffer": "61aa4b49c6e1a288",
    "BaseProtocol.connection_lost": "8b4e1725c5648b9c",
    "BaseProtocol.pause_writing": "e727e6c57a46116e",
    "BaseProtocol.resume_writing": "7db135e0841e0425",
    "BaseProtocol._drain_helper": "43a2da08aabcc94f",
    "StreamReader.__init__": "09c8a6dade356c41",
    "StreamReader.feed_data": "7548cdda3ea70bf8",
    "StreamReader.feed_eof": "01592f4473c176b3",
    "StreamReader.is_eof": "7642721fe2f71e63",
    "StreamReader.readany": "766f946ae360b8ea",
    "StreamReader.read_nowait": "e340a15bd631cecb",
    "StreamReader._read_nowait": "05fc75740b9d4d63",
    "StreamReader._wait": "5cec4bb02a049b41",
    "StreamReader.set_exception": "dfa3db714fb895ed",
    "StreamWriter.drain": "3c8995114497133d",
}


def digest(owner: type, name: str) -> str:
    return hashlib.sha256(inspect.getsource(getattr(owner, name)).encode()).hexdigest()[:16]


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in READ.items() for name in names])
def test_what_was_read_of_aiohttp_is_as_it_was(owner: type, name: str) -> None:
    assert digest(owner, name) == DIGESTS[f"{owner.__name__}.{name}"]


def test_the_version_is_the_one_that_was_read() -> None:
    pinned = next(
        one for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"] if one.startswith("aiohttp")
    )
    assert pinned == f"aiohttp=={aiohttp.__version__}"


def test_the_parser_is_the_one_in_c() -> None:
    """The bounds of heads, and the cost of a request, are those of llhttp: Python's parser is another."""
    assert HttpRequestParser is _http_parser.HttpRequestParser


if __name__ == "__main__":
    for owner, names in READ.items():
        for name in names:
            print(f'    "{owner.__name__}.{name}": "{digest(owner, name)}",')
