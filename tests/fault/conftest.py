"""What the tests of faults share: patience. On a busy machine any store may be late, and so may the disk of the cache."""

from __future__ import annotations

import pytest

FAR_SECONDS = 1000.0


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is asked for one that is only late, and no store is called late, but in tests that are marked `impatient`."""
    if request.node.get_closest_marker("impatient") is None:
        monkeypatch.setattr("proxy.engine.reading.fetch.MIN_HEDGE_SECONDS", FAR_SECONDS)
        monkeypatch.setattr("proxy.engine.writing.quorum.MIN_PATIENCE_SECONDS", FAR_SECONDS)
        monkeypatch.setattr("proxy.engine.writing.quorum.NEAR_DOUBT_SECONDS", FAR_SECONDS)
    monkeypatch.setattr("proxy.engine.cache.disk.READ_SECONDS", FAR_SECONDS)
    monkeypatch.setattr("proxy.engine.cache.disk.WRITE_SECONDS", FAR_SECONDS)
