"""A bucket that speaks S3 and keeps everything in memory: as little as a client of one bucket needs, in as little CPU as Python can.

It serves PUT, ranged GET, HEAD and DELETE of an object, ListObjectsV2 and multipart uploads over HTTP/1.1, one request after the other. It
checks no signature, and its ETags are numbers: as those of multipart uploads, so that no client takes them for an MD5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import NamedTuple
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

HEAD_END = b"\r\n\r\n"
PAGE = 1000
XML = '<?xml version="1.0" encoding="UTF-8"?>'
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
_PART_NUMBER = re.compile(rb"<PartNumber>(\d+)</PartNumber>")

Answer = list[bytes | memoryview]


class Request(NamedTuple):
    """One request that has arrived."""

    method: str
    key: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


class Bucket:
    """What is kept, by key."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._numbers = count(1)

    def answer(self, request: Request) -> Answer:
        handlers: Mapping[str, Callable[[Request], Answer]] = {
            "PUT": self._put,
            "GET": self._get,
            "HEAD": self._get,
            "DELETE": self._delete,
            "POST": self._post,
        }
        if request.method not in handlers:
            return _answer(405)
        return handlers[request.method](request)

    def _put(self, request: Request) -> Answer:
        if "uploadId" in request.query:
            self._uploads[request.query["uploadId"][0]][int(request.query["partNumber"][0])] = request.body
        elif request.key:
            self._objects[request.key] = request.body
        return _answer(200, {"ETag": f'"{next(self._numbers):032x}-1"'})

    def _get(self, request: Request) -> Answer:
        if not request.key:
            return self._list(request) if request.method == "GET" else _answer(200)
        data = self._objects.get(request.key)
        if data is None:
            return _answer(404, body=b"" if request.method == "HEAD" else b"<Error><Code>NoSuchKey</Code></Error>")
        headers = {"ETag": f'"{len(data):032x}-1"', "Last-Modified": DATE, "Content-Type": "application/octet-stream"}
        if request.method == "HEAD":
            return _answer(200, headers, announced=len(data))
        wanted = request.headers.get("range", "")
        if not wanted:
            return _answer(200, headers, data)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(data)) + 1, len(data))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return _answer(206, headers, memoryview(data)[start:stop])

    def _delete(self, request: Request) -> Answer:
        self._objects.pop(request.key, None)
        return _answer(204)

    def _post(self, request: Request) -> Answer:
        if "uploads" in request.query:
            upload = f"upload-{next(self._numbers)}"
            self._uploads[upload] = {}
            return _answer(
                200, body=f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode()
            )
        parts = self._uploads.pop(request.query["uploadId"][0])
        self._objects[request.key] = b"".join(parts[int(number)] for number in _PART_NUMBER.findall(request.body))
        return _answer(200, body=b'<CompleteMultipartUploadResult><ETag>"0-1"</ETag></CompleteMultipartUploadResult>')

    def _list(self, request: Request) -> Answer:
        prefix, delimiter = _first(request, "prefix"), _first(request, "delimiter")
        after = _first(request, "continuation-token") or _first(request, "start-after")
        names = {_shown(name, prefix, delimiter) for name in self._objects if name.startswith(prefix)}
        following = sorted(name for name in names if name > after)
        page = following[: min(int(_first(request, "max-keys") or PAGE), PAGE)]
        entries = "".join(self._entry(name) for name in page)
        more = len(following) > len(page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        told = f"<Name>b</Name><KeyCount>{len(page)}</KeyCount><MaxKeys>{PAGE}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>"
        return _answer(200, body=f"{XML}<ListBucketResult>{told}{token}{entries}</ListBucketResult>".encode())

    def _entry(self, name: str) -> str:
        if name not in self._objects:
            return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        return (
            f'<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"0-1"</ETag>'
            f"<Size>{len(self._objects[name])}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )


def _first(request: Request, parameter: str) -> str:
    return request.query.get(parameter, [""])[0]


def _shown(name: str, prefix: str, delimiter: str) -> str:
    """Return the name, or the folder below the prefix that it is in."""
    end = name.find(delimiter, len(prefix)) if delimiter else -1
    return name if end < 0 else name[: end + len(delimiter)]


class BucketServer:
    """One connection to a bucket: bytes in, whole answers out."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._head = bytearray()
        self._request: tuple[str, str, dict[str, str]] | None = None
        self._body: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> Answer:
        answer: Answer = []
        while data or (self._request is not None and not self._missing):
            if self._request is None:
                data = self._read_head(data)
            elif self._missing:
                self._body.append(data[: self._missing])
                data, self._missing = data[self._missing :], self._missing - len(self._body[-1])
            if self._request is not None and not self._missing:
                answer += self._bucket.answer(self._take(*self._request))
        return answer

    def _read_head(self, data: bytes) -> bytes:
        """Read a request's head as far as it has come; return what is behind it."""
        self._head += data
        end = self._head.find(HEAD_END)
        if end < 0:
            return b""
        line, *lines = self._head[:end].decode("latin-1").split("\r\n")
        rest = bytes(self._head[end + len(HEAD_END) :])
        self._head.clear()
        method, target, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._request, self._missing = (method, target, headers), int(headers.get("content-length", "0"))
        return rest

    def _take(self, method: str, target: str, headers: dict[str, str]) -> Request:
        path, _, query = target.partition("?")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._request, self._body = None, []
        key = unquote(path).lstrip("/").partition("/")[2]
        return Request(method, key, parse_qs(query, keep_blank_values=True), headers, body)


_REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 404: "Not Found", 405: "Method Not Allowed"}


def _answer(
    status: int, headers: Mapping[str, str] | None = None, body: bytes | memoryview = b"", *, announced: int | None = None
) -> Answer:
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if status != 204:
        lines.append(f"Content-Length: {len(body) if announced is None else announced}")
    head = "\r\n".join([*lines, "", ""]).encode()
    return [head, body] if body else [head]
