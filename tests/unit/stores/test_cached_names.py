"""A file is opened on the event loop only if the kernel has its name at hand, and nothing outside of its folder ever is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.stores import cached_names
from proxy.stores.cached_names import OpenCached, find_open_cached
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def open_cached() -> OpenCached:
    found = find_open_cached()
    if found is None:
        pytest.skip("this kernel cannot")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root" / "below").mkdir(parents=True)
    (tmp_path / "root" / "below" / "file").write_bytes(b"content")
    (tmp_path / "outside").write_bytes(b"outside")
    descriptor = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def ended_by_alarm() -> Iterator[None]:
    """Have a call that waits for ever fail: a signal breaks it off."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS, 0.1)  # again: the first may come before the call
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_what_was_written_lately_is_opened_to_be_read(open_cached: OpenCached, folder: int) -> None:
    # Again and again: while anything is renamed anywhere, the kernel does not look for a name.
    descriptor = next(filter(None, (open_cached(folder, "below/file") for _ in range(100))), None)
    assert descriptor is not None
    assert os.pread(descriptor, 10, 0) == b"content"
    assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"x")
    os.close(descriptor)


def test_what_is_not_there_is_not_opened(open_cached: OpenCached, folder: int, tmp_path: Path) -> None:
    assert open_cached(folder, "below/another") is None
    (tmp_path / "root" / "below" / "file").unlink()
    assert open_cached(folder, "below/file") is None


@pytest.mark.parametrize("path", ["../outside", "below/../../outside", "{outside}", "link", "folder/file"])
def test_nothing_leads_out_of_the_folder(open_cached: OpenCached, folder: int, tmp_path: Path, path: str) -> None:
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "root" / "below")
    path = path.format(outside=tmp_path / "outside")
    os.close(os.open(path, os.O_RDONLY, dir_fd=folder))
    assert open_cached(folder, path) is None


def test_a_pipe_into_which_nobody_writes_is_not_waited_for(open_cached: OpenCached, folder: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root" / "below" / "pipe")
    with ended_by_alarm():
        descriptor = open_cached(folder, "below/pipe")
    assert descriptor is not None
    with pytest.raises(OSError, match="Illegal seek"):
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    os.close(descriptor)


@pytest.mark.parametrize(("name", "value"), [("_OPENAT2", 100_000), ("_CACHED", 1 << 40), ("_MACHINES", frozenset())])
def test_a_kernel_that_cannot_is_not_asked(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(cached_names, name, value)
    assert find_open_cached.__wrapped__() is None


@pytest.mark.parametrize(("platform", "machine"), [("linux", "i686"), ("linux", "ppc64le"), ("linux", ""), ("darwin", "x86_64")])
def test_where_the_number_of_the_call_is_not_known_it_is_not_made(monkeypatch: pytest.MonkeyPatch, platform: str, machine: str) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("ctypes.PyDLL", lambda *_: pytest.fail("it was made"))
    assert find_open_cached.__wrapped__() is None


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EPERM])
def test_where_the_call_is_refused_shards_are_read_all_the_same(tmp_path: Path, answer: int) -> None:
    """As by a kernel that is too old, or in a container whose seccomp filter does not know the call."""
    done = subprocess.run([sys.executable, "-c", _REFUSED, str(answer), tmp_path], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    if done.returncode == CANNOT_FILTER:
        pytest.skip("this process may not set a filter")
    assert (done.returncode, done.stdout) == (0, "None b'content' b'content'\n"), done.stderr


CANNOT_FILTER = 77
_REFUSED = f"""
import asyncio, ctypes, struct, sys
from pathlib import Path

class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

load, compare, end, allow, refuse = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000  # linux/filter.h, linux/seccomp.h
steps = [(load, 0, 0, 0), (compare, 0, 1, {cached_names._OPENAT2}), (end, 0, 0, refuse | int(sys.argv[1])), (end, 0, 0, allow)]
program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
prctl = ctypes.CDLL(None).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.byref(program)):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
    sys.exit({CANNOT_FILTER})

from proxy.stores.cached_names import find_open_cached
from proxy.stores.directory import DirectoryStore
from tests.unit.stores.conftest import INFO, NAME

async def read() -> None:
    store = DirectoryStore(INFO, Path(sys.argv[2]) / "store", create=True)
    await store.put(NAME, [b"content"])
    found = [bytes(await store.get_range(NAME, 0, 7)) for _ in range(2)]
    print(find_open_cached(), *found)
    await store.close()

asyncio.run(read())
"""
