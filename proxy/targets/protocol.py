"""What a target promises."""

from __future__ import annotations

from typing import Protocol


class Target(Protocol):
    """Somebody who is told of events."""

    async def tell(self, message: bytes, *, message_id: str) -> None:
        """Hand a JSON document over; return when it is safe there. `TargetFailed` if that is not known: then it is told again.

        `message_id` is the same each time one event is told, so that a target can tell that it has it already.
        """
        ...

    async def close(self) -> None: ...
