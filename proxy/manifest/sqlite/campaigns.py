"""Campaigns: a record each, changed as `proxy.manifest.campaigns` says, and the exchange of extents under what uses them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from msgspec.structs import replace

from proxy.errors import CampaignRefused, ExtentMissing, PolicyMoved
from proxy.manifest import campaigns
from proxy.manifest.campaigns import Advance, Campaign, CampaignId, ExtentUser, Order, Position, Used
from proxy.manifest.plans.extents import CountedExtent
from proxy.manifest.records import Bucket, BucketId, ExtentId, ExtentRef, Layout, Part, Settlement, Upload, Version
from proxy.manifest.sqlite.buckets import change_bucket, need_bucket
from proxy.manifest.sqlite.extents import add_extents, change_references, counted_extents
from proxy.manifest.sqlite.jobs import make_due
from proxy.manifest.sqlite.layouts import save_layout
from proxy.manifest.sqlite.ledger import settle_commit
from proxy.manifest.sqlite.rows import Connection, encode, one
from proxy.manifest.sqlite.slots import change_kind, is_of_one_bucket

FORGOTTEN_MS = 30 * 24 * 60 * 60 * 1000
_campaigns = msgspec.msgpack.Decoder(Campaign)
_layouts = msgspec.msgpack.Decoder(Layout)
_versions = msgspec.msgpack.Decoder(Version)
_uploads = msgspec.msgpack.Decoder(Upload)
_parts = msgspec.msgpack.Decoder(Part)
_WALK_VERSIONS = (
    "SELECT record FROM version WHERE bucket = ?1 AND (key, order_key) > (?2, ?3) AND marker = 0 ORDER BY key, order_key LIMIT ?4"
)
_WALK_PARTS = (
    "SELECT u.record, p.record FROM upload u JOIN part p ON p.upload = u.id"
    " WHERE u.bucket = ?1 AND (u.id, p.number) > (?2, ?3) ORDER BY u.id, p.number LIMIT ?4"
)


def add_campaign(connection: Connection, campaign: Campaign) -> None:
    for old in list_campaigns(connection):
        if old.state == "planned" and old.planned_ms < campaign.planned_ms - FORGOTTEN_MS:
            connection.execute("DELETE FROM campaign WHERE id = ?", (old.id,))
    _save(connection, campaign)


def find_campaign(connection: Connection, campaign_id: CampaignId) -> Campaign | None:
    return one(connection, "SELECT record FROM campaign WHERE id = ?", (campaign_id,), _campaigns)


def list_campaigns(connection: Connection) -> tuple[Campaign, ...]:
    return tuple(_campaigns.decode(row[0]) for row in connection.execute("SELECT record FROM campaign ORDER BY planned, id"))


def order_campaign(connection: Connection, campaign_id: CampaignId, order: Order, now_ms: int) -> Campaign:
    campaign = find_campaign(connection, campaign_id)
    if campaign is None:
        raise CampaignRefused(f"there is no campaign {campaign_id}: make a plan first")
    changed = campaigns.obey(campaign, order, now_ms=now_ms)
    if order in {"apply", "resume"}:
        campaigns.refuse_beside(campaign, list_campaigns(connection))
    if order == "apply" and campaign.verb == "policy":
        change_bucket(connection, replace(need_bucket(connection, campaign.bucket_id), policy=campaign.policy))
    _save(connection, changed)
    if changed.state == "running":
        make_due(connection, campaigns.JOB)
    return changed


def advance_campaign(connection: Connection, campaign_id: CampaignId, step: Advance, now_ms: int) -> Campaign | None:
    campaign = find_campaign(connection, campaign_id)
    changed = None if campaign is None else campaigns.advance(campaign, step, now_ms=now_ms)
    if changed is not None:
        _save(connection, changed)
        if changed.state == "done":
            connection.execute("DELETE FROM successor WHERE extent NOT IN (SELECT id FROM extent)")
    return changed


def reopen_campaign(connection: Connection, campaign_id: CampaignId) -> None:
    campaign = find_campaign(connection, campaign_id)
    changed = None if campaign is None else campaigns.reopen(campaign)
    if changed is not None:
        _save(connection, changed)


def leaving_stores(connection: Connection) -> frozenset[str]:
    return frozenset(campaign.store for campaign in list_campaigns(connection) if campaign.leaves)


def note_late_policy(connection: Connection, bucket: Bucket, layouts: Sequence[Layout]) -> None:
    """What is committed began under the policy that the bucket had before: whoever moved the bucket has to look again."""
    if all(layout.policy == bucket.policy for layout in layouts):
        return
    for campaign in reversed(list_campaigns(connection)):
        if campaign.verb == "policy" and campaign.bucket_id == bucket.id and campaign.state != "planned":
            reopen_campaign(connection, campaign.id)
            return


def note_late_shards(connection: Connection, stores: Collection[str]) -> None:
    """A move that had begun before its store was left may still bring a shard there: whoever leaves it has to look again."""
    for campaign in list_campaigns(connection):
        if campaign.leaves and campaign.store in stores:
            reopen_campaign(connection, campaign.id)


def refuse_moved(connection: Connection, bucket: Bucket, shared: Sequence[ExtentRef]) -> None:
    """PolicyMoved if what is to be shared is kept under another policy than the bucket's: the one or the other was moved meanwhile."""
    if any(counted.extent.layout.policy != bucket.policy for counted in counted_extents(connection, [ref.id for ref in shared])):
        raise PolicyMoved(f"what is copied into {bucket.name} is not kept under its policy any more")


def walk_users(connection: Connection, bucket_id: BucketId, after: Position, limit: int) -> tuple[Used, ...]:
    if after.parts_done:
        order_key = -after.sequence if after.sequence else _BEFORE_ALL
        rows = connection.execute(_WALK_VERSIONS, (bucket_id, after.key.encode(), order_key, limit))
        return tuple(_used_by_version(bucket_id, _versions.decode(row[0])) for row in rows)
    rows = connection.execute(_WALK_PARTS, (bucket_id, after.upload_id, after.part_number, limit))
    return tuple(_used_by_part(_uploads.decode(row[0]), _parts.decode(row[1])) for row in rows)


_BEFORE_ALL = -(2**62)


def _used_by_version(bucket_id: BucketId, version: Version) -> Used:
    user = ExtentUser(bucket_id=bucket_id, key=version.key, version_id=version.id, sequence=version.sequence)
    position = Position(parts_done=True, key=version.key, sequence=version.sequence)
    return Used(user=user, storage_class=version.attributes.storage_class, extents=version.extents, position=position)


def _used_by_part(upload: Upload, part: Part) -> Used:
    user = ExtentUser(bucket_id=upload.bucket_id, key=upload.key, upload_id=upload.id, part_number=part.number)
    position = Position(upload_id=upload.id, part_number=part.number)
    return Used(user=user, storage_class=upload.attributes.storage_class, extents=part.extents, position=position)


def load_counted(connection: Connection, ids: Sequence[ExtentId]) -> tuple[CountedExtent, ...]:
    return tuple(counted_extents(connection, ids))


def adopt_extent(connection: Connection, user: ExtentUser, extent_id: ExtentId, policy: str) -> bool:
    counted = next(counted_extents(connection, [extent_id]), None)
    if counted is None or not _is_alone(connection, user, counted) or not _uses(connection, user, extent_id):
        return False
    adopted = replace(counted.extent.layout, policy=policy)
    save_layout(connection, extent_id, adopted)
    if adopted.slots:
        change_kind(connection, extent_id, adopted)
    return True


def _is_alone(connection: Connection, user: ExtentUser, counted: CountedExtent) -> bool:
    """Tell whether nobody else uses an extent; of a pack, whether all who do are in the bucket of this one, and move with it."""
    extent = counted.extent
    return is_of_one_bucket(connection, extent.id, user.bucket_id) if extent.layout.slots else counted.references == 1


def exchange_extent(
    connection: Connection, user: ExtentUser, extent_id: ExtentId, layout: Layout, settlements: Sequence[Settlement], now_ms: int
) -> ExtentRef:
    if not _uses(connection, user, extent_id):
        raise ExtentMissing(f"extent {extent_id} is not used by {user.key} any more")
    settle_commit(connection, settlements)
    (new,) = add_extents(connection, [layout], now_ms=now_ms)
    _exchange(connection, user, extent_id, new, now_ms)
    row = (extent_id, layout.policy, layout.k, layout.m, new.id)
    connection.execute("INSERT OR REPLACE INTO successor SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM extent WHERE id = ?1)", row)
    return new


def share_successor(connection: Connection, user: ExtentUser, extent_id: ExtentId, policy: str, k: int, m: int, now_ms: int) -> bool:
    row = connection.execute(
        "SELECT successor FROM successor s JOIN extent e ON e.id = s.successor WHERE s.extent = ? AND policy = ? AND k = ? AND m = ?",
        (extent_id, policy, k, m),
    ).fetchone()
    old = next((ref for ref in _extents(connection, user) if ref.id == extent_id), None)
    if row is None or old is None:
        return False
    (new,) = change_references(connection, shared=[ExtentRef(id=ExtentId(row[0]), size=old.size)], now_ms=now_ms)
    _exchange(connection, user, extent_id, new, now_ms)
    return True


def _exchange(connection: Connection, user: ExtentUser, extent_id: ExtentId, new: ExtentRef, now_ms: int) -> None:
    """Replace the first use of an extent: a part that was copied from another shares none, so a version uses an extent once."""
    refs = list(_extents(connection, user))
    place = next(place for place, ref in enumerate(refs) if ref.id == extent_id)
    old, refs[place] = refs[place], new
    _save_extents(connection, user, tuple(refs))
    change_references(connection, released=[old], now_ms=now_ms)


def _uses(connection: Connection, user: ExtentUser, extent_id: ExtentId) -> bool:
    return any(ref.id == extent_id for ref in _extents(connection, user))


def _extents(connection: Connection, user: ExtentUser) -> tuple[ExtentRef, ...]:
    found = _find_part(connection, user) if user.upload_id else _find_version(connection, user)
    return () if found is None else found.extents


def _save_extents(connection: Connection, user: ExtentUser, extents: tuple[ExtentRef, ...]) -> None:
    if user.upload_id and (part := _find_part(connection, user)):
        row = (encode(replace(part, extents=extents)), user.upload_id, user.part_number)
        connection.execute("UPDATE part SET record = ? WHERE upload = ? AND number = ?", row)
    elif version := _find_version(connection, user):
        changed = encode(replace(version, extents=extents))
        connection.execute("UPDATE version SET record = ? WHERE bucket = ? AND key = ? AND order_key = ?", (changed, *_row(user)))


def _find_version(connection: Connection, user: ExtentUser) -> Version | None:
    """Return the very version: a sequence may have come again since."""
    sql = "SELECT record FROM version WHERE bucket = ? AND key = ? AND order_key = ?"
    version = one(connection, sql, _row(user), _versions)
    return version if version is not None and version.id == user.version_id else None


def _find_part(connection: Connection, user: ExtentUser) -> Part | None:
    return one(connection, "SELECT record FROM part WHERE upload = ? AND number = ?", (user.upload_id, user.part_number), _parts)


def _row(user: ExtentUser) -> tuple[int, bytes, int]:
    return user.bucket_id, user.key.encode(), -user.sequence


def _save(connection: Connection, campaign: Campaign) -> None:
    row = (campaign.id, campaign.planned_ms, encode(campaign))
    connection.execute("INSERT OR REPLACE INTO campaign VALUES (?, ?, ?)", row)
