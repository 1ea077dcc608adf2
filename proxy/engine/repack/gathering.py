"""What is in use of a pack, as the manifest knows it."""

from __future__ import annotations

from collections.abc import Callable

from proxy.engine.repack.bundles import LiveSlot, PackSlots
from proxy.manifest.packs import SlotPlace, SlotUser
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import BucketId, Extent

PAGE = 1000  # users of slots: some 10 ms of one of the manifest's readers
USERS = 100  # of one slot in memory. A slot that was copied ten thousand times has more; they follow when it is stored anew
BEHIND_ALL = BucketId(2**62)  # above every bucket


async def gather_slots(manifest: Manifest, extent: Extent, wanted: Callable[[SlotUser], bool] = lambda _: True) -> PackSlots:
    """Return the slots of a pack with uses that are wanted, and some of these uses; all of them, if there are few."""
    found: dict[int, list[SlotUser]] = {}
    sizes: dict[int, int] = {}
    place, shared = SlotPlace(), False
    while page := await manifest.walk_slots(extent.id, after=place, limit=PAGE):
        for user in page:
            users = found.setdefault(user.offset, [])
            if not wanted(user):
                shared = True
            elif len(users) < USERS:
                users.append(user)
                sizes[user.offset] = user.ref.size
        if len(page) < PAGE:
            break
        last = page[-1]
        place = last.place if len(found[last.offset]) < USERS else SlotPlace(offset=last.offset, bucket_id=BEHIND_ALL)
    slots = tuple(LiveSlot(offset, sizes[offset], tuple(users)) for offset, users in found.items() if users)
    return PackSlots(extent, slots, shared=shared)
