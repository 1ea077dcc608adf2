"""Which steps are acknowledged only when the journal has them, and waiting for that: in one place, around the manifest.

A PUT needs no journal to survive the loss of the manifest: its label says all, and lies beside the data. Other steps leave nothing in the
stores but what the journal says. Those that make data visible, or without which it could not be found, must wait for it (`needed`). Of
those that take away or change, an operator may decide (`all`).

What waits has happened: it is in the manifest, and other requests may see it. If the journal cannot be stored in time, the caller is told
so, and asks again, as S3's clients do by themselves. While so much is to be stored that to wait is in vain, what has to wait is refused
before it is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MethodType
from typing import Literal, Protocol, TypeAlias, cast

from msgspec import UNSET

from proxy.manifest.begun import Begun
from proxy.manifest.campaigns import CampaignId, Order
from proxy.manifest.drafts import NO_CONDITIONS, AttributeChange, Conditions, VersionDraft
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import BucketId, ExtentRef, Layout, ObjectKey, Part, UploadId, Version, VersionId

Acknowledge: TypeAlias = Literal["needed", "all"]
_Step: TypeAlias = Callable[..., Awaitable[object]]


OF_ACCESS = ("policy", "acl", "public_access_block", "ownership")  # settings of a bucket that say who may do what


def _always(*_: object, **__: object) -> bool:
    return True


def _version_needs_journal(version: object | None, draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS, **_: object) -> bool:
    """A copy's data has the label of its source, an empty object has none, and no label tells whether a condition was met.

    Nor does one tell that the write came last, if the manifest had to raise its number above that of what it replaced; or how long its lock
    is, if the manifest had to make that longer.
    """
    has_label = bool(draft.new_layouts) and not draft.shared_extents and conditions == NO_CONDITIONS
    if not has_label or not isinstance(version, Version):
        return not has_label
    return _tells_other_than_label(version, draft)


def _tells_other_than_label(version: Version, draft: VersionDraft) -> bool:
    return version.written != draft.written or version.attributes.retention != draft.attributes.retention


def _part_needs_journal(
    stored: object | None,
    _upload_id: UploadId,
    part: Part,
    *,
    new_layouts: tuple[Layout, ...] = (),
    shared_extents: Sequence[ExtentRef] = (),
    **_: object,
) -> bool:
    has_label = bool(new_layouts) and not shared_extents
    return not has_label or (isinstance(stored, Part) and stored.written != part.written)


def _change_needs_journal(
    _changed: object, _bucket_id: BucketId, _key: ObjectKey, _version_id: VersionId | None, change: AttributeChange, **_: object
) -> bool:
    """A lock that is acknowledged holds, whatever is lost, and what was shut is not open again."""
    return change.changes_lock or change.acl is not UNSET


def _setting_needs_journal(_done: object, _bucket_id: BucketId, setting: str, _document: str | None, **_: object) -> bool:
    """As a key that was removed must not open anything again, nor must a policy that was put away."""
    return setting in {OBJECT_LOCK, *OF_ACCESS}


def _order_needs_journal(ordered: object | None, _campaign_id: CampaignId, order: Order, **_: object) -> bool:
    """To pause or to cancel is not refused, however much is to be stored: then an operator wants less work."""
    return ordered is not None or order in {"apply", "resume"}


def _never(*_: object, **__: object) -> bool:
    return False


# Each is asked twice: before the step, with None for its result, whether it is certain to wait; and behind it.
NEEDED: Mapping[str, Callable[..., bool]] = {
    "add_tenant": _always,
    "set_tenant_enabled": _always,
    "remove_tenant": _always,
    "add_access_key": _always,
    "remove_access_key": _always,
    "put_role": _always,
    "remove_role": _always,
    "add_kms_key": _always,  # what it wraps is lost without it
    "set_kms_key_enabled": _always,
    "create_bucket": _always,
    "commit_version": _version_needs_journal,
    "commit_pack": _never,  # each of its versions is confirmed: one that must wait holds no other up
    "begin_upload": _always,
    "commit_part": _part_needs_journal,
    "complete_upload": _always,
    "find_completed": _always,  # answers a completion that is asked for again
    "change_attributes": _change_needs_journal,
    "put_bucket_setting": _setting_needs_journal,
}
ALL: Mapping[str, Callable[..., bool]] = {
    **NEEDED,
    "set_versioning": _always,
    "put_bucket_setting": _always,
    "delete_bucket": _always,
    "change_attributes": _always,
    "delete_version": _always,
    "delete_latest": _always,
    "abort_upload": _always,
    "order_campaign": _order_needs_journal,
}


class Stored(Protocol):
    """Waits until the journal has everything up to now, or refuses what would wait in vain: a flusher."""

    def admit(self, *, waits: bool) -> None: ...

    async def stored(self) -> None: ...


def acknowledged(manifest: Manifest, journal: Stored, acknowledge: Acknowledge) -> Manifest:
    """Return the manifest with steps that return only when the journal has them."""
    steps = {"needed": NEEDED, "all": ALL}[acknowledge]
    return cast(Manifest, _Acknowledged(manifest, journal, steps))


class _Acknowledged:
    """Passes everything on to the manifest, and waits after some steps.

    Without a method for each of the manifest's: there are a hundred, and one more that is forgotten here would be an error of types.
    """

    def __init__(self, manifest: Manifest, journal: Stored, steps: Mapping[str, Callable[..., bool]]) -> None:
        self._manifest = manifest
        self._journal = journal
        self._deletes_at_once = "delete_latest" not in steps
        for name in ALL:
            setattr(self, name, _waiting(getattr(manifest, name), steps.get(name, _never), journal))

    async def confirm_version(self, version: Version, draft: VersionDraft) -> Version:
        """Wait for a version that is committed already: whatever is to be stored first, it is not refused any more."""
        if not self.is_confirmed(version, draft):
            await self._journal.stored()
        return version

    def is_confirmed(self, version: Version, draft: VersionDraft) -> bool:
        """Tell whether its label says all of it."""
        return not _tells_other_than_label(version, draft)

    def begin_delete_latest(
        self, bucket_id: BucketId, key: ObjectKey, *, marker_id: VersionId, now_ms: int
    ) -> Begun[Version | None] | None:
        """Begin a deletion that need not wait for the journal."""
        if not self._deletes_at_once:
            return None
        self._journal.admit(waits=False)
        return self._manifest.begin_delete_latest(bucket_id, key, marker_id=marker_id, now_ms=now_ms)

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._manifest, name)
        if isinstance(found, MethodType):
            self.__dict__[name] = found  # the next time it is found without asking here: each request asks for some
        return found


def _waiting(step: _Step, waits: Callable[..., bool], journal: Stored) -> _Step:
    async def run(*args: object, **kwargs: object) -> object:
        journal.admit(waits=waits(None, *args, **kwargs))
        result = await step(*args, **kwargs)
        if waits(result, *args, **kwargs):
            await journal.stored()
        return result

    return run
