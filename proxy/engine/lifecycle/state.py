"""Where a pass of lifecycle rules stands, and what passes have done: kept in the manifest, so that any process goes on."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from proxy.manifest.lifecycle import Place, UploadPlace
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import BucketId, Record


class Pass(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One pass over all buckets with rules. `bucket_id` is the one that it is in, or has finished last."""

    begun_ms: int
    bucket_id: BucketId = BucketId(0)
    in_bucket: bool = False
    uploads_done: bool = False  # the bucket's uploads come before its versions
    place: Place = Place()
    uploads: UploadPlace = UploadPlace()
    rows: int = 0  # versions and uploads that were looked at
    trouble: str = ""  # the first thing that did not work out


class LifecycleState(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept between steps. `totals`: what was done since the manifest was made, by its name."""

    running: Pass | None = None
    day: int = -1  # since 1970, on which the last pass began
    ended_ms: int = 0  # when the last whole pass ended
    rows: int = 0  # that it looked at
    last_trouble: str = ""  # of that pass
    totals: Mapping[str, int] = {}

    @property
    def trouble(self) -> str:
        """Return what went wrong: in the pass under way, or else in the last one, until the next has ended."""
        return (self.running.trouble if self.running else "") or self.last_trouble

    def after(self, running: Pass, done: Mapping[str, int]) -> LifecycleState:
        """Return the state with a pass gone on, and more done."""
        totals = {name: self.totals.get(name, 0) + done.get(name, 0) for name in self.totals.keys() | done.keys()}
        return replace(self, running=running, totals=totals)

    def ended(self, now_ms: int) -> LifecycleState:
        """Return the state when the pass has come to its end."""
        if self.running is None:
            raise ValueError("no pass is under way")
        return replace(self, running=None, ended_ms=now_ms, rows=self.running.rows, last_trouble=self.running.trouble)


_states = msgspec.msgpack.Decoder(LifecycleState)


async def load_lifecycle(manifest: Manifest, job: str) -> LifecycleState:
    """Return what is kept of a job; a new state before its first pass."""
    kept = await manifest.load_state(job)
    return LifecycleState() if kept is None else _states.decode(kept)


async def save_lifecycle(manifest: Manifest, job: str, state: LifecycleState) -> None:
    await manifest.save_state(job, msgspec.msgpack.encode(state))
