"""A file is opened on the event loop only if the kernel has its name at hand, and nothing outside of its folder ever is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.stores import cached_names
from proxy.stores.cached_names import OpenCached, find_open_cached


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


def test_what_was_written_lately_is_opened_to_be_read(open_cached: OpenCached, folder: int) -> None:
    descriptor = open_cached(folder, "below/file")
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


@pytest.mark.parametrize(("name", "value"), [("_OPENAT2", 100_000), ("_CACHED", 1 << 40), ("_MACHINES", frozenset())])
def test_a_kernel_that_cannot_is_not_asked(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(cached_names, name, value)
    assert find_open_cached.__wrapped__() is None
