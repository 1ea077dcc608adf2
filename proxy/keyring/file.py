"""The root key in a file: 32 random bytes, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Collection
from pathlib import Path

from proxy.codec.format import INFO_ROOT_KEY_ID, INFO_TENANT_KEY, KEY_SIZE
from proxy.codec.keys import Derivation
from proxy.errors import ConfigError, KeyUnavailable
from proxy.keyring.sealed import open_message, seal_message
from proxy.paths import is_there

PREFIX = "shardgate-root-key-v1:"


class FileRootKey:
    """Wraps with AES-256-GCM under keys derived from the key of a file."""

    def __init__(self, key: bytes) -> None:
        self._key = Derivation(key)
        self.id = "file:" + self._key.expand(INFO_ROOT_KEY_ID)[:8].hex()

    def wrap(self, key: bytes, *, context: bytes) -> bytes:
        return seal_message(self._key, INFO_TENANT_KEY, key, context)

    def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        try:
            return open_message(self._key, INFO_TENANT_KEY, wrapped, context)
        except KeyUnavailable as error:
            raise KeyUnavailable(f"root key {self.id} does not open this tenant key: {error}") from None

    def derive(self, info: bytes) -> bytes:
        return self._key.expand(info)


def open_root_key_file(path: Path, *, create: bool, expected: Collection[str] = ()) -> FileRootKey:
    """Read the key, or make it at the first start. Raises `ConfigError` if others may read it, it is no key, or not the one `expected`.

    `expected` are the ids of the root keys that wrapped what there is already. While there is any, no key is made: a new one opens nothing.
    """
    if create and not expected and not is_there(path):
        _create(path)
    wrapped = f"root key {', '.join(sorted(expected))} has wrapped the tenants' keys, and only it opens them: put its file back"
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        first = "; for a new installation, set root_key.create = true"
        remedy = f"{wrapped} (is its disk mounted?)" if expected else f"put its copy back{first}"
        raise ConfigError(f"root_key.path: cannot read {path}: {getattr(error, 'strerror', None) or 'not text'}; {remedy}") from error
    if mode & 0o077:
        raise ConfigError(f"root_key.path: {path} can be read by others; run: chmod 600 {path}")
    try:
        key = b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except Base64Error:
        key = b""
    if len(key) != KEY_SIZE:
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
        file.write(PREFIX + b64encode(secrets.token_bytes(KEY_SIZE)).decode() + "\n")
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
