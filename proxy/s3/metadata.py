"""User metadata: what may be stored, and how text that is not US-ASCII travels in headers.

Source: Amazon S3 User Guide, "Working with object metadata": values are decoded as RFC 2047 says before they are stored, encoded
again before they are returned, and presented as they are where they are US-ASCII.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping

from proxy.s3.errors import S3Error

MAX_METADATA_BYTES = 2048
MAX_SENT_BYTES = 4 * MAX_METADATA_BYTES  # before decoding: the longer of RFC 2047's encodings makes three and a half of one
_PLAIN = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2: what a field's name may be
# RFC 2047, section 2. No class has the "?" that ends it, so a word that is none is given up where the next begins.
_WORD = re.compile(r"=\?([!->@-~]+)\?([bBqQ])\?([!->@-~]*)\?=")
_QUOTED = re.compile(rb"=([0-9A-Fa-f]{2})")
# Names are looked at before Python is asked: it remembers each it does not know, and its punycode and idna are quadratic.
_CHARSET = re.compile(
    r"(?:us-)?ascii|utf-?8|utf-16(?:be|le)?|iso-?8859-[0-9]{1,2}|iso-2022-(?:jp|kr)|windows-125[0-8]|koi8-[ru]"
    r"|gb2312|gbk|gb18030|big5|euc-(?:jp|kr)|shift_jis",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return user metadata decoded. MetadataTooLarge over 2 KiB of names and values together, in UTF-8."""
    _check_size(metadata, MAX_SENT_BYTES)
    decoded = {name: _decode(value) for name, value in metadata.items()}
    _check_size(decoded, MAX_METADATA_BYTES)
    return decoded


def _check_size(metadata: Mapping[str, str], limit: int) -> None:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    if size > limit:
        raise S3Error("MetadataTooLarge", Size=size, MaxSizeAllowed=MAX_METADATA_BYTES)


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


def _decode(value: str) -> str:
    """Return the text of a value with encoded words; a value as it is, if one of its words is none."""
    if "=?" not in value:
        return value
    try:
        decoded = _decode_words(value)
        decoded.encode()
    except (LookupError, ValueError):
        return value
    return value if _PLAIN.fullmatch(decoded) else decoded


def _decode_words(value: str) -> str:
    """Decode word by word: `email.header` looks for the end of each word in all that follows, which is quadratic."""
    pieces, run, charset, end = [], bytearray(), "ascii", 0
    for word in _WORD.finditer(value):
        between = value[end : word.start()]
        name, octets = _word(*word.groups())
        adjoins = end > 0 and not between.strip(" \t")  # white space between two words is not part of the text: RFC 2047, section 6.2
        if not (adjoins and name == charset):  # there are clients that cut a character in two
            pieces.append(run.decode(charset))
            run.clear()
        if not adjoins:
            pieces.append(between)
        run += octets
        charset, end = name, word.end()
    return "".join((*pieces, run.decode(charset), value[end:]))


def _word(charset: str, encoding: str, text: str) -> tuple[str, bytes]:
    """Return a word's charset and bytes. LookupError or ValueError if it is none."""
    name = charset.partition("*")[0].lower()  # RFC 2231 has a language after it
    if not _CHARSET.fullmatch(name):
        raise LookupError(name)
    return name, b64decode(text + "=" * (-len(text) % 4), validate=True) if encoding in "bB" else _unquoted(text)


def _unquoted(text: str) -> bytes:
    return _QUOTED.sub(lambda match: bytes((int(match[1], 16),)), text.replace("_", " ").encode("ascii"))


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
