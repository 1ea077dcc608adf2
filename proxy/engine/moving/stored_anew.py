"""The mark of what is stored anew, under another policy or in another pack: how far the journal was then.

Until the journal has the exchange, what is stored anew is in the stores twice, and the old shards are not deleted (see `collect`). So
whoever recovers with all of that journal needs no second copy. It must not be believed either: what is in it may have been deleted while
it was made, or before, and the journal may know that. Only if the end of the journal is lost may the copy be all there is.
"""

from __future__ import annotations

from proxy.codec.label import Label
from proxy.manifest.protocol import Manifest


async def mark_of(manifest: Manifest, *, journaled: bool) -> int:
    """Return what labels bear of what is stored anew now."""
    number = (await manifest.journal_position()).whole if journaled else 0
    return number + 1 if number else 0


def is_needless(label: Label, journal_number: int) -> bool:
    """Tell whether a recovery that has the journal up to this segment does without what has this label."""
    return 0 < label.stored_anew <= journal_number + 1
