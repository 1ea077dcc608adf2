"""Whose the extents are that cannot be read any more. To tell, all versions and parts are looked at: it should never be needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import cast

import msgspec

from proxy.engine.recover.notes import Notes
from proxy.manifest.journal import Key, Row
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, ExtentRef, Part, Version
from proxy.manifest.recovery import Finding
from proxy.manifest.sqlite.notebook import Notebook

PAGE = 1000
_versions = msgspec.msgpack.Decoder(Version)
_parts = msgspec.msgpack.Decoder(Part)


async def tell_lost(manifest: Manifest, notes: Notes, lost: Mapping[ExtentId, str]) -> None:
    """Note which versions and parts use extents that are lost. `lost` has the reason of each."""
    buckets = {row.key[0]: str(_column(row, 0)) async for rows in _pages(manifest, "bucket") for row in rows}
    async for rows in _pages(manifest, "version"):
        for row in rows:
            version = _versions.decode(cast(bytes, _column(row, 3)))
            subject = f"{buckets.get(row.key[0], 'a bucket that is gone')}/{version.key} (version {version.id})"
            await notes.run(Notebook.add_findings, _findings(subject, version.extents, lost))
    async for rows in _pages(manifest, "part"):
        for row in rows:
            part = _parts.decode(cast(bytes, _column(row, 0)))
            await notes.run(Notebook.add_findings, _findings(f"part {part.number} of upload {row.key[0]!s}", part.extents, lost))


async def _pages(manifest: Manifest, table: str) -> AsyncIterator[Sequence[Row]]:
    after: Key = ()
    while rows := await manifest.rows_of(table, after=after, limit=PAGE):
        after = rows[-1].key
        yield rows


def _column(row: Row, place: int) -> object:
    return row.value[place] if row.value is not None else b""


def _findings(subject: str, extents: Iterable[ExtentRef], lost: Mapping[ExtentId, str]) -> list[Finding]:
    return [Finding(sort="lost", subject=subject, reason=lost[ref.id]) for ref in extents if ref.id in lost]
