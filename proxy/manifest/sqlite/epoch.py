"""The epoch: which manifest this is, how far it has come, and whether it may be written."""

from __future__ import annotations

from proxy.errors import ManifestFenced
from proxy.manifest.records import Epoch
from proxy.manifest.sqlite.ledger import NOBODY
from proxy.manifest.sqlite.rows import Connection


def find_epoch(connection: Connection) -> Epoch:
    identity, number, moved_ms, fence = connection.execute("SELECT identity, number, moved, fence FROM epoch").fetchone()
    return Epoch(identity=identity, number=number, moved_ms=moved_ms, fence=fence)


def refuse_fenced(connection: Connection) -> None:
    """Raise `ManifestFenced` if nothing may be written: the first statement of every change."""
    (fence,) = connection.execute("SELECT fence FROM epoch").fetchone()
    if fence:
        raise ManifestFenced(fence)


def move_epoch(connection: Connection, now_ms: int) -> Epoch:
    connection.execute("UPDATE epoch SET number = number + 1, moved = ?", (now_ms,))
    return find_epoch(connection)


def set_fence(connection: Connection, reason: str) -> None:
    connection.execute("UPDATE epoch SET fence = ?", (reason,))


def accept_epoch(connection: Connection, above: int, now_ms: int) -> Epoch:
    """Lift the fence, above the stores' number, and forget the leases that were alive in this copy: no id of theirs is queued."""
    connection.execute("DELETE FROM intent WHERE owner != ?", (NOBODY,))
    connection.execute("DELETE FROM draw WHERE NOT revoked")
    connection.execute("UPDATE epoch SET number = max(number, ?) + 1, moved = ?, fence = ''", (above, now_ms))
    return find_epoch(connection)
