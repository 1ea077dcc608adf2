"""Browser forms on the server: fields are read first, then who sent them is settled, then the file is stored as it comes.

Nobody says how long the file is. The length of the whole form is known, and at most `MAX_FORM_BYTES` of it may follow the file. So its end
is known nearly, and the engine stores it as a body of that kind. A small file is read whole before that, so that it becomes one
segment like any small object. Only a few are held so at a time; if there are more, they are stored the other way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from proxy.engine.memory.budget import Budget
from proxy.engine.writing.body import OpenEnded
from proxy.s3.claim import Claim
from proxy.s3.errors import S3Error
from proxy.s3.forms.form import Form, read_form
from proxy.s3.forms.parser import MAX_FORM_BYTES, Event, FileData, FormField, FormFile, FormParser, parse_boundary
from proxy.server.body import MAX_UPLOAD_SIZE, RawBody, RequestBody

HELD_SIZE = 1024 * 1024  # most pictures have less
HELD_AT_ONCE = 16  # they hold memory while their writing waits for more: few enough never to take it all


class Upload:
    """The file of a form, as its bytes come in: a `RawBody`. What follows it is read, and bounded, by the parser."""

    def __init__(self, raw: RawBody, parser: FormParser, begun: Iterable[Event], *, left_bytes: int) -> None:
        """Take what was parsed of the file already. `left_bytes` of the form follow its beginning."""
        self._raw = raw
        self._parser = parser
        self._pieces: deque[bytes] = deque()
        self._received = 0
        self._is_over = False
        self.most_bytes = left_bytes
        self.sure_bytes = max(left_bytes - MAX_FORM_BYTES, 0)
        self._take(begun)

    async def read(self) -> bytes:
        """Return the next bytes of the file, b"" at its end; by then, the whole form has been read."""
        while not self._pieces:
            if not await self._read_on():
                return b""
        return self._pieces.popleft()

    def read_at_once(self) -> None:
        """What a form brings is not known to be here before its end is found."""

    def gather(self) -> bool:
        """Tell that the first bytes come by themselves: they are cut out of what was read."""
        return False

    async def settle(self) -> int:
        """Read the form to its end, and return the size of the file. What was not taken of it is kept."""
        while await self._read_on():
            pass
        return self._received

    async def _read_on(self) -> bool:
        if self._is_over:
            return False
        data = await self._raw.read()
        if data:
            self._take(self._parser.feed(bytes(data)))
        else:
            self._parser.finish()
            self._is_over = True
        return not self._is_over

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, FileData):
                self._pieces.append(event.data)
                self._received += len(event.data)


class FormBody(RequestBody, OpenEnded):
    """The body of an object that a form brings. `sizes` is what a policy lets it have, least and most."""

    def __init__(self, upload: Upload, headers: Mapping[str, str], claim: Claim, *, sizes: tuple[int, int]) -> None:
        most = MAX_UPLOAD_SIZE + MAX_FORM_BYTES  # a file of the largest size is followed by the form's end
        super().__init__(upload, {**headers, "content-length": str(upload.most_bytes)}, claim, b"", max_size=most)
        self._upload = upload
        self._least, self._most = sizes[0], min(sizes[1], MAX_UPLOAD_SIZE)
        self._sure = upload.sure_bytes
        self._check_most(self._sure)

    @property
    def sure_bytes(self) -> int:
        return self._sure

    async def settle(self) -> None:
        self._size = self._sure = await self._upload.settle()
        self._check_most(self._size)
        if self._size < self._least:
            raise S3Error("EntityTooSmall", ProposedSize=self._size, MinSizeAllowed=self._least)

    def _check_most(self, size_bytes: int) -> None:
        if size_bytes > self._most:
            raise S3Error("EntityTooLarge", ProposedSize=size_bytes, MaxSizeAllowed=self._most)


class Received(NamedTuple):
    """A form, read up to its file."""

    form: Form
    upload: Upload


async def receive_form(raw: RawBody, headers: Mapping[str, str]) -> Received:
    """Read a form's fields. Raises S3Error for what is no form, or has no file."""
    parser = FormParser(parse_boundary(headers.get("content-type", "")))
    size = headers.get("content-length")
    if size is None:
        raise S3Error("MissingContentLength")
    sent: list[FormField] = []
    while data := await raw.read():
        events = iter(parser.feed(bytes(data)))
        for event in events:
            if isinstance(event, FormField):
                sent.append(event)
            elif isinstance(event, FormFile):
                upload = Upload(raw, parser, events, left_bytes=int(size) - event.offset)
                return Received(read_form(sent, event.filename), upload)
    parser.finish()
    raise S3Error("MalformedPOSTRequest")


class Forms:
    """The forms of one process whose files are held in memory."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._free = HELD_AT_ONCE

    @asynccontextmanager
    async def held(self, body: FormBody, *, owner: str) -> AsyncIterator[None]:
        """The time in which a body is stored. A small one is read whole before, if there is room. Raises what the body's `settle` does."""
        if body.size_bytes > HELD_SIZE or not self._free:
            yield
            return
        self._free -= 1
        held = self._budget.claim(body.size_bytes, owner=owner)
        try:
            async with held.filling():
                await held.grow(held.claim_bytes)
                await body.settle()
            yield
        finally:
            held.release()
            self._free += 1
