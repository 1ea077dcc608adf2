"""Stores whose places were swapped in the configuration, known by the marks that their markers bear.

The problem. Where two stores have changed places, each answers "there is no such object" to everything. Nothing else tells this from two
stores that were emptied: repair would rebuild all that they hold, and then nothing would be found in the right places.

The idea. A marker of the epoch bears the **mark** of the store that it was put into: derived from the root key, the manifest's identity and
the store's name. The newest marker in a place says whose place it is.

Lies. A provider knows the mark of its own store alone. One that has got another's, and shows it, must not stop the service: a place is
taken for another store's only if that store does not show its own mark itself. Nobody is accused for a mark that belongs to no configured
store: a store may have been given another name, or the place of one that is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol


class Marked(Protocol):
    """A marker, as far as this goes."""

    @property
    def number(self) -> int: ...
    @property
    def mark(self) -> str: ...


def find_swapped(markers: Mapping[str, Sequence[Marked]], names: Mapping[str, str]) -> dict[str, str]:
    """Return the stores that are at the place of another, and of which. `names`: mark → configured store; `markers` are genuine."""
    owners = {store: _owner(found, names) for store, found in markers.items()}
    return {store: owner for store, owner in sorted(owners.items()) if owner is not None and owner != store and owners.get(owner) != owner}


def _owner(found: Collection[Marked], names: Mapping[str, str]) -> str | None:
    """Return whose place it is, by the newest marker."""
    newest = max(found, key=lambda marker: marker.number, default=None)
    return None if newest is None else names.get(newest.mark)


def swapped_in_words(swapped: Mapping[str, str]) -> str:
    """Say what is wrong, and what to do."""
    places = ", ".join(f"store {store} is at the place of {owner}" for store, owner in swapped.items())
    keys = ", ".join(f"stores.{store}" for store in swapped)
    return (
        f"{keys}: {places}; put each store's place (bucket and prefix, or path) back as it was; "
        'if a bucket was given to another store on purpose, empty it first: at least of what is below "epoch/"'
    )
