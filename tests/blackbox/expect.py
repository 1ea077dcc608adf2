"""What the tests say of errors, contents, keys and what takes its time."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError

from tests.patience import PATIENCE_SECONDS

MIB = 1024 * 1024

AWKWARD_KEYS = (
    "plain",
    "with space",
    "plus+sign",
    "a//b///c",
    "/leading",
    "trailing/",
    "percent%20sign%",
    "%2F",
    "a/b/../../etc/passwd",
    "./here/./there",
    "emoji-\U0001f600",
    "accent-\u00e9-e\u0301",
    "ques?tion=1&amp;x",
    "hash#tag",
    "quote'\"<xml>&",
    "semi;colon,comma:at@equals=",
    "back\\slash",
    "star*(paren)!~_-.",
    "tab\there",
    "k" * 1024,
    "\u4e2d" * 341 + "x",
)


@contextmanager
def s3_error(code: str | tuple[str, ...], status: int) -> Iterator[pytest.ExceptionInfo[ClientError]]:
    """Expect a ClientError with this code (or one of these) and this HTTP status."""
    with pytest.raises(ClientError) as caught:
        yield caught
    answer = caught.value.response
    found = (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"])
    codes = (code,) if isinstance(code, str) else code
    assert found in [(one, status) for one in codes]


@functools.cache
def content(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that are the same in each run and compress to nothing less."""
    return random.Random(f"{size} {seed}").randbytes(size)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what the server does in its own time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
