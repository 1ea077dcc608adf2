"""Bundles: slots that go into one new pack together. Decided purely.

A pack may hold objects of several buckets of one tenant, and each bucket may be under another policy by now. So it is not the pack that
has a place to go to, but each use of a slot: the policy of its bucket, and the scheme of its storage class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from proxy.codec.format import MAX_PACK_SIZE, MAX_PACK_SLOTS
from proxy.codec.geometry import Scheme
from proxy.manifest.packs import SlotUser
from proxy.manifest.records import Extent


@dataclass(frozen=True, slots=True)
class Target:
    """What a new pack is sealed, placed and coded by."""

    key_id: str  # of the tenant key or KMS key that wraps its data key
    policy: str
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class LiveSlot:
    """A slot that is in use, and by whom: some of its users, if it has very many."""

    offset: int
    size: int  # bytes of the object
    users: tuple[SlotUser, ...]


@dataclass(frozen=True, slots=True)
class PackSlots:
    """Slots of one pack that are to be stored anew. `shared`: it has other uses, and stays for those."""

    extent: Extent
    slots: tuple[LiveSlot, ...]
    shared: bool = False

    @property
    def size(self) -> int:
        return sum(slot.size for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What becomes one pack, or, where a body would waste space in it, an extent of its own beside it."""

    target: Target
    packs: tuple[PackSlots, ...]

    @property
    def size(self) -> int:
        return sum(pack.size for pack in self.packs)

    @property
    def slots(self) -> int:
        return sum(len(pack.slots) for pack in self.packs)


def with_users(pack: PackSlots, wanted: Callable[[SlotUser], bool]) -> PackSlots:
    """Return those uses of a pack's slots that are wanted. With any that are not, the pack stays for those."""
    kept = [replace(slot, users=tuple(user for user in slot.users if wanted(user))) for slot in pack.slots]
    rest = any(len(left.users) < len(slot.users) for left, slot in zip(kept, pack.slots, strict=True))
    return replace(pack, slots=tuple(slot for slot in kept if slot.users), shared=pack.shared or rest)


Wants: TypeAlias = Callable[[SlotUser], tuple[str, Scheme] | None]  # the policy and scheme that a use is to be under; None: it stays


def bundles_of(packs: Iterable[PackSlots], wants: Wants) -> Iterator[Bundle]:
    """Yield what is to be stored together. A pack is read once for each target that its slots have, so it is cut only if it must be."""
    open_bundles: dict[Target, list[PackSlots]] = {}
    for pack in packs:
        for target, slots in _by_target(pack, wants).items():
            for piece in _cut(replace(pack, slots=slots)):
                bundle = Bundle(target, (*open_bundles.get(target, ()), piece))
                if bundle.size > MAX_PACK_SIZE or bundle.slots > MAX_PACK_SLOTS:
                    yield Bundle(target, tuple(open_bundles[target]))
                    bundle = Bundle(target, (piece,))
                open_bundles[target] = list(bundle.packs)
    for target, left in open_bundles.items():
        yield Bundle(target, tuple(left))


def _by_target(pack: PackSlots, wants: Wants) -> dict[Target, tuple[LiveSlot, ...]]:
    found: defaultdict[Target, dict[int, LiveSlot]] = defaultdict(dict)
    for slot in pack.slots:
        for user in slot.users:
            wanted = wants(user)
            if wanted is not None:
                target = Target(pack.extent.layout.tenant_key_id, *wanted)
                known = found[target].get(slot.offset, replace(slot, users=()))
                found[target][slot.offset] = replace(known, users=(*known.users, user))
    return {target: tuple(slots.values()) for target, slots in found.items()}


def _cut(pack: PackSlots) -> Iterator[PackSlots]:
    """Cut what is more than a pack of today holds: it may have been made under other limits."""
    slots: list[LiveSlot] = []
    size = 0
    for slot in pack.slots:
        if slots and (size + slot.size > MAX_PACK_SIZE or len(slots) == MAX_PACK_SLOTS):
            yield replace(pack, slots=tuple(slots))
            slots, size = [], 0
        slots.append(slot)
        size += slot.size
    if slots:
        yield replace(pack, slots=tuple(slots))
