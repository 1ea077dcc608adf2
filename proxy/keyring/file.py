"""The root key in a file: 32 random bytes, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.errors import ConfigError, KeyUnavailable

PREFIX = "shardgate-root-key-v1:"
NONCE_SIZE = 12


class FileRootKey:
    """Wraps with AES-256-GCM under the key of a file."""

    def __init__(self, key: bytes) -> None:
        self.id = "file:" + sha256(b"shardgate root key id" + key).hexdigest()[:16]
        self._aead = AESGCM(key)

    def wrap(self, key: bytes, *, context: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_SIZE)
        return nonce + self._aead.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        try:
            return self._aead.decrypt(wrapped[:NONCE_SIZE], wrapped[NONCE_SIZE:], context)
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise KeyUnavailable(f"root key {self.id} does not open this tenant key: it was wrapped by another") from None


def open_root_key_file(path: Path, *, create: bool, expected: Collection[str] = ()) -> FileRootKey:
    """Read the key, or make it at the first start. Raises `ConfigError` if others may read it, it is no key, or not the one `expected`.

    `expected` are the ids of the root keys that wrapped what there is already. While there is any, no key is made: a new one opens nothing.
    """
    if create and not expected and not path.exists():
        _create(path)
    wrapped = f"root key {', '.join(sorted(expected))} has wrapped the tenants' keys, and only it opens them: put its file back"
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        first = "set root_key.create = true to make one at the first start, or put the key back"
        remedy = f"{wrapped} (is its disk mounted?)" if expected else first
        raise ConfigError(f"root_key.path: cannot read {path}: {getattr(error, 'strerror', None) or 'not text'}; {remedy}") from error
    if mode & 0o077:
        raise ConfigError(f"root_key.path: {path} can be read by others; run: chmod 600 {path}")
    try:
        key = b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except Base64Error:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"root_key.path: {path} is not a Shardgate root key; put back the file that was made at the first start")
    root = FileRootKey(key)
    if set(expected) - {root.id}:
        raise ConfigError(f"root_key.path: {path} holds root key {root.id}, but {wrapped}")
    return root


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(PREFIX + b64encode(secrets.token_bytes(32)).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)  # never replaces a key that another process made at the same moment
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    # A power cut must not take away the only copy of a key that has already wrapped something.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
