"""The journal of a process: what it is written, read and waited for with, from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.config import Config
from proxy.engine.journal.fence import JournalFence
from proxy.engine.journal.flush import Flusher
from proxy.engine.journal.lookout import LOOK_SECONDS, Lookout
from proxy.engine.journal.reading import CopyReader
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import ShardPutter
from proxy.keyring import Keyring, TenantCipher
from proxy.manifest.protocol import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """A journal that is kept."""

    writer: CopyWriter
    reader: CopyReader
    flusher: Flusher
    cipher: TenantCipher


def make_journal(
    config: Config,
    *,
    manifest: Manifest,
    keyring: Keyring,
    policies: Mapping[str, Policy],
    fleet: Fleet,
    putter: ShardPutter,
    clock: Clock,
    tasks: BackgroundTasks,
    threads: Executor,
) -> Journal | None:
    """Return the journal, or None if the configuration turns it off. Raises `KeyUnavailable`."""
    settings = config.journal
    if not settings.enabled:
        return None
    policy = policies[settings.policy or config.default_policy]
    _warn_of_weaker_policy(policy, policies)
    cipher = keyring.journal_cipher()
    writer = CopyWriter(putter, policy, cipher, tasks, threads)
    reader = CopyReader(fleet.stores, cipher)
    lookout = Lookout(fleet.stores, JournalFence(manifest, reader, timeout_seconds=LOOK_SECONDS), clock)
    return Journal(
        writer=writer,
        reader=reader,
        flusher=Flusher(manifest, writer, clock, tasks, wait_seconds=settings.acknowledge_seconds, lookout=lookout),
        cipher=cipher,
    )


def _warn_of_weaker_policy(policy: Policy, policies: Mapping[str, Policy]) -> None:
    """What survives is no use without the manifest that says what it is."""
    promised = dict(policy.may_fail.rules())
    stronger = sorted(
        name for name, other in policies.items() if any(count > promised.get(unit, 0) for unit, count in other.may_fail.rules())
    )
    if stronger:
        logger.warning(
            "journal.policy: the journal is stored under policy %s, which survives less than %s: after a larger failure their objects are "
            "there, but could not be recovered if the manifest is lost, too; name a policy for the journal that survives as much",
            policy.name,
            ", ".join(stronger),
        )
