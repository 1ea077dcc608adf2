"""What every root key provider promises."""

from __future__ import annotations

from typing import Protocol


class RootKey(Protocol):
    """Wraps tenant keys. All but `id` may block (a key service answers over the network), and raise `KeyUnavailable`."""

    @property
    def id(self) -> str:
        """Which root key this is; stored beside whatever it wrapped."""
        ...

    def wrap(self, key: bytes, *, context: bytes) -> bytes:
        """Return `key` sealed; `context` must be given again to unwrap."""
        ...

    def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        """Return the key."""
        ...

    def derive(self, info: bytes) -> bytes:
        """Return the 32 bytes that belong to one use, always the same. Nobody without the root key can tell them."""
        ...
