"""A server as it is put together of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.server import app
from proxy.server.dispatch import Dispatcher
from tests.laboratory import laboratory_config


class _Listens(Exception):
    """It would be answered from here on."""


@pytest.mark.parametrize("is_open", [True, False])
async def test_the_front_door_is_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_open: bool) -> None:
    """No client can tell which it is: if it were always open, tests by aiohttp's alone would test it once more."""
    doors = list[object]()

    def listening(_: Dispatcher, **options: object) -> None:
        doors.append(options.get("front_door"))
        raise _Listens

    monkeypatch.setattr(app, "listening", listening)
    with pytest.raises(_Listens):
        await app.run_server(replace(laboratory_config(tmp_path), front_door=is_open), host="127.0.0.1", port=0)
    assert doors == [is_open]
