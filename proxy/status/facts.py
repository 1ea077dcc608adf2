"""The facts that a status is made of, as records. What could not be found out is None, or says why in `trouble`."""

from __future__ import annotations

from msgspec import Struct

from proxy.manifest.records import Job
from proxy.stores.observe import Condition


class ManifestFacts(Struct, frozen=True, kw_only=True):
    """The database. `fence`: why it must not be written; `trouble`: why it cannot be read."""

    path: str
    trouble: str = ""
    fence: str = ""
    epoch: int = 0
    size_bytes: int = 0
    log_bytes: int = 0  # of the write-ahead log beside it
    free_bytes: int | None = None  # of its disk
    root_key_trouble: str = ""


class ServerFacts(Struct, frozen=True, kw_only=True):
    """The server that listens where the configuration says. `trouble`: why it says it cannot serve."""

    endpoint: str
    answers: bool
    trouble: str = ""
    in_flight: int = 0


class StoreFacts(Struct, frozen=True, kw_only=True):
    """One store. `error`: why it does not answer now; the rest is what the running server has seen, where there is one."""

    name: str
    configured: bool = True
    left: bool = False  # a campaign has moved everything out of it
    error: str = ""
    latency_ms: float | None = None
    condition: Condition | None = None  # of one process of the server
    calls: int = 0  # of all its processes, since its start
    errors: int = 0
    stored_bytes: int | None = None  # of what is alive, as the last walk has counted
    damaged: dict[str, int] = {}  # shards on record, by what is wrong
    garbage: int = 0


class PolicyFacts(Struct, frozen=True, kw_only=True):
    """What a policy comes to without the stores that are down. `spare`: how many more shards of a whole segment may be lost."""

    name: str
    down: tuple[str, ...]
    writes: bool
    spare: int


class DamageFacts(Struct, frozen=True, kw_only=True):
    """Segments that wait for repair, by how many more shards each can lose; below 0 it cannot be read."""

    waiting: dict[int, int] = {}
    oldest_ms: int | None = None


class LossFacts(Struct, frozen=True, kw_only=True):
    """What a store was found to have lost of late. `shards`: of how many, or 0; `paused`: their repair waits for an operator."""

    store: str
    found: int
    shards: int
    paused: bool


class TallyFacts(Struct, frozen=True, kw_only=True):
    """What the last walk over everything has counted: segments by how many more shards each can lose."""

    ended_ms: int
    segments: int
    plaintext_bytes: int
    redundancy: dict[int, int]


class PlacementFacts(Struct, frozen=True, kw_only=True):
    """What the last audit has found that repair cannot mend: segments, by the policy that they are kept under."""

    outdated: dict[str, int] = {}  # of a scheme that the policy does not have any more
    orphaned: dict[str, int] = {}  # of a policy that is not configured any more


class PackFacts(Struct, frozen=True, kw_only=True):
    """Since when something deleted is still in a pack, and within how many days it should go."""

    dead_since_ms: int | None = None
    within_days: float = 0.0


class ScrubFacts(Struct, frozen=True, kw_only=True):
    """A kind of scrub: the last whole pass, the days within which one should end, and what remains of one that goes on."""

    kind: str  # light or deep
    days: float
    ended_ms: int | None = None
    shards: int = 0
    damaged: int = 0
    remaining: int | None = None


class JournalFacts(Struct, frozen=True, kw_only=True):
    """The manifest's copy in the stores. `waiting`: changes that are late; if there are any, it has taken none for `lag_ms`."""

    waiting: int
    lag_ms: int
    number: int = 0  # of the last journal segment
    checkpoint_ms: int | None = None
    since_checkpoint: int = 0  # journal segments that a recovery would have to replay
    gap: bool = False  # changes were made without a journal, and no checkpoint has followed yet
    compared_ms: int | None = None  # when what a recovery needs was last compared with the stores
    damaged: dict[str, int] = {}  # shards of that by what is wrong with them
    urgent: int = 0  # segments of that which do not keep the policy's promise
    spare: int = 0  # how many more shards the worst of the damaged segments may lose


class CampaignFacts(Struct, frozen=True, kw_only=True):
    """A drain, a replacement, a rebalance or a move to another policy."""

    id: str
    what: str
    state: str
    done: int
    planned: int
    remaining_seconds: float | None = None
    trouble: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """Everything at one instant."""

    now_ms: int
    manifest: ManifestFacts
    server: ServerFacts
    stores: tuple[StoreFacts, ...] = ()
    policies: tuple[PolicyFacts, ...] = ()
    damage: DamageFacts = DamageFacts()
    losses: tuple[LossFacts, ...] = ()
    unplaced_garbage: int = 0  # deleted shards of which it is not known yet in which store they are
    tally: TallyFacts | None = None
    placement: PlacementFacts = PlacementFacts()
    packs: PackFacts = PackFacts()
    scrubs: tuple[ScrubFacts, ...] = ()
    journal: JournalFacts | None = None
    campaigns: tuple[CampaignFacts, ...] = ()
    jobs: tuple[Job, ...] = ()
