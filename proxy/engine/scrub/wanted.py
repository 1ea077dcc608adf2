"""Which stores are to be scrubbed at once, as it is kept in the manifest: see `proxy.engine.scrub.asked`."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from proxy.manifest.protocol import Manifest

WANTED = "scrub-wanted"

_names = msgspec.msgpack.Decoder(tuple[str, ...])


async def ask_scrub(manifest: Manifest, stores: Collection[str]) -> None:
    """Let these stores be compared with the manifest soon. May be asked twice."""
    await _want(manifest, {*await wanted(manifest), *stores})


async def wanted(manifest: Manifest) -> tuple[str, ...]:
    """Return the stores that wait for it."""
    kept = await manifest.load_state(WANTED)
    return () if kept is None else _names.decode(kept)


async def stop_asking(manifest: Manifest, stores: Collection[str]) -> None:
    """These are seen to."""
    await _want(manifest, {*await wanted(manifest)} - {*stores})


async def _want(manifest: Manifest, stores: Collection[str]) -> None:
    await manifest.save_state(WANTED, msgspec.msgpack.encode(sorted(stores)) if stores else None)
