"""An answer that waits for one thing alone, and needs no task for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from proxy.manifest.records import Version
from proxy.server.wire.response import Response


class Soon(Struct, frozen=True):
    """Once `outcome` is done, `answer` makes the answer of it, or raises what failed."""

    outcome: asyncio.Future[Version]
    answer: Callable[[], Response]
