"""What a request asks of encryption: SSE-S3, SSE-KMS and SSE-C in its headers, and the default of a bucket.

Every object is sealed anyway, so SSE-S3 asks for nothing. What is refused, and in which words, is as on AWS.

Source: docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html and the pages below it
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from proxy.s3.errors import S3Error

SETTING = "encryption"  # of a bucket
Algorithm = Literal["AES256", "aws:kms"]

_SSE = "x-amz-server-side-encryption"
_KEY_ID, _CONTEXT, _BUCKET_KEY = f"{_SSE}-aws-kms-key-id", f"{_SSE}-context", f"{_SSE}-bucket-key-enabled"
_KMS_HEADERS = (_KEY_ID, _CONTEXT, _BUCKET_KEY)
CUSTOMER_KEY, SOURCE_CUSTOMER_KEY = f"{_SSE}-customer-", "x-amz-copy-source-server-side-encryption-customer-"
KEY_HEADERS = frozenset({_SSE, *_KMS_HEADERS})  # of writes that begin an object
WRITE_HEADERS = KEY_HEADERS | {f"{CUSTOMER_KEY}{part}" for part in ("algorithm", "key", "key-md5")}
_CUSTOMER_KEY_SIZE = 32
_MAX_CONTEXT_SIZE = 8 * 1024  # all headers together have no more
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ALIAS = re.compile(r"alias/([A-Za-z0-9/_-]{1,250})")
_ARN = re.compile(r"arn:aws[a-z-]*:kms:([^:]*):([^:]*):(.*)", re.DOTALL)


class CustomerKeyHeaders(NamedTuple):
    """A customer's key as it came, and its MD5 as answers tell it."""

    key: bytes
    md5: str


class Wanted(NamedTuple):
    """What a write asks for by headers; None is what it leaves to the bucket."""

    algorithm: Algorithm | None = None
    key_id: str | None = None
    bucket_key: bool | None = None
    context: str = ""


class BucketEncryption(NamedTuple):
    """What objects of a bucket get that ask for nothing, and whether customers' keys are blocked."""

    algorithm: Algorithm = "AES256"
    key_id: str | None = None  # as it was put: S3 does not look whether there is such a key
    bucket_key: bool = False
    blocked: tuple[str, ...] | None = None  # as it was put

    @property
    def blocks_customer_keys(self) -> bool:
        return self.blocked is not None and "SSE-C" in self.blocked


class KeyName(NamedTuple):
    """What a KMS key is called by: its id, or an alias."""

    id: str = ""
    alias: str = ""


NO_DEFAULT = BucketEncryption()


def has_customer_key(headers: Mapping[str, str]) -> bool:
    """Tell whether a request brings anything of a customer's key. Each read asks."""
    return f"{_SSE}-customer-algorithm" in headers or f"{_SSE}-customer-key" in headers or f"{_SSE}-customer-key-md5" in headers


def read_customer_key(headers: Mapping[str, str], prefix: str = CUSTOMER_KEY) -> CustomerKeyHeaders | None:
    """Return the customer's key of a request, validated; None if it has none. InvalidArgument, InvalidEncryptionAlgorithmError."""
    algorithm, key, md5 = (headers.get(prefix + part) for part in ("algorithm", "key", "key-md5"))
    if algorithm is None and key is None and md5 is None:
        return None
    if not algorithm:
        raise _customer_key_refused("must provide a valid encryption algorithm.")
    if algorithm != "AES256":
        raise S3Error("InvalidEncryptionAlgorithmError", ArgumentName=f"{prefix}algorithm", ArgumentValue=algorithm)
    if not key:
        raise _customer_key_refused("must provide an appropriate secret key.")
    if not md5:
        raise _customer_key_refused("must provide the client calculated MD5 of the secret key.")
    secret = _base64(key)
    if secret is None or len(secret) != _CUSTOMER_KEY_SIZE:
        raise S3Error("InvalidArgument", "The secret key was invalid for the specified algorithm.", ArgumentName=f"{prefix}algorithm")
    if not hmac.compare_digest(hashlib.md5(secret, usedforsecurity=False).digest(), _base64(md5) or b""):
        message = "The calculated MD5 hash of the key did not match the hash that was provided."
        raise S3Error("InvalidArgument", message, ArgumentName=f"{prefix}key-MD5", ArgumentValue=md5)
    return CustomerKeyHeaders(secret, md5)


def read_wanted(headers: Mapping[str, str], *, has_customer_key: bool) -> Wanted:
    """Return what a write asks for beside a customer's key. InvalidArgument, InvalidEncryptionAlgorithmError."""
    if KEY_HEADERS.isdisjoint(headers):
        return Wanted()
    asked = headers.get(_SSE)
    if has_customer_key:
        message = "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"
        raise S3Error("InvalidArgument", message, ArgumentName=_SSE, ArgumentValue=asked or "null")
    algorithm = None if asked is None else _algorithm(asked)
    if algorithm != "aws:kms":
        _refuse_kms_headers(headers, asked)
        return Wanted(algorithm)
    context = headers.get(_CONTEXT, "")
    if context:
        _check_context(context)
    return Wanted(algorithm, headers.get(_KEY_ID), _read_flag(headers.get(_BUCKET_KEY)), context)


def encryption_document(rules: Sequence[Mapping[str, object]]) -> str:
    """Return the text that is kept of a PutBucketEncryption. MalformedXML, InvalidArgument, InvalidEncryptionAlgorithmError."""
    if len(rules) != 1:
        raise S3Error("MalformedXML")
    default, blocked = rules[0].get("ApplyServerSideEncryptionByDefault"), rules[0].get("BlockedEncryptionTypes")
    if default is None and blocked is None:
        raise S3Error("MalformedXML")
    algorithm, key_id = _bucket_default(default)
    kept = BucketEncryption(algorithm, key_id, rules[0].get("BucketKeyEnabled") is True, _blocked(blocked))
    return json.dumps(kept._asdict())


@lru_cache(maxsize=1024)
def decode_encryption(text: str) -> BucketEncryption:
    """Read what `encryption_document` made. Cached: each write to the bucket asks."""
    fields = json.loads(text)
    blocked = fields.pop("blocked")
    return BucketEncryption(**fields, blocked=None if blocked is None else tuple(blocked))


def encryption_rule(encryption: BucketEncryption) -> dict[str, object]:
    """Return the rule that GetBucketEncryption tells."""
    default: dict[str, object] = {"SSEAlgorithm": encryption.algorithm}
    if encryption.key_id is not None:
        default["KMSMasterKeyID"] = encryption.key_id
    rule: dict[str, object] = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": encryption.bucket_key}
    if encryption.blocked is not None:
        rule["BlockedEncryptionTypes"] = {"EncryptionType": list(encryption.blocked)}
    return rule


def parse_key_name(text: str, *, region: str, account_id: str) -> KeyName:
    """Read an id, an alias, or the ARN of either. KMS.NotFoundException for what is none, or another account's or region's."""
    name = text
    if (arn := _ARN.fullmatch(text)) is not None:
        if arn[1] != region:
            raise S3Error("KMS.NotFoundException", f"Invalid arn {arn[1]}")
        if arn[2] != account_id:
            raise key_not_found(text)
        name = arn[3]
        if name.startswith("key/"):
            name = name.removeprefix("key/")
        elif not name.startswith("alias/"):
            raise S3Error("KMS.NotFoundException", f"Invalid arn {text}")
    if (alias := _ALIAS.fullmatch(name)) is not None:
        return KeyName(alias=alias[1])
    if not _UUID.fullmatch(name):
        raise S3Error("KMS.NotFoundException", f"Invalid keyId '{text}'")
    return KeyName(id=name)


def key_arn(key_id: str, *, region: str, account_id: str) -> str:
    """Return the name by which answers tell a KMS key."""
    return f"arn:aws:kms:{region}:{account_id}:key/{key_id}"


def key_not_found(arn: str) -> S3Error:
    """Return the error for a KMS key that is not there, by its ARN."""
    return S3Error("KMS.NotFoundException", f"Key '{arn}' does not exist")


def _customer_key_refused(what: str) -> S3Error:
    message = f"Requests specifying Server Side Encryption with Customer provided keys {what}"
    return S3Error("InvalidArgument", message, ArgumentName=_SSE, ArgumentValue="null")


def _algorithm(value: str) -> Algorithm:
    if value == "AES256":
        return "AES256"
    if value == "aws:kms":
        return "aws:kms"
    if value == "aws:kms:dsse":
        raise _no_dual_layer()
    raise S3Error("InvalidArgument", "The encryption method specified is not supported", ArgumentName=_SSE, ArgumentValue=value)


def _no_dual_layer() -> S3Error:
    return S3Error("InvalidEncryptionAlgorithmError", "aws:kms:dsse is not served: objects have one layer. Use aws:kms or AES256.")


def _refuse_kms_headers(headers: Mapping[str, str], asked: str | None) -> None:
    """A bucket key may be asked for, or not, of any object; AWS passes over it where no KMS key is."""
    if _KEY_ID in headers or _CONTEXT in headers:
        message = "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"
        raise S3Error("InvalidArgument", message, ArgumentName=_SSE, ArgumentValue=asked or "null")
    _read_flag(headers.get(_BUCKET_KEY))


def _read_flag(text: str | None) -> bool | None:
    if text is None:
        return None
    value = text.strip().lower()
    if value not in {"true", "false"}:
        raise S3Error("InvalidArgument", f"Provided {_BUCKET_KEY} not valid", ArgumentName=_BUCKET_KEY, ArgumentValue=text)
    return value == "true"


def _check_context(text: str) -> None:
    decoded = _base64(text) if len(text) <= _MAX_CONTEXT_SIZE else None
    try:
        context = json.loads((decoded or b"").decode())
    except (ValueError, RecursionError):
        context = None
    if not isinstance(context, dict) or not all(isinstance(value, str) for value in context.values()):
        message = f"The header '{_CONTEXT}' shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map"
        raise S3Error("InvalidArgument", message, ArgumentName=_CONTEXT, ArgumentValue=text)


def _bucket_default(default: object) -> tuple[Algorithm, str | None]:
    if default is None:
        return "AES256", None
    algorithm = default.get("SSEAlgorithm") if isinstance(default, dict) else None
    if algorithm == "aws:kms:dsse":
        raise _no_dual_layer()
    if not isinstance(default, dict) or algorithm not in {"AES256", "aws:kms"}:
        raise S3Error("MalformedXML")
    key_id = default.get("KMSMasterKeyID")
    if key_id is not None and algorithm != "aws:kms":
        message = "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse"
        raise S3Error("InvalidArgument", message, ArgumentName="KMSMasterKeyID", ArgumentValue=str(key_id))
    return _algorithm(str(algorithm)), str(key_id) if key_id else None


def _blocked(blocked: object) -> tuple[str, ...] | None:
    if blocked is None:
        return None
    types = blocked.get("EncryptionType") if isinstance(blocked, dict) else None
    if not isinstance(types, list) or not types or any(kind not in {"NONE", "SSE-C"} for kind in types):
        raise S3Error("MalformedXML")
    if len(types) > 1:  # NONE is to stand alone, and there is but one other
        raise S3Error("InvalidRequest", "Blocked encryption types are either NONE or SSE-C")
    return tuple(types)


def _base64(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
