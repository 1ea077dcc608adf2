"""What each store was found to have lost of late, counted in the step that puts it on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from proxy.manifest.damage import SUDDEN, BrakeState, Damage, Losses
from proxy.manifest.sqlite.rows import Connection

_ADD = "INSERT INTO loss VALUES (?1, ?2, ?2, ?3, 'counting', 0) ON CONFLICT (store) DO UPDATE SET found = found + ?3, last = ?2"


def note_losses(connection: Connection, news: Iterable[Damage], now_ms: int) -> None:
    """Count what was not on record yet; what takes the place of another loss of the same shard is none."""
    by_store = Counter(damage.store for damage in news if damage.kind in SUDDEN)
    connection.executemany(_ADD, [(store, now_ms, count) for store, count in by_store.items()])


def take_back_loss(connection: Connection, known: Damage | None) -> None:
    """A shard that was counted is well."""
    if known is not None and known.kind in SUDDEN:
        connection.execute("UPDATE loss SET found = max(found - 1, 0) WHERE store = ?", (known.store,))


def list_losses(connection: Connection) -> tuple[Losses, ...]:
    rows = connection.execute("SELECT store, since, last, found, state, shards FROM loss ORDER BY store")
    return tuple(
        Losses(store=store, since_ms=since, last_ms=last, found=found, state=state, shards=shards)
        for store, since, last, found, state, shards in rows
    )


def set_brake(connection: Connection, store: str, state: BrakeState, shards: int) -> None:
    connection.execute("UPDATE loss SET state = ?, shards = ? WHERE store = ?", (state, shards, store))


def forget_losses(connection: Connection, store: str) -> None:
    connection.execute("DELETE FROM loss WHERE store = ?", (store,))
