"""What the manifest promises to a recovery. All of it works while the manifest is fenced, and while it is recovered it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.manifest.records import Epoch
from proxy.manifest.recovery import Found, Outcome


class Recovering(Protocol):
    """See `Manifest`."""

    async def is_blank(self) -> bool: ...  # nothing was ever kept here

    async def apply_found(self, found: Sequence[Found], *, name: str, position: bytes, now_ms: int) -> tuple[Outcome, ...]: ...

    """Bring back versions and parts, in this order, by the rules of `plans.recovery`, and save the state `name` in the same step. Return
    what became of each."""

    async def finish_recovery(self, *, identity: str, above: int, now_ms: int) -> Epoch: ...

    """Go on under this identity: the number becomes higher than any before and than `above`, leases are forgotten, the fence is lifted."""
