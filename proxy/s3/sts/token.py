"""Session tokens: all that is to be known of temporary credentials, sealed, in the hands of who has them.

Nothing of a session is stored here. Its token names, in the clear, the account and the access key that it was made with, so that both can
be looked up for every request: a key that is revoked ends its sessions. The rest is sealed under the account's key, and bound to these.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from typing import NamedTuple
from uuid import UUID

import msgspec

from proxy.s3.errors import S3Error

MAX_TOKEN_SIZE = 6 * 1024  # characters: all headers of a request may have 8 KiB
_MAX_PLAINTEXT = 16 * 1024
_VERSION = 1
_FIXED = 18  # version, the account, and the length of the key's id


class Temporary(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Temporary credentials. Without a role they are of the access key's own principal."""

    access_key: str
    secret_key: str
    issued: int  # seconds since 1970
    expires: int
    role: str = ""
    session: str = ""
    policies: tuple[str, ...] = ()
    provider: str = ""  # the ARN of who vouched for a web identity
    tags: dict[str, str] = {}
    transitive: tuple[str, ...] = ()  # keys of tags


class Envelope(NamedTuple):
    """A token, before it is opened."""

    tenant_id: str  # whose key opens it
    made_with: str  # an access key's id; "" for a web identity
    sealed: bytes
    header: bytes  # what the seal is bound to


def token_header(tenant_id: str, made_with: str) -> bytes:
    """Return what stands before the sealed part of a token."""
    name = made_with.encode()
    return bytes((_VERSION,)) + UUID(tenant_id).bytes + bytes((len(name),)) + name


def token_text(header: bytes, sealed: bytes) -> str:
    return b64encode(header + sealed).decode()


def read_token(text: str) -> Envelope:
    """Take a token apart. Raises InvalidToken."""
    try:
        data = b64decode(text, validate=True) if len(text) <= MAX_TOKEN_SIZE else b""
    except (BadBase64, ValueError):
        data = b""
    if len(data) < _FIXED or data[0] != _VERSION or len(data) < _FIXED + data[17]:
        raise S3Error("InvalidToken")
    end = _FIXED + data[17]
    name = data[_FIXED:end]
    if not name.isascii():
        raise S3Error("InvalidToken")
    return Envelope(str(UUID(bytes=data[1:17])), name.decode(), data[end:], data[:end])


def pack(temporary: Temporary) -> bytes:
    """Return what is to be sealed: policies compress well."""
    return zlib.compress(msgspec.msgpack.encode(temporary), 9)


def unpack(plaintext: bytes) -> Temporary:
    """Return what was sealed. Raises InvalidToken."""
    try:
        return msgspec.msgpack.decode(zlib.decompressobj().decompress(plaintext, _MAX_PLAINTEXT), type=Temporary)
    except (zlib.error, msgspec.DecodeError):
        raise S3Error("InvalidToken") from None
