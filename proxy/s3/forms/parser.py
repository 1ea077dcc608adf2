"""The parser of browser forms: multipart/form-data, pushed in as it comes.

A form is a few short fields, then one file of up to 5 GiB, then perhaps fields that nobody looks at. The fields are bounded and kept; the
file is passed on piece by piece. The work is linear in the bytes: what was searched for a delimiter is not searched again.
Source: RFC 7578; RFC 2046, section 5.1.1; Amazon S3 Developer Guide, "POST Object" ("Any fields below it are ignored").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from proxy.s3.errors import S3Error

MAX_FORM_BYTES = 20 * 1024  # before the file; as much may follow it. S3: "cannot exceed 20KB"
FILE = "file"
_MULTIPART = "multipart/form-data"
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1


class FormField(NamedTuple):
    """A field, as it was sent."""

    name: str
    value: str


class FormFile(NamedTuple):
    """The file begins. `filename` is what the client calls it, None if it does not say. `offset` is where in the form it begins."""

    filename: str | None
    offset: int


class FileData(NamedTuple):
    """The next bytes of the file."""

    data: bytes


class FileEnd(NamedTuple):
    """The file is over; the form may not be."""


Event = FormField | FormFile | FileData | FileEnd


def parse_boundary(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names. PreconditionFailed if it is no form's, MalformedPOSTRequest without a boundary."""
    kind, parameters = _parameters(content_type)
    if kind.lower() != _MULTIPART:
        raise S3Error("PreconditionFailed", Condition=f"Bucket POST must be of the enclosure-type {_MULTIPART}")
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise S3Error("MalformedPOSTRequest")
    return boundary.encode()


class FormParser:
    """Parses one form. Raises S3Error for what is none, and for fields that are too large."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # the first delimiter may lack the line break before it
        self._searched = 0  # bytes of the buffer in which the next delimiter does not begin
        self._given = -len(self._buffer)  # bytes that have left the buffer
        self._spent = -len(self._buffer)  # of these, bytes that are no file's, since the form or the file's end
        self._step: Callable[[], bool] = self._skip
        self._field = ""
        self._has_file = False
        self._events: list[Event] = []

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the form."""
        self._buffer += data
        while self._step():
            pass
        if self._step != self._pass_file and self._spent + len(self._buffer) > MAX_FORM_BYTES:
            raise self._too_large()
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Declare the form over."""
        if self._step != self._ignore:
            raise S3Error("MalformedPOSTRequest")

    def _skip(self) -> bool:
        """Pass over what stands before the first delimiter, or is in a part that does not matter."""
        found = self._find(self._delimiter)
        self._drop(self._searched if found < 0 else found + len(self._delimiter))
        if found >= 0:
            self._step = self._end_line
        return found >= 0

    def _end_line(self) -> bool:
        """Read what follows a delimiter: the end of its line, or the end of the form."""
        if self._buffer.startswith(b"--"):
            if not self._has_file:
                raise _file_count(0)
            self._step = self._ignore
            return True
        found = self._find(b"\r\n")
        if found < 0:
            return False
        if self._buffer[:found].strip(b" \t"):
            raise S3Error("MalformedPOSTRequest")
        self._drop(found)  # its line break may be the empty line that ends a head of no lines
        self._step = self._read_head
        return True

    def _read_head(self) -> bool:
        found = self._find(b"\r\n\r\n")
        if found < 0:
            return False
        head = bytes(self._buffer[:found])
        self._drop(found + len(b"\r\n\r\n"))
        part = _parse_head(head)
        if part.is_form_data and part.name.lower() == FILE:
            self._begin_file(part.filename)
        else:
            self._field = part.name
            self._step = self._skip if self._has_file else self._read_field
        return True

    def _begin_file(self, filename: str | None) -> None:
        if self._has_file:
            raise _file_count(2)
        self._has_file = True
        self._events.append(FormFile(filename, self._given))
        self._step = self._pass_file

    def _read_field(self) -> bool:
        found = self._find(self._delimiter)
        if found < 0:
            return False
        value = _text(bytes(self._buffer[:found]))
        self._drop(found + len(self._delimiter))
        self._events.append(FormField(self._field, value))
        self._step = self._end_line
        return True

    def _pass_file(self) -> bool:
        found = self._find(self._delimiter)
        size = self._searched if found < 0 else found
        if size:
            self._events.append(FileData(bytes(self._buffer[:size])))
            self._drop(size)
            self._spent -= size
        if found < 0:
            return False
        self._spent = 0
        self._drop(len(self._delimiter))
        self._events.append(FileEnd())
        self._step = self._end_line
        return True

    def _ignore(self) -> bool:
        """Pass over what follows the form's end."""
        self._drop(len(self._buffer))
        return False

    def _find(self, mark: bytes) -> int:
        """Return where the mark begins, -1 if it has not come. What cannot be its beginning is not looked at again."""
        found = self._buffer.find(mark, self._searched)
        if found < 0:
            self._searched = max(len(self._buffer) - len(mark) + 1, self._searched)
        return found

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._searched = 0
        self._given += size
        self._spent += size
        if self._spent > MAX_FORM_BYTES and self._step != self._pass_file:
            raise self._too_large()

    def _too_large(self) -> S3Error:
        if self._has_file:
            return S3Error("MaxPostPreDataLengthExceeded", f"What follows the file in the form has more than {MAX_FORM_BYTES} bytes.")
        return S3Error("MaxPostPreDataLengthExceeded", MaxPostPreDataLengthBytes=MAX_FORM_BYTES)


class _Part(NamedTuple):
    name: str
    filename: str | None
    is_form_data: bool


def _parse_head(head: bytes) -> _Part:
    """Read the lines before a part's content."""
    for line in _text(head).split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            kind, parameters = _parameters(value)
            if "name" in parameters:
                return _Part(parameters["name"], parameters.get("filename"), kind.lower() == "form-data")
    raise S3Error("MalformedPOSTRequest")


def _parameters(text: str) -> tuple[str, dict[str, str]]:
    """Return the value of a header, and its parameters by lower-case name; the first of several counts."""
    kind, _, rest = text.partition(";")
    found: dict[str, str] = {}
    position = 0
    while position < len(rest):
        equals = rest.find("=", position)
        if equals < 0:
            break
        name = rest[position:equals].strip(" \t;").lower()
        value, position = _value(rest, equals + 1)
        found.setdefault(name, value)
    return kind.strip(), found


def _value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins there, and the position behind it.

    In quotes only a quote is escaped: some browsers send a whole path with plain backslashes.
    """
    if not text.startswith('"', position):
        end = text.find(";", position)
        end = len(text) if end < 0 else end
        return text[position:end].strip(), end + 1
    end = text.find('"', position + 1)
    while end > 0 and text[end - 1] == "\\":
        end = text.find('"', end + 1)
    if end < 0:
        raise S3Error("MalformedPOSTRequest")
    return text[position + 1 : end].replace('\\"', '"'), end + 1


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise S3Error("MalformedPOSTRequest") from None


def _file_count(count: int) -> S3Error:
    return S3Error("InvalidArgument", "POST requires exactly one file upload per request.", ArgumentName=FILE, ArgumentValue=count)
