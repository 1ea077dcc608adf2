"""Continuation tokens: where a listing goes on, opaque to clients."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from proxy.s3.errors import S3Error

_VERSION = b"\x01"
_decoder = msgspec.msgpack.Decoder(tuple[str, ...])


def seal_token(*place: str) -> str:
    """Return a token for a place in a listing."""
    return urlsafe_b64encode(_VERSION + msgspec.msgpack.encode(place)).decode()


def open_token(token: str) -> tuple[str, ...]:
    """Return the place a token stands for. InvalidArgument if we never made it."""
    try:
        content = urlsafe_b64decode(token.encode())
        place = _decoder.decode(content[1:])
    except (ValueError, msgspec.DecodeError):
        content, place = b"", ()
    if not content.startswith(_VERSION) or not place:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token")
    return place
