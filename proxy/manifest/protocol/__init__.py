"""What every manifest adapter promises: the durable knowledge of what lies where, named by intent."""

from __future__ import annotations

from typing import Protocol

from proxy.manifest.protocol.accounts import Accounts
from proxy.manifest.protocol.campaigns import Campaigns
from proxy.manifest.protocol.damage import DamageLedger
from proxy.manifest.protocol.events import Events
from proxy.manifest.protocol.journal import Journal
from proxy.manifest.protocol.lifecycle import Lifecycle
from proxy.manifest.protocol.objects import Objects
from proxy.manifest.protocol.packs import Packs
from proxy.manifest.protocol.recovery import Recovering
from proxy.manifest.protocol.replication import Replication
from proxy.manifest.protocol.scrub import Scrub
from proxy.manifest.protocol.upkeep import Upkeep


class Manifest(
    Accounts, Campaigns, Objects, Upkeep, DamageLedger, Journal, Lifecycle, Packs, Recovering, Scrub, Events, Replication, Protocol
):
    """Obligations: each method is one atomic, durable, serialisable step, and returns only after it is on disk; what one process
    committed, every other sees at its next call. A raised error means nothing changed. Any call may be cancelled: it then either
    happened whole or not at all. Extents no longer referenced by any version or part are queued as garbage by the same step.

    A bucket is looked up by its name once, and then referred to by its id: while a request is under way its bucket may be deleted, and the
    name taken by another tenant. An id is never given again; once its bucket is gone, writes raise BucketMissing and reads find nothing.
    """

    @property
    def trouble(self) -> str: ...  # why this process can write nothing, in one line; empty while it can, as far as is known
