"""A tenant's key at work: wrapping data keys and their shares, sealing secrets. Each use has keys of its own, derived by HKDF-SHA256."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from proxy.codec.footer import Footer
from proxy.codec.format import INFO_DATA_KEY, INFO_SECRET, INFO_SESSION, KEY_SIZE
from proxy.codec.keys import Derivation, ShareCipher
from proxy.codec.segment import SegmentKeys
from proxy.codec.sharing import key_sharing
from proxy.errors import KeyUnavailable
from proxy.keyring.sealed import open_message, seal_message


class TenantCipher:
    """What can be done with one tenant key. `key_id` is the tenant's id, a UUID."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key_id: str, key: bytes) -> None:
        self.key_id = key_id
        self._key = Derivation(key)

    def new_data_key(self) -> tuple[bytes, bytes]:
        """Return a fresh data key and its wrapped form for the manifest, 72 bytes."""
        key = secrets.token_bytes(KEY_SIZE)
        return key, self.wrap(key)

    def wrap(self, data_key: bytes) -> bytes:
        """Return a data key wrapped for the manifest: another form each time."""
        return seal_message(self._key, INFO_DATA_KEY, data_key, self.key_id.encode())

    def unwrap(self, wrapped: bytes) -> bytes:
        return self._open(INFO_DATA_KEY, wrapped, "data key")

    def share_data_key(self, data_key: bytes, keys: SegmentKeys) -> list[bytes]:
        """Share the data key among the shards of one segment. Return the shares by index, each wrapped for its shard.

        Once a segment, and with randomness of its own: placement turns from segment to segment, so one provider holds another index of the
        next one. Of one sharing for the whole version it would collect k shares; of independent ones it never has k of any.
        """
        scheme = keys.geometry.scheme
        shares = key_sharing(scheme.k, scheme.n).share(data_key, secrets.token_bytes(KEY_SIZE * (scheme.k - 1)))
        cipher = ShareCipher(self._key, keys.segment_id)
        return [cipher.wrap(index, share, keys.cipher(index).fixed_part) for index, share in enumerate(shares)]

    def open_share(self, footer: Footer) -> bytes:
        """Return the share in a shard's footer. Raises `ShardMismatch`."""
        fixed = footer.fixed
        return ShareCipher(self._key, fixed.segment_id).unwrap(fixed.shard_index, footer.wrapped_share, fixed.pack())

    def rebuild_share(self, footers: Sequence[Footer], shard_index: int, keys: SegmentKeys) -> bytes:
        """Return the share of one shard, wrapped as it was at first, from the footers of k others. Raises `ShardMismatch`."""
        scheme = keys.geometry.scheme
        shares = {footer.fixed.shard_index: self.open_share(footer) for footer in footers}
        share = key_sharing(scheme.k, scheme.n).rebuild(shares, shard_index)
        return ShareCipher(self._key, keys.segment_id).wrap(shard_index, share, keys.fixed_part(shard_index))

    def seal_secret(self, secret: str) -> bytes:
        return seal_message(self._key, INFO_SECRET, secret.encode(), self.key_id.encode())

    def open_secret(self, sealed: bytes) -> str:
        return self._open(INFO_SECRET, sealed, "secret").decode()

    def seal_session(self, message: bytes, header: bytes) -> bytes:
        """Return the sealed part of a session token, whose `header` must be given again to open it."""
        return seal_message(self._key, INFO_SESSION, message, self.key_id.encode() + header)

    def open_session(self, sealed: bytes, header: bytes) -> bytes:
        """Return what a session token holds. Raises `KeyUnavailable`."""
        return open_message(self._key, INFO_SESSION, sealed, self.key_id.encode() + header)

    def _open(self, use: bytes, sealed: bytes, what: str) -> bytes:
        try:
            return open_message(self._key, use, sealed, self.key_id.encode())
        except KeyUnavailable as error:
            raise KeyUnavailable(f"the key of tenant {self.key_id} does not open this {what}: {error}") from None
