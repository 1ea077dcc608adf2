"""The SQLite manifest: a log that is synced before anybody is told, one writer thread a process, any number of processes on one file.

Nothing that may have to wait for a disk runs on the event loop: one that hangs delays those who ask, up to the deadline, and nobody else.
What lies in memory is read there, as that takes less than to ask a thread: see `glances`.
"""

from proxy.manifest.sqlite.adapter.accounts import Accounts
from proxy.manifest.sqlite.adapter.campaigns import Campaigns
from proxy.manifest.sqlite.adapter.damage import DamageLedger
from proxy.manifest.sqlite.adapter.events import Events
from proxy.manifest.sqlite.adapter.journal import Journal
from proxy.manifest.sqlite.adapter.lifecycle import Lifecycle
from proxy.manifest.sqlite.adapter.objects import Objects
from proxy.manifest.sqlite.adapter.packs import Packs
from proxy.manifest.sqlite.adapter.recovery import Recovering
from proxy.manifest.sqlite.adapter.replication import Replication
from proxy.manifest.sqlite.adapter.scrub import Scrub
from proxy.manifest.sqlite.adapter.upkeep import Upkeep


class SqliteManifest(Accounts, Campaigns, Objects, Upkeep, DamageLedger, Journal, Lifecycle, Packs, Recovering, Scrub, Events, Replication):
    """See the protocol for what each method promises."""
