"""What a comparison has found so far, as it is kept between its slices."""

from __future__ import annotations

import msgspec

EXAMPLES = 20  # names of a store that are kept to be shown; all are counted


class Compared(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Counts by store, but for `found`. Of a store in `unlisted`, whose listing broke off, nothing is said."""

    listed: dict[str, int] = {}  # names
    shards: int = 0  # that should be there, in stores that listed
    requests: int = 0
    found: dict[str, int] = {}  # damaged shards by kind
    unreachable: dict[str, int] = {}  # suspects that could not be looked at
    orphans: dict[str, int] = {}
    orphan_bytes: dict[str, int] = {}
    foreign: dict[str, int] = {}  # names that are not ours
    foreign_examples: dict[str, list[str]] = {}
    unlisted: dict[str, str] = {}  # store → why
    shared: list[str] = []  # stores that bear markers of another manifest

    def note_foreign(self, store: str, name: str) -> None:
        bump(self.foreign, store)
        examples = self.foreign_examples.setdefault(store, [])
        if len(examples) < EXAMPLES:
            examples.append(name)

    def note_shared(self, store: str) -> None:
        if store not in self.shared:
            self.shared.append(store)

    def copy(self) -> Compared:
        """Return one that a slice may add to, and that is dropped if the slice is broken off."""
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self), type=Compared)


def bump(counts: dict[str, int], key: str, by: int = 1) -> None:
    counts[key] = counts.get(key, 0) + by
