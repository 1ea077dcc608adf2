"""What a server says beside its log. The disk behind may be full, and whoever read it gone: that is no reason to stop serving."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(text: str, *, as_result: bool = False) -> None:
    """Print to standard error, or what was asked for to standard output; if that cannot be written, nobody hears it."""
    with suppress(OSError):
        print(text, file=sys.stdout if as_result else sys.stderr, flush=True)
