"""Packs: segments that hold many small objects, each in its slot. What the manifest knows of one, as records."""

from __future__ import annotations

from proxy.manifest.campaigns import ExtentUser
from proxy.manifest.records import BucketId, ExtentId, ExtentRef, ObjectKey, Record

SMALL_BYTES = 1024 * 1024  # a pack with fewer live bytes and fewer slots in use is small: several of a kind may become one
SMALL_SLOTS = 64
REPACK = "repack"  # the job that rewrites packs, and what it keeps


class Pack(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A pack and what is in use of it. A slot counts once, however many versions share it."""

    extent_id: ExtentId
    kind: str  # only packs of one kind are merged: see `kind_of`
    whole: int  # bytes of the objects that it was made with, also of those that were refused
    live: int  # of those that are in use
    slots: int  # that are in use
    made_ms: int
    dead_since_ms: int | None = None  # when the first of its slots fell out of use; None: all are in use

    @property
    def dead(self) -> int:
        return self.whole - self.live


class SlotPlace(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far a walk over the users of a pack has come."""

    offset: int = -1
    bucket_id: BucketId = BucketId(0)
    key: ObjectKey = ObjectKey("")
    sequence: int = 0


class SlotUser(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version that uses a slot, with what decides where its slot should be."""

    user: ExtentUser
    ref: ExtentRef
    policy: str  # its bucket's, now
    storage_class: str

    @property
    def offset(self) -> int:
        """Return the offset of its slot."""
        if self.ref.offset is None:
            raise ValueError(f"{self.user.key} uses the whole of extent {self.ref.id}")
        return self.ref.offset

    @property
    def place(self) -> SlotPlace:
        """Return where a walk goes on behind it."""
        return SlotPlace(offset=self.offset, bucket_id=self.user.bucket_id, key=self.user.key, sequence=self.user.sequence)


class SlotMove(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version that is to use another slot in place of its own. If it, its class or its bucket's policy has changed, it stays."""

    user: ExtentUser
    old: ExtentRef
    offset: int | None  # in the new extent; None: that is an extent of its own
    storage_class: str  # that it had when the new place was chosen


def kind_of(tenant_key_id: str, policy: str, k: int, m: int) -> str:
    """Return what packs that may become one have in common, as one word."""
    return f"{tenant_key_id}/{policy}/{k}+{m}"
