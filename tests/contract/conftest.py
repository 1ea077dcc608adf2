"""What the contract's tests of the manifest share: one with a tenant and a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, Tenant
from proxy.manifest.sqlite import open_sqlite

NOW = 1_750_000_000_000


@pytest.fixture
async def manifest(tmp_path: Path) -> AsyncIterator[Manifest]:
    """A manifest with tenant "t" and its bucket "b", whose id is 1."""
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as opened:
        await opened.add_tenant(tenant("t"))
        await opened.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))
        yield opened


def tenant(name: str) -> Tenant:
    return Tenant(
        id=name, name=name, canonical_id=name * 2, account_id=name * 3, display_name=name, root_key_id="r", wrapped_key=b"w", created_ms=NOW
    )
