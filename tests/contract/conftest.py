"""What the contract's tests of the manifest share: one with a tenant and a bucket."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from proxy.clock import ManualClock
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, ListedVersion, Tenant
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.rows import listed_line

NOW = 1_750_000_000_000


@pytest.fixture
async def manifest(tmp_path: Path) -> AsyncIterator[Manifest]:
    """A manifest with tenant "t" and its bucket "b", whose id is 1."""
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as opened:
        await opened.add_tenant(tenant("t"))
        await opened.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))
        yield opened
    check_lines(tmp_path / "m.sqlite")


def check_lines(path: Path) -> None:
    """Each version's line is as its record has it."""
    versions = msgspec.msgpack.Decoder(ListedVersion)
    with closing(sqlite3.connect(path)) as connection:
        for line, record in connection.execute("SELECT line, record FROM version"):
            assert line == listed_line(versions.decode(record))


def tenant(name: str) -> Tenant:
    return Tenant(
        id=name, name=name, canonical_id=name * 2, account_id=name * 3, display_name=name, root_key_id="r", wrapped_key=b"w", created_ms=NOW
    )
