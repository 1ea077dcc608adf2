"""Ids of versions, drawn many at a time."""

from __future__ import annotations

import re

from proxy.engine.version_ids import AT_ONCE, VersionIds


def test_no_two_ids_are_alike_whoever_draws_them() -> None:
    one, other = VersionIds(), VersionIds()
    drawn = [ids.next() for _ in range(3 * AT_ONCE) for ids in (one, other)]
    assert len(set(drawn)) == len(drawn)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", version_id) for version_id in drawn)
