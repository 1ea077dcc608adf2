"""Slots of packs in use: who uses which, and how much of a pack is alive. A slot lives as long as a version uses it.

Who uses a slot is said by the version's own row (`pack`, `slot`), so that whatever changes the row keeps it right: a commit, a recovery
that puts rows, a version that moves up in its key. Only the sums are kept beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.errors import ExtentMissing
from proxy.manifest.packs import kind_of
from proxy.manifest.records import BucketId, ExtentId, ExtentRef, Layout, Version
from proxy.manifest.sqlite.rows import Connection

_IN_USE = "SELECT 1 FROM version INDEXED BY version_slot WHERE pack = ?1 AND slot = ?2"
_LEAVE = "UPDATE pack SET live = live - ?3, slots = slots - ?2, dead_since = coalesce(dead_since, ?4) WHERE extent = ?1"


def slot_of(version: Version) -> tuple[ExtentId | None, int | None]:
    """Return the pack and the slot that a version uses, if it does."""
    for ref in version.extents[:1]:
        if ref.offset is not None:
            return ref.id, ref.offset
    return None, None


def leave_slots(connection: Connection, released: Iterable[ExtentRef], now_ms: int) -> None:
    """Count out the slots that nobody uses any more. To be called when the rows of versions that go are gone, and the new ones there, and
    references are counted."""
    for extent_id, slots in slots_of(released).items():
        leave_unused(connection, extent_id, slots, now_ms)


def slots_of(released: Iterable[ExtentRef]) -> dict[ExtentId, dict[int, int]]:
    """Return the sizes of the slots that are released, by pack and offset: a slot that two of them used is left once."""
    left: dict[ExtentId, dict[int, int]] = {}
    for ref in released:
        if ref.offset is not None:
            left.setdefault(ref.id, {})[ref.offset] = ref.size
    return left


def leave_unused(connection: Connection, extent_id: ExtentId, slots: Mapping[int, int], now_ms: int) -> None:
    """Count out those slots of a pack that no copy uses, if the pack is still there."""
    if connection.execute("SELECT 1 FROM pack WHERE extent = ?", (extent_id,)).fetchone() is None:
        return
    unused = {offset: size for offset, size in slots.items() if not is_used(connection, extent_id, offset)}
    if unused:
        connection.execute(_LEAVE, (extent_id, len(unused), sum(unused.values()), now_ms))


def refuse_unused(connection: Connection, shared: Iterable[ExtentRef]) -> None:
    """ExtentMissing of a slot that nobody uses any more: it is about to be left behind when its pack is rewritten."""
    for ref in shared:
        if ref.offset is not None and not is_used(connection, ref.id, ref.offset):
            raise ExtentMissing(f"the slot at {ref.offset} of extent {ref.id} is gone")


def is_used(connection: Connection, extent_id: ExtentId, offset: int) -> bool:
    return connection.execute(_IN_USE, (extent_id, offset)).fetchone() is not None


def is_of_one_bucket(connection: Connection, extent_id: ExtentId, bucket_id: BucketId) -> bool:
    """Tell whether all slots of a pack are used in one bucket alone."""
    other = "SELECT 1 FROM version INDEXED BY version_slot WHERE pack = ? AND bucket <> ? LIMIT 1"
    return connection.execute(other, (extent_id, bucket_id)).fetchone() is None


def add_pack(connection: Connection, extent_id: ExtentId, layout: Layout, used: Iterable[ExtentRef], now_ms: int) -> None:
    """Count in a new pack, of which these slots are used."""
    slots = {ref.offset: ref.size for ref in used}
    dead_since = now_ms if len(slots) < layout.slots else None
    row = (extent_id, pack_kind(layout), layout.content_size, sum(slots.values()), len(slots), now_ms, dead_since)
    connection.execute("INSERT INTO pack VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def pack_kind(layout: Layout) -> str:
    return kind_of(layout.tenant_key_id, layout.policy, layout.k, layout.m)


def change_kind(connection: Connection, extent_id: ExtentId, layout: Layout) -> None:
    """Say of which kind a pack is whose layout has changed."""
    connection.execute("UPDATE pack SET kind = ? WHERE extent = ?", (pack_kind(layout), extent_id))
