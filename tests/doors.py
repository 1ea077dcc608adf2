"""Both doors of one server: two servers that know the same, one with a front door and one without, and requests to compare them by."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry

from proxy.metrics import Counts
from proxy.s3.shape import Head
from proxy.server.connection import Endpoint
from proxy.server.dispatch import Dispatcher
from proxy.server.shapes import Known, Shapes
from proxy.server.telemetry import Telemetry
from proxy.tenancy import add_access_key
from tests.blackbox.signer import UNSIGNED, Signer, encode_query
from tests.laboratory import Laboratory, laboratory
from tests.patience import PATIENCE_SECONDS
from tests.wire import Wire, cut

NOW_MS = 1_750_000_000_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
HOST = "127.0.0.1:9000"
ACCESS_KEY, SECRET_KEY = "DOORSDOORSDOORSDOORS", "doorsecretdoorsecretdoorsecretdoorsecret"
SEEDS = {"seed/a": b"hello, world", "seed/empty": b"", "seed/large": bytes(range(256)) * 1024}
# What no two answers have in common: ids, the time, and who owns a bucket.
OWN = re.compile(
    rb"(?<=\r\nDate: )[^\r]+|(?<=\r\nx-amz-request-id: )[0-9A-F]{16}|(?<=\r\nx-amz-id-2: )[^\r]+"
    rb"|(?<=<RequestId>)[^<]+|(?<=<HostId>)[^<]+|(?<=<UploadId>)[^<]+|(?<=<ID>)[^<]+"
)


@dataclass(frozen=True)
class Sent:
    """One request as it is written down, to be signed and sent. So that a failure can be read, "@9000" stands for as many letters."""

    method: str = "GET"
    target: str = "/bucket/seed/a"  # encoded
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, bytes], ...] = ()
    content: bytes = b""
    signed: str = "header"  # "header", "all" (of x-amz-*, too), "query", "no", or what is wrong with it
    version: str = "1.1"
    chunked: bool = False

    @property
    def body(self) -> bytes:
        return _at_length(self.content)

    def encode(self) -> bytes:
        """Return the bytes that a client sends."""
        return _at_length(self._signed_head()) + self._framed()

    def _signed_head(self) -> bytes:
        signer = Signer("NOBODYNOBODYNOBODYNO" if self.signed == "stranger" else ACCESS_KEY, SECRET_KEY, host=HOST)
        query, headers = encode_query(self.query), [("host", HOST.encode())]
        if self.signed == "query":
            query = encode_query(signer.presign(self.method, self.target, query=self.query, when=NOW))
        elif self.signed != "no":
            prefix = "x-amz-" if self.signed == "all" else "x-amz-meta-"
            known = {name.lower(): value.decode() for name, value in self.headers if name.startswith(prefix) and value.isascii()}
            hashed = UNSIGNED if self.signed != "body" else sha256(self.body).hexdigest()
            when = NOW.replace(year=2020) if self.signed == "late" else NOW
            signed = signer.sign(self.method, self.target, self.query, known, payload_hash=hashed, when=when).headers
            headers = [(name, value.encode()) for name, value in signed.items() if name not in known]
        if self.signed == "forged":
            headers = [(name, value[:-4] + b"beef" if name == "authorization" else value) for name, value in headers]
        return self._head(query, headers)

    def _head(self, query: str, headers: Sequence[tuple[str, bytes]]) -> bytes:
        framing: list[tuple[str, bytes]] = []
        if self.chunked:
            framing = [("Transfer-Encoding", b"chunked")]
        elif self.body or self.method in {"PUT", "POST"}:
            framing = [("Content-Length", str(len(self.body)).encode())]
        target = self.target + (f"?{query}" if query else "")
        line = f"{self.method} {target} HTTP/{self.version}\r\n".encode("latin-1")
        return line + b"".join(name.encode() + b": " + value + b"\r\n" for name, value in [*headers, *framing, *self.headers]) + b"\r\n"

    def _framed(self) -> bytes:
        if not self.chunked:
            return self.body
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (self.body[:100], self.body[100:]) if piece) + b"0\r\n\r\n"


def _at_length(text: bytes) -> bytes:
    return re.sub(rb"@([0-9]+)", lambda found: b"l" * int(found[1]), text)


class CountedShapes(Shapes):
    """Makes a shape of each head that is served, however soon it comes, and counts the heads that fitted one."""

    def __init__(self) -> None:
        super().__init__(now=count().__next__)
        self.fitted = 0

    def find(self, head: str) -> tuple[Known, Head] | None:
        found = super().find(head)
        self.fitted += found is not None
        return found


class Doors:
    """Two servers in a thread of their own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoints: Sequence[Endpoint], labs: Sequence[Laboratory]) -> None:
        self._loop = loop
        self._endpoints = endpoints
        self._labs = labs

    def converse(self, streams: Sequence[Sequence[bytes]], *, leave: bool = False) -> list[bytes]:
        """Send each stream in its pieces, when the one before is answered; return what each server sent, but for what is its own.

        `leave`: go away behind the last piece, without waiting for what it is answered.
        """
        answers = asyncio.run_coroutine_threadsafe(self._converse(streams, leave), self._loop).result(PATIENCE_SECONDS)
        return [OWN.sub(b"*", answer) for answer in answers]

    def change(self, step: Callable[[Laboratory], Coroutine[object, object, object]]) -> None:
        """Do something to each of the servers behind their doors."""
        for lab in self._labs:
            asyncio.run_coroutine_threadsafe(step(lab), self._loop).result(PATIENCE_SECONDS)

    @property
    def by_shape(self) -> int:
        """How many requests were known by their shape."""
        return sum(shapes.fitted for endpoint in self._endpoints if isinstance(shapes := endpoint.dispatcher.shapes, CountedShapes))

    @property
    def by_aiohttp(self) -> list[int]:
        """How many requests each has left to aiohttp."""
        return [endpoint.requests_count for endpoint in self._endpoints]

    async def _converse(self, streams: Sequence[Sequence[bytes]], leave: bool) -> list[bytes]:
        return [await talk(endpoint, streams, leave) for endpoint in self._endpoints]


async def talk(endpoint: Endpoint, streams: Sequence[Sequence[bytes]], leave: bool) -> bytes:
    wire = Wire(endpoint)
    await wire.settled()
    for number, pieces in enumerate(streams, start=1):
        await wire.give(pieces)
        if not (leave and number == len(streams)):
            await wire.settled()
    wire.end()
    while wire.connection in endpoint.connections:
        await asyncio.sleep(0.001)
    return wire.sent


@contextmanager
def both_doors(data: Path) -> Iterator[Doors]:
    """Run both servers, with a bucket and the objects of `SEEDS`."""
    ready, found, over = threading.Event(), list[Doors](), list[asyncio.Event]()
    thread = threading.Thread(target=lambda: asyncio.run(_run(data, found, over, ready)))
    thread.start()
    try:
        ready.wait(PATIENCE_SECONDS)
        yield found[0]
    finally:
        if found:
            found[0]._loop.call_soon_threadsafe(over[0].set)
        thread.join()


async def _run(data: Path, found: list[Doors], over: list[asyncio.Event], ready: threading.Event) -> None:
    try:
        async with AsyncExitStack() as stack:
            labs = [await stack.enter_async_context(laboratory(data / name, now_ms=NOW_MS, packs=True)) for name in ("front", "aiohttp")]
            endpoints = [await endpoint_of(lab, front_door=number == 0) for number, lab in enumerate(labs)]
            over.append(asyncio.Event())
            found.append(Doors(asyncio.get_running_loop(), endpoints, labs))
            ready.set()
            await over[0].wait()
            for endpoint in endpoints:
                await endpoint.shutdown(1)
    finally:
        ready.set()


async def endpoint_of(lab: Laboratory, *, front_door: bool) -> Endpoint:
    services = lab.services
    await add_access_key(services.manifest, services.keyring, lab.clock, lab.tenant, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    for key, body in SEEDS.items():
        await lab.put(key, body)
    dispatcher = Dispatcher(services, Telemetry(Counts(CollectorRegistry())))
    dispatcher.shapes = CountedShapes()
    return Endpoint(dispatcher, limit=100, front_door=front_door)


def split(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut a stream anywhere, or not at all."""
    return cut(data, places) if data else []
