"""User metadata: what may be stored, and how text that is not US-ASCII travels in headers.

Source: Amazon S3 User Guide, "Working with object metadata": values are decoded as RFC 2047 says before they are stored, encoded
again before they are returned, and presented as they are where they are US-ASCII.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from proxy.s3.errors import S3Error

MAX_METADATA_BYTES = 2048
_PLAIN = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2: what a field's name may be
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return user metadata decoded. MetadataTooLarge over 2 KiB of names and values together, in UTF-8."""
    decoded = {name: _decode(value) for name, value in metadata.items()}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in decoded.items())
    if size > MAX_METADATA_BYTES:
        raise S3Error("MetadataTooLarge", Size=size, MaxSizeAllowed=MAX_METADATA_BYTES)
    return decoded


def encode_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return user metadata fit for headers: what is not printable US-ASCII as an RFC 2047 encoded word.

    What no header can be called is left out; S3 counts such entries in x-amz-missing-meta.
    """
    return {
        name: value if _PLAIN.fullmatch(value) else _encoded_word(value)
        for name, value in metadata.items()
        if not name or _TOKEN.fullmatch(name)
    }


def check_header(name: str, value: str) -> None:
    """Raise InvalidArgument for what cannot be a header: HTTP's parser has seen to those that came as headers."""
    if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
        message = "This parameter of the URL stands for a header, and no header can have this name or value"
        raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)


def header_text(value: str) -> str:
    """Return a header's text. Bytes that are not UTF-8 arrive as surrogates, and can only be meant as ISO-8859-1."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def _decode(value: str) -> str:
    value = header_text(value)
    if "=?" not in value:
        return value
    try:
        decoded = str(make_header(decode_header(value)))
        decoded.encode()
    except (HeaderParseError, LookupError, ValueError):  # looks like an encoded word, but is none
        return value
    return value if _PLAIN.fullmatch(decoded) else decoded


def _encoded_word(value: str) -> str:
    """Return one word, in the shorter encoding: Q for text with a few letters beyond ASCII, B otherwise."""
    octets = value.encode()
    quoted = "".join(_quoted(octet) for octet in octets)
    based = b64encode(octets).decode()
    return f"=?UTF-8?Q?{quoted}?=" if len(quoted) <= len(based) else f"=?UTF-8?B?{based}?="


def _quoted(octet: int) -> str:
    character = chr(octet)
    if character == " ":
        return "_"
    return character if character.isascii() and character.isalnum() else f"={octet:02X}"
