"""What every store promises: one upstream bucket at one provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NewType, Protocol, runtime_checkable

import msgspec

StoreName = NewType("StoreName", str)
ShardName = NewType("ShardName", str)

MAX_SHARD_SIZE = 32 * 1024 * 1024  # twice that of a whole segment in one shard


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's price list, in US dollars."""

    storage_gb_month: float = 0.0
    put_per_thousand: float = 0.0
    get_per_thousand: float = 0.0
    egress_gb: float = 0.0


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is and whose hands it is in: all that placement decides on."""

    name: StoreName
    provider: str
    region: str
    jurisdiction: str
    prices: Prices = Prices()
    minimum_days: int = 0  # what is deleted sooner is charged for as long


class Store(Protocol):
    """One upstream bucket (and prefix).

    Obligations: every failure is a `StoreError` (`StoreUnavailable`, `StoreRejected`, `ShardMissing`); any call may be made
    twice; any call may be cancelled, and then leaves no thread, socket or temporary file behind for good; names are relative
    to the store's prefix and use only `[0-9a-z/.-]`; no call retries by itself.
    """

    @property
    def info(self) -> StoreInfo:
        """Name, provider, region, jurisdiction, prices."""
        ...

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        """Store the concatenation of `body` under `name`, all or nothing: no reader ever sees a part.

        Memoryviews are of bytes. The buffers are not changed by the caller until the call returns, and not kept after it.
        On return the bytes survive what the store claims to survive (a directory store has fsynced file and directory).
        """
        ...

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview | bytes:
        """Return exactly `length` (> 0) bytes from `start`.

        A shard that ends earlier raises `ShardTruncated`, a `ShardMissing`: what was asked for is not there.
        """
        ...

    async def get(self, name: ShardName) -> bytes | memoryview:
        """Return the whole shard. What is larger than `MAX_SHARD_SIZE` is none: it is not read, and raises `ShardOversized`."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        """Yield (name, size in bytes) of every shard whose name begins with `prefix`, a plain string prefix, in any order."""
        ...

    async def delete(self, name: ShardName) -> None:
        """Remove the shard. Removing one that is not there is a success."""
        ...

    async def close(self) -> None:
        """Release connections and threads. May be called twice."""
        ...


ReadAtOnce = Callable[[ShardName, int, int], memoryview | bytes | None]


def reads_at_once(store: Store) -> ReadAtOnce:
    """Return what asks a store for a range that it has in this machine's memory: its own `read_at_once`, if it is of the kind that may.

    That answers as `get_range` if nothing at all has to be waited for; else None, whatever the reason: who asks has others to ask yet. It
    has no deadline and takes no turn, so it must not block. A decorator that adds nothing to it passes it on.
    """
    read: ReadAtOnce = getattr(store, "read_at_once", _has_nothing)
    return read


def _has_nothing(_name: ShardName, _start: int, _length: int) -> None:
    return None


class ShardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a store says of a shard besides its bytes. Empty or None: it does not say."""

    size_bytes: int
    modified_ms: int | None = None  # by the store's own clock, which may tell whole seconds only
    etag: str = ""
    version: str = ""  # of a bucket that keeps versions


@runtime_checkable
class ExaminableStore(Store, Protocol):
    """A store that tells more than Shardgate needs: for whoever examines a bucket before it is trusted."""

    async def facts(self, name: ShardName) -> ShardFacts:
        """Return what the store says of a shard. `ShardMissing`."""
        ...

    async def put_new(self, name: ShardName, body: bytes) -> bool:
        """Put a shard only if there is none of this name; return whether it was put. A store that cannot raises `StoreRejected`."""
        ...
