"""Where a pass of lifecycle rules stands, and what passes have done: kept in the manifest, so that any process goes on."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from proxy.manifest.lifecycle import Place, UploadPlace
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import BucketId, Record

STATE = "lifecycle"


class Pass(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One pass over all buckets with rules. `bucket_id` is the one that it is in, or has finished last."""

    begun_ms: int
    bucket_id: BucketId = BucketId(0)
    in_bucket: bool = False
    uploads_done: bool = False  # the bucket's uploads come before its versions
    place: Place = Place()
    uploads: UploadPlace = UploadPlace()
    rows: int = 0  # versions and uploads that were looked at


class LifecycleState(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept between steps. `totals`: what was done since the manifest was made, by its name."""

    running: Pass | None = None
    day: int = -1  # since 1970, on which the last pass began
    ended_ms: int = 0  # when the last whole pass ended
    rows: int = 0  # that it looked at
    totals: Mapping[str, int] = {}

    def adding(self, done: Mapping[str, int]) -> LifecycleState:
        """Return the state with more done."""
        return replace(self, totals={name: self.totals.get(name, 0) + done.get(name, 0) for name in self.totals.keys() | done.keys()})


_states = msgspec.msgpack.Decoder(LifecycleState)


async def load_lifecycle(manifest: Manifest) -> LifecycleState:
    """Return what is kept; a new state before the first pass."""
    kept = await manifest.load_state(STATE)
    return LifecycleState() if kept is None else _states.decode(kept)


async def save_lifecycle(manifest: Manifest, state: LifecycleState) -> None:
    await manifest.save_state(STATE, msgspec.msgpack.encode(state))
