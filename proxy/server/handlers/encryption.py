"""Encryption as clients ask for it and are told of it: SSE-S3, SSE-KMS, SSE-C, and the default of a bucket."""

from __future__ import annotations

import secrets
from ipaddress import ip_address
from typing import NamedTuple

from proxy.codec.customer import CustomerKey
from proxy.codec.format import SALT_SIZE
from proxy.engine.ciphers import check_customer_key
from proxy.errors import CustomerKeyMissing, CustomerKeyNeedless, CustomerKeyWrong
from proxy.manifest.records import Encryption, KmsKeyId, Upload, Version
from proxy.s3.encryption import (
    CUSTOMER_KEY,
    NO_DEFAULT,
    SETTING,
    SOURCE_CUSTOMER_KEY,
    WRITE_HEADERS,
    BucketEncryption,
    Wanted,
    decode_encryption,
    encryption_document,
    encryption_rule,
    has_customer_key,
    key_arn,
    key_not_found,
    parse_key_name,
    read_customer_key,
    read_wanted,
)
from proxy.s3.errors import S3Error
from proxy.server.call import Call, rows

SSE_S3 = "AES256"  # every object is sealed with AES-256; S3 says so of every object, too
AWS_S3 = "aws/s3"  # the alias of the key that AWS makes for a tenant by itself: here the tenant key
SSE_S3_FIELDS: dict[str, object] = {"ServerSideEncryption": SSE_S3}


class NewEncryption(NamedTuple):
    """How an object is to be encrypted that a request makes."""

    encryption: Encryption | None = None
    customer_key: CustomerKey | None = None


AS_EVERY_OBJECT = NewEncryption()


async def get_bucket_encryption(call: Call) -> dict[str, object]:
    return {"ServerSideEncryptionConfiguration": {"Rules": [encryption_rule(_default(call))]}}


async def put_bucket_encryption(call: Call) -> dict[str, object]:
    document = encryption_document(rows(call.document("ServerSideEncryptionConfiguration"), "Rules"))
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, document)
    return {}


async def delete_bucket_encryption(call: Call) -> dict[str, object]:
    """Go back to SSE-S3, which every bucket has."""
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, None)
    return {}


async def new_encryption(call: Call) -> NewEncryption:
    """Return how the object is to be encrypted that a write begins: as its headers say, or as is the bucket's default."""
    if SETTING not in call.bucket.settings and WRITE_HEADERS.isdisjoint(call.headers):
        return AS_EVERY_OBJECT
    default, key = _default(call), _customer_key(call, CUSTOMER_KEY)
    wanted = read_wanted(call.headers, has_customer_key=key is not None)
    if key is not None:
        if default.blocks_customer_keys:
            raise S3Error("AccessDenied", "Server Side Encryption with Customer provided keys is blocked for this bucket")
        return NewEncryption(Encryption(customer_check=key.check_value(secrets.token_bytes(SALT_SIZE))), key)
    if (wanted.algorithm or default.algorithm) == SSE_S3:
        return AS_EVERY_OBJECT
    return NewEncryption(await _under_kms_key(call, wanted, default))


def read_key(call: Call, version: Version) -> CustomerKey | None:
    """Return the customer's key to read a version with. InvalidRequest, AccessDenied where it is not the right one."""
    _refuse_of_writes(call)
    if version.attributes.encryption is None and not has_customer_key(call.headers):
        return None
    return _checked(version.attributes.encryption, _customer_key(call, CUSTOMER_KEY))


def source_key(call: Call, version: Version) -> CustomerKey | None:
    """As `read_key`, of the source of a copy."""
    return _checked(version.attributes.encryption, _customer_key(call, SOURCE_CUSTOMER_KEY))


def part_key(call: Call, upload: Upload) -> CustomerKey | None:
    """Return the customer's key of a part, which is its upload's. InvalidRequest where it is not."""
    _refuse_of_writes(call)
    key = _customer_key(call, CUSTOMER_KEY)
    try:
        check_customer_key(upload.attributes.encryption, key)
    except CustomerKeyMissing:
        raise S3Error(
            "InvalidRequest",
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption "
            "parameters.",
        ) from None
    except CustomerKeyNeedless:
        raise S3Error(
            "InvalidRequest",
            "The multipart upload initiate did not request encryption. Please resend the request without sending encryption parameters.",
        ) from None
    except CustomerKeyWrong:
        raise S3Error("InvalidRequest", "The provided encryption parameters did not match the ones used originally.") from None
    return key


def check_key_if_given(call: Call, upload: Upload) -> None:
    """Hold the key that comes with a completion or a list of parts against the upload's: it may be left out."""
    if not WRITE_HEADERS.isdisjoint(call.headers):
        part_key(call, upload)


def refuse_strangers(call: Call, version: Version) -> None:
    """A KMS key opens nothing for somebody who has not signed."""
    encryption = version.attributes.encryption
    if encryption is not None and encryption.kms_key_id and call.principal.anonymous:
        message = "Requests specifying Server Side Encryption with AWS KMS managed keys require AWS Signature Version 4."
        raise S3Error("InvalidArgument", message, ArgumentName="Authorization", ArgumentValue="null")


def encryption_fields(call: Call, encryption: Encryption | None) -> dict[str, object]:
    """Return what an answer says of an object's encryption, as members of a result."""
    if encryption is None:
        return SSE_S3_FIELDS
    if encryption.customer_check:
        return {"SSECustomerAlgorithm": SSE_S3, "SSECustomerKeyMD5": call.headers.get(f"{CUSTOMER_KEY}key-md5")}
    return {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": _arn(call, encryption.kms_key_id),
        "BucketKeyEnabled": encryption.bucket_key or None,
    }


def begun_fields(call: Call, encryption: Encryption | None) -> dict[str, object]:
    """As `encryption_fields`, of an answer to the request that named the encryption context: no other tells that."""
    fields = encryption_fields(call, encryption)
    return fields if encryption is None or not encryption.context else {**fields, "SSEKMSEncryptionContext": encryption.context}


async def _under_kms_key(call: Call, wanted: Wanted, default: BucketEncryption) -> Encryption:
    """A request that asks for SSE-KMS and names no key means aws/s3, whatever the bucket's key is."""
    key_id = wanted.key_id if wanted.algorithm is not None else default.key_id
    bucket_key = default.bucket_key if wanted.bucket_key is None else wanted.bucket_key
    return Encryption(kms_key_id=await _find_kms_key(call, key_id or f"alias/{AWS_S3}"), bucket_key=bucket_key, context=wanted.context)


async def _find_kms_key(call: Call, text: str) -> str:
    """Return the id of the owner's key that is called so. KMS.NotFoundException, KMS.DisabledException."""
    engine, owner = call.services.engine, call.owner
    region = call.services.config.region
    name = parse_key_name(text, region=region, account_id=owner.account_id)
    if name.alias == AWS_S3 or name.id == owner.id:
        return owner.id
    if name.alias:
        key = await engine.find_kms_key_by_alias(owner, name.alias)
        if key is None:
            raise S3Error("KMS.NotFoundException", f"Alias arn:aws:kms:{region}:{owner.account_id}:alias/{name.alias} is not found.")
    else:
        key = await engine.find_kms_key(owner, KmsKeyId(name.id))
        if key is None:
            raise key_not_found(_arn(call, name.id))
    if not key.enabled:
        raise S3Error("KMS.DisabledException", f"{_arn(call, key.id)} is disabled.")
    return key.id


def _refuse_of_writes(call: Call) -> None:
    """How an object is encrypted is said once, by the request that begins it; AWS refuses to hear it again."""
    asked = call.headers.get("x-amz-server-side-encryption")
    if asked is not None:
        message = "x-amz-server-side-encryption header is not supported for this operation."
        raise S3Error("InvalidArgument", message, ArgumentName="x-amz-server-side-encryption", ArgumentValue=asked)


def _customer_key(call: Call, prefix: str) -> CustomerKey | None:
    """Return the customer's key of a request. InvalidRequest where it may have been overheard."""
    given = read_customer_key(call.headers, prefix)
    if given is None:
        return None
    if not _is_private(call):
        message = "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection."
        raise S3Error("InvalidRequest", message)
    return CustomerKey(given.key)


def _is_private(call: Call) -> bool:
    """Tell whether nobody could overhear a request: it came over TLS, or from this machine, where a proxy may have ended TLS."""
    config = call.services.config
    return config.tls is not None or config.s3.allow_customer_keys_without_tls or _is_loopback(call.hop)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address.removeprefix("::ffff:"))
    except ValueError:
        return False
    return parsed.is_loopback


def _checked(encryption: Encryption | None, key: CustomerKey | None) -> CustomerKey | None:
    try:
        check_customer_key(encryption, key)
    except CustomerKeyMissing:
        raise S3Error(
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.",
        ) from None
    except CustomerKeyNeedless:
        raise S3Error("InvalidRequest", "The encryption parameters are not applicable to this object.") from None
    except CustomerKeyWrong:
        raise S3Error("AccessDenied") from None
    return key


def _default(call: Call) -> BucketEncryption:
    text = call.bucket.settings.get(SETTING)
    return NO_DEFAULT if text is None else decode_encryption(text)


def _arn(call: Call, key_id: str) -> str:
    return key_arn(key_id, region=call.services.config.region, account_id=call.owner.account_id)
