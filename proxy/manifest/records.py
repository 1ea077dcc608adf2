"""What the manifest remembers, as frozen records. Bytes on disk are MessagePack of these; fields are only ever added, with defaults."""

from __future__ import annotations

from typing import Literal, NamedTuple, NewType

import msgspec

from proxy.codec.format import shard_name
from proxy.s3.checksums import ChecksumAlgorithm, ChecksumType
from proxy.s3.object_lock import HoldStatus, LockMode
from proxy.s3.policy.acl import Acl
from proxy.s3.replication import ReplicationStatus

TenantId = NewType("TenantId", str)
KmsKeyId = NewType("KmsKeyId", str)
AccessKeyId = NewType("AccessKeyId", str)
BucketId = NewType("BucketId", int)  # of this very bucket: never given again, as its name may be
BucketName = NewType("BucketName", str)
ObjectKey = NewType("ObjectKey", str)  # compared as UTF-8 bytes
VersionId = NewType("VersionId", str)
UploadId = NewType("UploadId", str)
SegmentId = NewType("SegmentId", bytes)  # 16 random bytes, drawn anew for every attempt
ExtentId = NewType("ExtentId", int)
IntentId = NewType("IntentId", int)

NULL_VERSION = VersionId("null")

Versioning = Literal["Unversioned", "Enabled", "Suspended"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all stored records. They are trees, which no collector need look through."""


class Tenant(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An account: owner of buckets, holder of access keys and of one wrapped tenant key."""

    id: TenantId
    name: str  # unique
    canonical_id: str  # 64 hex digits, as in S3's Owner.ID; unique
    account_id: str  # 12 digits, as in AWS's ARNs; unique
    display_name: str
    email: str = ""
    enabled: bool = True
    root_key_id: str
    wrapped_key: bytes  # the tenant key, wrapped by the root key
    created_ms: int


class AccessKey(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A credential of a tenant. The secret is sealed by the tenant key: the database alone signs nothing."""

    id: AccessKeyId  # unique
    tenant_id: TenantId
    sealed_secret: bytes
    enabled: bool = True
    created_ms: int
    name: str = ""  # of the user that it stands for
    policy: str = ""  # what it may do, at most: a policy document; none: whatever the tenant may

    @property
    def user(self) -> str:
        """The user that this key stands for in ARNs; "" for the root of the account."""
        return self.name or (self.id if self.policy else "")


class Role(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a tenant lets others become for a while: who may, and what they may do then. Both are policy documents."""

    tenant_id: TenantId
    name: str  # unique in the tenant
    trust: str
    policy: str
    max_session_seconds: int = 3600
    created_ms: int


class KmsKey(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A key of a tenant's keyring, beside the tenant key: it wraps data keys as that does. It stays as long as the tenant."""

    id: KmsKeyId  # a UUID
    tenant_id: TenantId
    alias: str = ""  # without "alias/"; unique in the tenant
    enabled: bool = True
    root_key_id: str
    wrapped_key: bytes  # wrapped by the root key, as a tenant key is
    created_ms: int


class Bucket(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket. `settings` holds S3 sub-resources not interpreted by the manifest, by name (e.g. "tagging"), as JSON text."""

    id: BucketId = BucketId(0)  # given by the manifest when the bucket is made; no bucket has 0
    name: BucketName
    tenant_id: TenantId
    policy: str  # the placement policy's name: what is written from now on is stored under it
    location: str = ""  # the LocationConstraint as given; "" is us-east-1
    versioning: Versioning = "Unversioned"
    created_ms: int
    settings: dict[str, str] = {}


class Segment(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A placed segment: up to 16 MiB of plaintext as k + m shards."""

    id: SegmentId
    size: int  # plaintext bytes
    footer_size: int = 0  # bytes of each shard behind its cells
    stores: tuple[str, ...]  # by shard index: the store's name
    generations: tuple[int, ...] = ()  # by shard index: how often the shard was put anew; empty if none ever was
    missing: tuple[int, ...] = ()  # shard indexes known not to be in their store
    strays: bool = False  # a put that failed may have left a shard in another store
    drawn: int = 0  # the highest generation ever drawn for a move of any of its shards

    def shard_name(self, index: int) -> str:
        """Return the upstream name of a shard."""
        return shard_name(self.id, index, self.generations[index] if self.generations else 0)


class Layout(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How one run of bytes is coded, sealed and placed."""

    size: int  # plaintext bytes, the sum over its segments
    policy: str = ""  # the placement policy whose promises its segments keep
    k: int
    m: int
    tenant_key_id: str  # the tenant's id, or that of a KMS key of the tenant
    wrapped_key: bytes  # the data key, wrapped by that key
    customer_salt: bytes = b""  # what is stored is enciphered under a customer's key and this; empty: it is the plaintext
    slots: int = 0  # > 0: it is a pack, made with so many objects in it; one segment
    content_size: int = 0  # of a pack: plaintext bytes of those objects
    segments: tuple[Segment, ...]


class Extent(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A stored, immutable, reference-counted layout. Copies share it."""

    id: ExtentId
    layout: Layout


class ExtentRef(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version's use of an extent: of all of it, or of one slot of a pack. A slot is the only one that its version has."""

    id: ExtentId
    size: int  # plaintext bytes of what is used
    offset: int | None = None  # of the slot, as `codec.slots` counts; None: the extent is used whole


class Checksum(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An object's or part's checksum as S3 reports it: base64 (with "-N" for COMPOSITE)."""

    algorithm: ChecksumAlgorithm
    type: ChecksumType
    value: str


class PartSummary(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a completed multipart object remembers of each part."""

    number: int
    size: int
    checksum: Checksum | None = None
    etag: str = ""  # without quotes: what a copy of just this part has, if it shares what is stored


class Retention(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Until when a version must be kept, and how strictly: see `proxy.manifest.plans.locks`."""

    mode: LockMode
    until_ms: int


class Encryption(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a client asked for beside what every object has: a key of the tenant's keyring (SSE-KMS), or one of its own (SSE-C)."""

    kms_key_id: str = ""  # a KMS key's, or the tenant's id for the tenant key itself, which AWS calls aws/s3
    bucket_key: bool = False  # told as it was asked for
    context: str = ""  # base64 of JSON, as given
    customer_check: bytes = b""  # of SSE-C: see `codec.customer`


class ObjectAttributes(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a client says about an object besides its bytes, and gets back with it.

    `headers` keeps the system headers by boto3 name (ContentType, CacheControl, ContentDisposition, ContentEncoding,
    ContentLanguage, Expires, WebsiteRedirectLocation), values as sent. `metadata` keeps x-amz-meta-* by lower-case name without the prefix.
    """

    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    storage_class: str = "STANDARD"
    acl: Acl | None = None  # None: the bucket's owner owns it, and nobody else has anything
    retention: Retention | None = None
    legal_hold: HoldStatus | None = None  # None: never set, which S3 tells from "OFF"
    replication: ReplicationStatus | None = None  # None: it is not copied to another bucket, and is no copy itself
    encryption: Encryption | None = None  # None: as every object is, under a key of its own that the tenant key wraps


class Version(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One version of one key, or a delete marker."""

    key: ObjectKey
    id: VersionId
    sequence: int  # the order of commits to this key: the newest version has the highest. It may come again once that is deleted
    is_latest: bool
    is_delete_marker: bool = False
    size: int = 0
    etag: str = ""  # without quotes
    modified_ms: int
    written: int = 0  # rises from write to write, whatever the clock does: see `order_of`
    attributes: ObjectAttributes = ObjectAttributes()
    checksum: Checksum | None = None
    parts_count: int = 0  # 0 unless made by multipart. The parts are loaded where they are asked for: there may be 10,000
    upload_id: UploadId | None = None  # of the multipart upload that made it: tells it from another of the same key and id
    extents: tuple[ExtentRef, ...] = ()


class Readable(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version with what is needed to read it."""

    version: Version
    extents: tuple[Extent, ...] = ()  # the version's, where they are few; of a version of many, those a range touches are loaded


class Look(NamedTuple):
    """A key whose newest version is looked up together with who asks for it."""

    key: ObjectKey
    to_read: bool  # the version's extents, too


class Caller(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Who asks, and of whose bucket: what the start of every request needs, as it was at one instant. None is what there is not."""

    access_key: AccessKey | None = None
    tenant: Tenant | None = None  # whose key it is
    bucket: Bucket | None = None
    owner: Tenant | None = None  # whose bucket it is
    found: Readable | None = None  # the newest version of the key that was looked up with them, a moment later


class ListedAcl(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Whose an object is."""

    owner: str  # canonical id


class ListedAttributes(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a listing tells of an object's attributes."""

    storage_class: str = "STANDARD"
    acl: ListedAcl | None = None  # None: it is the bucket's owner's


class ListedVersion(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a listing tells of a version. Decoded from the record of the whole, at a third of the cost and whatever its parts are."""

    key: ObjectKey
    id: VersionId
    is_latest: bool
    is_delete_marker: bool = False
    size: int = 0
    etag: str = ""  # without quotes
    modified_ms: int
    attributes: ListedAttributes = ListedAttributes()
    checksum: Checksum | None = None


class Upload(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A multipart upload in progress."""

    id: UploadId
    bucket_id: BucketId
    key: ObjectKey
    tenant_id: TenantId
    initiated_ms: int
    attributes: ObjectAttributes = ObjectAttributes()
    checksum_algorithm: ChecksumAlgorithm | None = None
    checksum_type: ChecksumType | None = None
    begun_with: dict[str, str] = {}  # headers of the request that began it, by lower-case name: policies judge its parts by them


class Part(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An uploaded part. Uploading its number again replaces it."""

    number: int  # 1..10000
    size: int
    etag: str
    modified_ms: int
    written: int = 0  # rises from write to write: tells labels of one millisecond apart
    checksum: Checksum | None = None
    customer_salt: bytes = b""  # of its layout: a label tells it by this alone
    claimed: Checksum | None = None  # the one that came with it, if that is another: a completion may repeat it
    extents: tuple[ExtentRef, ...] = ()


class Intent(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Segment ids leased to one worker before it writes any shard under them.

    A worker that dies leaves the ids it had not settled; whoever finds the lease expired revokes it and collects them.
    """

    id: IntentId
    owner: str
    expires_ms: int
    segment_ids: tuple[SegmentId, ...]  # at most 60: `settled` is a bit mask in one integer column


class Settlement(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Bits of one intent that a transaction settles: these ids are committed, or queued as garbage, by it."""

    intent_id: IntentId
    mask: int


class GarbageSegment(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A segment whose shards are to be deleted. With `stores` empty the placement is unknown: every store is searched for the id.

    With `strays` every store is searched as well. What is known is deleted by name all the same: a store may list late what it has.
    """

    id: SegmentId
    stores: tuple[str, ...] = ()
    generations: tuple[int, ...] = ()  # as in `Segment`
    strays: bool = False

    def shard_name(self, index: int) -> str:
        """Return the upstream name of a shard."""
        return _name(self.id, index, self.generations)


class Garbage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One shard to delete from one store, or, with `search`, whatever there is whose name begins so.

    Before it is due, all of a segment: then `shards` says where they lie, as (store, name) of each, and `store` names none.
    """

    store: str
    name: str
    search: bool = False
    due_ms: int  # when it was queued, or when a store that failed is to be asked again
    shards: tuple[tuple[str, str], ...] = ()


class Job(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A background job: who holds it, what it has done, and when it is due again."""

    name: str
    holder: str = ""
    expires_ms: int = 0  # of the holder's lease
    due_ms: int = 0
    paused: bool = False
    done: int = 0  # in all
    remaining: int | None = None  # None: not known
    requests: int = 0  # of stores, in all
    size_bytes: int = 0  # moved, in all
    rate: float = 0.0  # done a second in the last turn that did something
    last_run_ms: int = 0
    last_error: str = ""  # of the last turn; "" if all went well
    failures: int = 0  # turns in a row that failed


class JobReport(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What one turn of a job did."""

    done: int = 0
    remaining: int | None = None
    requests: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    error: str = ""
    failed: bool = False
    due_ms: int = 0


class Epoch(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Which manifest this is, and how far it has come. The stores keep the same, so that a copy that is behind is noticed."""

    identity: str  # 32 hex digits, drawn when the manifest is made
    number: int
    moved_ms: int
    fence: str = ""  # why nothing may be written; "" if all is well


def _name(segment_id: SegmentId, index: int, generations: tuple[int, ...]) -> str:
    return shard_name(segment_id, index, generations[index] if generations else 0)
