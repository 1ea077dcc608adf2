"""Names and tags: what S3 allows, and how listings encode it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.header import decode_header, make_header
from urllib.parse import parse_qsl, quote

from proxy.s3.errors import S3Error

MAX_KEY_BYTES = 1024
MAX_METADATA_BYTES = 2048
# Bucket naming rules of the S3 User Guide: 3-63 of these, no "..", not an IP address, reserved prefixes and suffixes.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_TAG = re.compile(r"[\w\s+\-=.:/@]*", re.UNICODE)


def check_bucket_name(name: str) -> None:
    """Raise InvalidBucketName for a name no bucket may have."""
    reserved = name.startswith(("xn--", "sthree-", "amzn-s3-demo-")) or name.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3"))
    if not _BUCKET.fullmatch(name) or ".." in name or _ADDRESS.fullmatch(name) or reserved:
        raise S3Error("InvalidBucketName", BucketName=name)


def check_key(key: str) -> None:
    """Raise KeyTooLongError over 1,024 UTF-8 bytes."""
    size = len(key.encode("utf-8"))
    if size > MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", Size=size, MaxSizeAllowed=MAX_KEY_BYTES)


def url_encode_key(text: str) -> str:
    """Encode as encoding-type=url does."""
    return quote(text, safe="/-_.*~").replace("%20", "+")


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return user metadata decoded from RFC 2047; MetadataTooLarge over 2 KiB of names and values together."""
    decoded = {name: str(make_header(decode_header(value))) if "=?" in value else value for name, value in metadata.items()}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in decoded.items())
    if size > MAX_METADATA_BYTES:
        raise S3Error("MetadataTooLarge", Size=size, MaxSizeAllowed=MAX_METADATA_BYTES)
    return decoded


def encode_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return user metadata fit for headers: what is not US-ASCII as RFC 2047 encoded words, as S3 sends it."""
    return {name: value if value.isascii() else _encoded_word(value) for name, value in metadata.items()}


def _encoded_word(value: str) -> str:
    return "=?UTF-8?Q?" + "".join(chr(byte) if _plain(byte) else f"={byte:02X}" for byte in value.encode()) + "?="


def _plain(byte: int) -> bool:
    return chr(byte).isalnum() and byte < 128


def parse_tagging_header(value: str) -> dict[str, str]:
    """Read `x-amz-tagging`, a query string."""
    try:
        pairs = parse_qsl(value, keep_blank_values=True, strict_parsing=bool(value))
    except ValueError:
        raise S3Error(
            "InvalidArgument", "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters."
        ) from None
    return check_tags([{"Key": key, "Value": text} for key, text in pairs], limit=10)


def check_tags(tags: Iterable[Mapping[str, object]], *, limit: int) -> dict[str, str]:
    """Return a tag set as a map. InvalidTag for bad or doubled keys, BadRequest over the limit (10 an object, 50 a bucket)."""
    result: dict[str, str] = {}
    for tag in tags:
        key, value = str(tag["Key"]), str(tag["Value"])
        if not 1 <= len(key) <= 128 or not _TAG.fullmatch(key) or key.startswith("aws:"):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if len(value) > 256 or not _TAG.fullmatch(value):
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value)
        if key in result:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        result[key] = value
    if len(result) > limit:
        raise S3Error("BadRequest", f"Object tags cannot be greater than {limit}")
    return result
