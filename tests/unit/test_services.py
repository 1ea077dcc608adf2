"""What a start makes, and what it refuses to make anew."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.codec.format import shard_name
from proxy.config import Config
from proxy.errors import ConfigError, StoreUnavailable
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.adapter import SqliteManifest
from proxy.openings import refuse_lost_manifest
from proxy.services import open_services
from proxy.stores.build import open_store
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName, Store
from proxy.stores.root import MARKER
from tests.laboratory import laboratory, laboratory_config
from tests.patience import PATIENCE_SECONDS

NAME = ShardName(shard_name(bytes(16), 0))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return laboratory_config(tmp_path)


async def _start(config: Config) -> None:
    async with open_services(config):
        pass


@pytest.fixture
async def used(tmp_path: Path) -> Path:
    """Return the data of an installation that holds an object."""
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x" * 1000)
    return tmp_path


async def test_a_root_key_that_is_missed_is_not_made_anew(used: Path, config: Config) -> None:
    away = (used / "root.key").rename(used / "away")
    with pytest.raises(ConfigError, match=r"root_key\.path: .*put its file back"):
        await _start(config)
    assert not (used / "root.key").exists()
    away.rename(used / "root.key")
    async with laboratory(used) as lab:
        assert await lab.get("k") == b"x" * 1000


async def test_another_root_key_is_refused(used: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    await _start(laboratory_config(other))
    shutil.copy(other / "root.key", used / "root.key")
    with pytest.raises(ConfigError, match=r"but root key file:.* has wrapped the tenants' keys"):
        await _start(config)


async def test_a_manifest_that_is_missed_is_not_made_anew(used: Path, config: Config) -> None:
    for missed in used.glob("manifest.sqlite*"):
        missed.rename(used / f"away-{missed.name}")
    (used / "root.key").rename(used / "away-root.key")
    away = (used / "stores/elm").rename(used / "elm")
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"manifest\.path: .* is new or empty, but the stores alder, birch, .* were used with another one"
        ):
            await _start(config)
    assert not (used / "stores/elm").exists()
    assert not (used / "root.key").exists()
    assert not list(used.glob("manifest.sqlite*"))

    away.rename(used / "stores/elm")
    for missed in used.glob("away-*"):
        missed.rename(used / missed.name.removeprefix("away-"))
    async with laboratory(used) as lab:
        assert await lab.get("k") == b"x" * 1000


async def test_a_first_start_that_broke_off_before_the_manifest_knew_the_stores_goes_on(config: Config, tmp_path: Path) -> None:
    await _start(config)
    (tmp_path / "manifest.sqlite").unlink()
    await _start(config)


async def test_a_first_start_that_broke_off_when_it_had_marked_the_stores_goes_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken_off(self: SqliteManifest, names: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(SqliteManifest, "know_stores", broken_off)
        with pytest.raises(InterruptedError):
            await open_services(config, serving=True).__aenter__()
    async with open_services(config, serving=True) as services:
        assert not (await services.manifest.find_epoch()).fence
        assert await services.manifest.known_stores() == set(config.stores)


async def test_stores_that_hold_no_shard_but_have_seen_a_manifest_are_not_taken_for_new(config: Config, tmp_path: Path) -> None:
    async with open_services(config, serving=True):
        pass
    (tmp_path / "manifest.sqlite").unlink()
    with pytest.raises(ConfigError, match=r"manifest\.path: .* is new or empty, but the stores alder, .* were used with another one"):
        await _start(config)


async def test_a_store_that_lists_without_end_does_not_hold_up_the_first_start(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(self: ObservedStore, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        yield "another's", 1
        await asyncio.Event().wait()

    config = replace(config, limits=replace(config.limits, store_open_seconds=0.05))
    monkeypatch.setattr(ObservedStore, "list", endless)
    async with asyncio.timeout(PATIENCE_SECONDS), open_sqlite(Path(config.manifest.path), ManualClock()) as manifest:
        with pytest.raises(ConfigError, match="were used with another one"):  # it has a name below `epoch/`
            await refuse_lost_manifest(config, manifest, ManualClock())
        monkeypatch.setattr(ObservedStore, "list", lambda self, prefix="": endless(self) if not prefix else _nothing())
        await refuse_lost_manifest(config, manifest, ManualClock())


async def _nothing() -> AsyncIterator[tuple[str, int]]:
    for nothing in ():
        yield nothing


async def test_a_manifest_with_a_tenant_is_not_new_even_if_no_store_was_there_yet(config: Config, tmp_path: Path) -> None:
    (tmp_path / "stores").touch()  # so that no directory can be made
    async with laboratory(tmp_path) as lab:
        assert await lab.services.manifest.known_stores() == frozenset()
    (tmp_path / "stores").unlink()
    (tmp_path / "stores/elm/00").mkdir(parents=True)
    (tmp_path / "stores/elm" / MARKER).touch()
    (tmp_path / "stores/elm" / NAME).touch()
    await _start(config)


async def test_stores_are_opened_at_once_and_one_that_hangs_joins_later(tmp_path: Path) -> None:
    await _start(laboratory_config(tmp_path))
    config = laboratory_config(tmp_path, store_open_seconds=0.2)
    pipes = {name: _hang(tmp_path / "stores" / name) for name in ("elm", "fir")}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), open_services(config) as services:
            elm, fir = services.stores["elm"], services.stores["fir"]
            for call in (elm.put(NAME, [b"x"]), fir.get(NAME)):
                with pytest.raises(StoreUnavailable, match="not open yet"):
                    await call
            await _put_once_open(services.stores["alder"])
            pipes["elm"].with_name("away").rename(pipes["elm"])
            _let_go(tmp_path / "stores" / "elm")
            await _put_once_open(elm)
            assert await elm.get(NAME) == b"x"
    finally:
        for pipe in pipes.values():
            _let_go(pipe.parent)


async def _put_once_open(store: Store) -> None:
    while True:
        try:
            return await store.put(NAME, [b"x"])
        except StoreUnavailable:  # on a busy machine, any store may be late to open
            await asyncio.sleep(0.01)


async def test_a_new_directory_that_hangs_is_refused(tmp_path: Path) -> None:
    elm = laboratory_config(tmp_path).stores["elm"]
    (tmp_path / "stores/elm").mkdir(parents=True)
    (tmp_path / "stores/elm" / MARKER).touch()
    _hang(tmp_path / "stores/elm")
    try:
        with pytest.raises(ConfigError, match=r"stores\.elm\.path: .* does not answer, and a new store must"):
            # Alone: on a busy machine another one might be late, too, and be the one that is told of.
            await open_store("elm", elm, clock=ManualClock(), create=True, open_seconds=0.01, put_seconds=1, get_seconds=1)
    finally:
        _let_go(tmp_path / "stores/elm")


def _hang(directory: Path) -> Path:
    """Let whoever opens the directory's marker wait, as on a mount that hangs."""
    marker = directory / MARKER
    marker.rename(directory / "away")
    os.mkfifo(directory / "pipe")
    os.link(directory / "pipe", marker)
    return marker


def _let_go(directory: Path) -> None:
    os.close(os.open(directory / "pipe", os.O_RDWR | os.O_NONBLOCK))


@pytest.mark.parametrize(("mib", "workers", "warned"), [(192, 1, False), (192, 8, True), (1, 1, True)])
async def test_memory_too_small_for_a_segment_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mib: int, workers: int, warned: bool
) -> None:
    async with open_services(laboratory_config(tmp_path, memory_mib=mib), workers=workers):
        pass
    assert any("limits.memory_mib" in record.getMessage() for record in caplog.records) == warned


async def test_what_is_read_before_it_is_charged_is_part_of_the_memory_that_is_configured(tmp_path: Path) -> None:
    async with open_services(laboratory_config(tmp_path, memory_mib=64)) as services:
        assert services.budget.capacity_bytes == 56 * 1024**2
