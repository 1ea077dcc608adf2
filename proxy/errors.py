"""Every failure Shardgate can name. The class decides retry and status; the message carries the facts.

    ProxyError                    raised on purpose: a command prints it in one line
        ConfigError               the operator must change the configuration
        StoreError                a store did not do what it was asked
            StoreUnavailable      worth a retry
                StoreNotAsked     nothing was sent: its breaker is open, or it is not open yet
                    FilesExhausted  no file descriptor is left: not the store's fault
            StoreRejected         a retry will not help
            ShardMissing          the store answered, and does not have it
                ShardTruncated    it is there, and shorter than it was
                ShardOversized    it is there, and larger than any
        IntegrityError            bytes read back are not the bytes written
            CellForged            of one cell
            SlotForged            of one slot of a pack
            ShardMismatch         of a shard's description
            JournalBroken         a gap or a fork: what was acknowledged cannot be told for sure
        RecoveryRefused           what a recovery finds is not enough, or too much; nothing was changed
        NoRoom                    what is only scratch would fill the manifest's disk
        NotEnoughShards           fewer than k to read, or than the policy wants to write
        BudgetExhausted           no memory came free in time
        NoThread                  a call that blocks was not begun: no thread for it was there in time
        KeyUnavailable            root or tenant key
        CustomerKeyRefused        SSE-C
            CustomerKeyMissing    what is stored is under a customer's key, and there is none
            CustomerKeyWrong      it is under another one
            CustomerKeyNeedless   it is under none
        KmsKeyMissing             no such KMS key of this tenant
        KmsKeyDisabled            it opens nothing for clients
        KmsKeyExists              its alias is taken
        ManifestUnavailable       the database did not answer in time; worth a retry
            JournalUnavailable    the step was made, and its journal segment is not stored yet; ask again
                JournalBusy           too much is to be stored first; ask again later
            ManifestFenced        it is behind its stores, and only read
        ManifestConflict          the manifest's state does not allow it; nothing was changed
            SettingChanged        a bucket's setting was changed by somebody else meanwhile
            TenantMissing         no such tenant
            TenantExists          its name or access key is taken
            TenantNotEmpty        it still owns buckets
            BucketMissing         no such bucket
            BucketExists          its name is taken
            BucketNotEmpty        it still holds versions
            VersionMissing        no such version
                ExtentMissing     it went while it was read: look the key up again
            VersionLocked         its retention or its legal hold forbids this
            BucketLocked          object lock and versioning go together, and do not end
            UploadMissing         no such multipart upload
            PartInvalid           a completion names what was not uploaded
            PreconditionUnmet     If-Match or If-None-Match does not hold
            IntentRevoked         a lease ran out under a write: write again
            PolicyMoved           the bucket has got another policy since: what it would share is under the old one
            CampaignRefused       there is none, or it cannot do now what it is told
            MoveRefused           the segment is gone, has changed, or somebody else moves its shards
        ReplicaRefused            a version cannot be copied to the bucket that its rules want
        TargetFailed              somebody who is told of events did not say that he has one
        MoveFailed                no store took any of the shards that were to be moved
        PolicyMissing             the bucket's policy is not configured any more
        CompletionRefused         the parts listed do not make the object asked for
            PartsOutOfOrder       the list is not in ascending order
            PartTooSmall          a part before the last is below S3's minimum
            PartUnchecked         a part's checksum is claimed by an algorithm that it did not come with
            ObjectTooLarge        the parts together are too large for one object
            SizeMismatch          the size claimed is not theirs
            ChecksumMismatch      the checksum claimed is not theirs

`server/errors.py` is the one table from these to S3's codes.
"""

from __future__ import annotations


class ProxyError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(ProxyError):
    """The configuration cannot be used; the message names the key and the remedy."""


class StoreError(ProxyError):
    """A store did not do what it was asked. `reason` is the message without the store's name, for where that is said anyway."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"store {store}: {reason}")
        self.store = store
        self.reason = reason


class StoreUnavailable(StoreError):
    """The store may answer later: timeout, connection refused, 5xx, throttling. Worth a retry."""


class StoreNotAsked(StoreUnavailable):
    """The call was not made at all, so the store holds nothing of it: it failed just now, or is not open yet."""


class FilesExhausted(StoreNotAsked):
    """This process, or the machine, has no file descriptor left: the store was not asked, and is not to blame."""


class StoreRejected(StoreError):
    """The store refused for good: credentials, permissions, missing bucket. A retry will not help."""


class ShardMissing(StoreError):
    """The store answered, and does not hold this shard."""


class ShardTruncated(ShardMissing):
    """The store answered, and the shard ends before the bytes that were asked for."""


class ShardOversized(ShardMissing):
    """The store answered, and what it has under this name is larger than any shard: it was not read."""


class IntegrityError(ProxyError):
    """Bytes read back are not the bytes written."""


class CellForged(IntegrityError):
    """A cell's authentication tag does not match: corrupt, truncated, stale or swapped."""


class SlotForged(IntegrityError):
    """A slot of a pack did not open: it, or a column that it was decoded from, is forged."""


class ShardMismatch(IntegrityError):
    """A shard's footer, share or label is not the one that its name, its size or its key calls for."""


class JournalBroken(IntegrityError):
    """The journal in the stores has a gap or a fork, so what was acknowledged cannot be told for sure."""


class RecoveryRefused(ProxyError):
    """A recovery cannot be made from what the stores hold, or into this manifest; nothing was changed."""


class NoRoom(ProxyError):
    """What is only scratch would fill the manifest's disk."""


class NotEnoughShards(ProxyError):
    """Fewer than k shards of a segment could be read, or fewer than the policy asks for could be written."""

    def __init__(self, *, needed: int, found: int, segment: str, reasons: tuple[str, ...] = ()) -> None:
        detail = f": {'; '.join(reasons)}" if reasons else ""
        super().__init__(f"segment {segment}: {found} shards of the {needed} needed{detail}")
        self.needed = needed
        self.found = found
        self.reasons = reasons


class BudgetExhausted(ProxyError):
    """No memory came free within the wait the configuration allows."""


class NoThread(ProxyError):
    """A call that blocks was not begun: there was no thread for it in time, or there is none any more."""


class KeyUnavailable(ProxyError):
    """A root or tenant key cannot be had, or does not open what it should."""


class CustomerKeyRefused(ProxyError):
    """What is stored is not under the customer's key that was given, or not given."""


class CustomerKeyMissing(CustomerKeyRefused):
    """It is under a customer's key, and nobody has given that."""


class CustomerKeyWrong(CustomerKeyRefused):
    """It is under another customer's key."""


class CustomerKeyNeedless(CustomerKeyRefused):
    """It is under no customer's key."""


class KmsKeyMissing(ProxyError):
    """The tenant has no KMS key of this id or alias."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no KMS key {key_id}")
        self.key_id = key_id


class KmsKeyDisabled(ProxyError):
    """The KMS key is disabled."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"KMS key {key_id} is disabled")
        self.key_id = key_id


class KmsKeyExists(ProxyError):
    """A tenant's alias of a KMS key is taken."""


class ManifestUnavailable(ProxyError):
    """The manifest database did not answer in time. Worth a retry."""


class JournalUnavailable(ManifestUnavailable):
    """The step was made in the manifest, but the journal could not be stored in time, so it is not acknowledged. Ask again."""


class JournalBusy(JournalUnavailable):
    """So much is to be stored in the journal first that to wait would be in vain. The message says whether the step was made."""


class ManifestFenced(ManifestUnavailable):
    """The manifest is behind its stores, or another's: it is read, and nothing is written or collected."""


class ManifestConflict(ProxyError):
    """The manifest's state does not allow this change; nothing was changed."""


class SettingChanged(ManifestConflict):
    """A setting of a bucket was changed by somebody else since it was looked at."""


class ReplicaRefused(ProxyError):
    """A version cannot be copied to another bucket as things are; the message says what stands in the way."""


class TargetFailed(ProxyError):
    """A target of events did not acknowledge one in time, or refused it; it is told again."""


class MoveFailed(ProxyError):
    """Not one of the shards that were to be moved could be; `stores` did not take theirs."""

    def __init__(self, message: str, *, stores: frozenset[str]) -> None:
        super().__init__(message)
        self.stores = stores


class PolicyMissing(ProxyError):
    """The policy that a bucket was made under is not configured any more."""


class TenantMissing(ManifestConflict):
    """No tenant of this id or name."""


class TenantExists(ManifestConflict):
    """A tenant of this name, or an access key of this id, exists already."""


class TenantNotEmpty(ManifestConflict):
    """The tenant still owns buckets."""


class BucketMissing(ManifestConflict):
    """No bucket of this name."""


class BucketExists(ManifestConflict):
    """A bucket of this name exists; `owner` is its tenant's id."""

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(f"bucket {name} exists")
        self.owner = owner


class BucketNotEmpty(ManifestConflict):
    """The bucket still holds versions or delete markers."""


class VersionMissing(ManifestConflict):
    """No version of this key and id."""


class ExtentMissing(VersionMissing):
    """The version these extents belonged to was replaced or deleted since it was found: look the key up again."""


class VersionLocked(ManifestConflict):
    """A lock of the version forbids this: its retention has not ended, or it has a legal hold."""


class BucketLocked(ManifestConflict):
    """A bucket with object lock keeps versions for good, and only a bucket that keeps them may have it."""


class UploadMissing(ManifestConflict):
    """No multipart upload of this id for this key: never begun, completed or aborted."""


class PartInvalid(ManifestConflict):
    """A part named by the completion was not uploaded, or has another ETag or checksum."""

    def __init__(self, message: str, *, number: int | None = None, etag: str = "") -> None:
        super().__init__(message)
        self.number = number
        self.etag = etag


class PreconditionUnmet(ManifestConflict):
    """If-Match or If-None-Match does not hold at the instant of the commit; `missing`: If-Match found no object at all."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class IntentRevoked(ManifestConflict):
    """The intent under which shards were written has expired and is being collected; write again."""


class PolicyMoved(ManifestConflict):
    """The extents to be shared are kept under another policy than the bucket's: store the data anew."""


class CampaignRefused(ManifestConflict):
    """There is no such campaign, or what it is told makes no sense now, or its plan does not hold any more; nothing was changed."""


class MoveRefused(ManifestConflict):
    """The segment whose shards were to be moved is gone, has changed, or is being moved by somebody else."""


class CompletionRefused(ProxyError):
    """The parts that a completion lists do not make the object it asks for; nothing was changed."""


class PartsOutOfOrder(CompletionRefused):
    """The list is not in ascending order of part numbers."""


class PartTooSmall(CompletionRefused):
    """A part before the last one is smaller than S3's minimum."""

    def __init__(self, *, number: int, etag: str, size: int, minimum: int) -> None:
        super().__init__(f"part {number} has {size} bytes of the {minimum} that are needed")
        self.number = number
        self.etag = etag
        self.size = size
        self.minimum = minimum


class PartUnchecked(CompletionRefused):
    """A part's checksum is claimed by an algorithm that the part was not uploaded with: nobody can tell whether it is right."""

    def __init__(self, *, number: int, algorithm: str) -> None:
        super().__init__(f"part {number} was not uploaded with {algorithm}")
        self.number = number
        self.algorithm = algorithm


class ObjectTooLarge(CompletionRefused):
    """The parts together are larger than an object may be."""

    def __init__(self, *, size: int, maximum: int) -> None:
        super().__init__(f"{size} bytes are more than {maximum}")
        self.size = size
        self.maximum = maximum


class SizeMismatch(CompletionRefused):
    """The size that the client claims of the object is not that of its parts."""

    def __init__(self, *, claimed: int, computed: int) -> None:
        super().__init__(f"{computed} bytes, and {claimed} were claimed")
        self.claimed = claimed
        self.computed = computed


class ChecksumMismatch(CompletionRefused):
    """The checksum that the client claims of the object is not that of its parts."""
