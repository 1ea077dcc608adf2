"""The ways in which a provider may misbehave, and who watches what it is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from random import Random

from proxy.codec.format import END, FIXED, FIXED_PART_SIZE, is_shard_name, segment_prefix
from proxy.stores.protocol import ShardName, StoreInfo
from tests.faulty_store import FaultyStore


def mend(store: FaultyStore) -> None:
    """Let a store behave again. Calls that hang go on."""
    store.down = store.rejects = store.hanging = store.full = store.loses_puts = store.loses_answers = False
    store.keeps_what_it_refuses = store.truncates = store.flips_bits = store.lists_late = store.refuses_deletes = False
    store.slow_seconds, store.swaps_with, store.fails = 0.0, None, lambda: False


# Those that pass, and leave what was stored as it is.
PASSING: Mapping[str, Callable[[FaultyStore, Random], None]] = {
    "down": lambda store, chance: setattr(store, "down", True),
    "rejects": lambda store, chance: setattr(store, "rejects", True),
    "hangs": lambda store, chance: setattr(store, "hanging", True),
    "slow": lambda store, chance: setattr(store, "slow_seconds", chance.choice((1.0, 20.0, 40.0))),
    "fails at random": lambda store, chance: setattr(store, "fails", lambda: chance.random() < 0.4),
    "full": lambda store, chance: setattr(store, "full", True),
    "loses answers": lambda store, chance: setattr(store, "loses_answers", True),
    "keeps what it refuses": lambda store, chance: setattr(store, "keeps_what_it_refuses", True),
    "truncates": lambda store, chance: setattr(store, "truncates", True),
    "flips bits": lambda store, chance: setattr(store, "flips_bits", True),
    "answers with another": lambda store, chance: setattr(store, "swaps_with", _another(store, chance)),
    "lists late": lambda store, chance: setattr(store, "lists_late", True),
    "refuses deletes": lambda store, chance: setattr(store, "refuses_deletes", True),
}


def _another(store: FaultyStore, chance: Random) -> Callable[[ShardName], ShardName]:
    """Choose any object that the store has, often an older one: of another segment, or of another version of the same key."""

    def chosen(name: ShardName) -> ShardName:
        others = sorted(other for other in store.sent if is_shard_name(other) and other != name)
        return chance.choice(others) if others else name

    return chosen


class Watch:
    """Knows what each store holds, and notes every hand that comes to hold as many shards of a segment as it takes to read it."""

    def __init__(self, held: Mapping[str, Mapping[ShardName, bytes]], infos: Mapping[str, StoreInfo]) -> None:
        self._held = held
        self._infos = infos
        self.found: list[str] = []

    def look(self, name: ShardName, data: bytes) -> None:
        """To be called after each put."""
        if not is_shard_name(name):
            return
        needed, segment_id = _scheme_of(data)
        for hand, indexes in self._hands(segment_prefix(segment_id)).items():
            if len(indexes) >= needed:
                self.found.append(
                    f"{hand} holds the shards {sorted(indexes)} of segment {segment_id.hex()}, and {needed} are enough to read it"
                )

    def _hands(self, prefix: str) -> dict[str, set[str]]:
        hands: dict[str, set[str]] = defaultdict(set)
        for store, index in self._shards(prefix):
            info = self._infos[store]
            hands[f"provider {info.provider}"].add(index)
            hands[f"jurisdiction {info.jurisdiction}"].add(index)
        return hands

    def _shards(self, prefix: str) -> Iterator[tuple[str, str]]:
        for store, objects in self._held.items():
            yield from ((store, name.removeprefix(prefix)[:2]) for name in objects if name.startswith(prefix))


def _scheme_of(data: bytes) -> tuple[int, bytes]:
    """Return k and the segment's id, from a shard's footer."""
    fixed = FIXED.unpack(data[-FIXED_PART_SIZE - END.size : -END.size])
    return fixed[3], fixed[5]
