"""Multipart uploads: beginning, adding parts, completing, giving up."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import Upload, UploadId, Version
from proxy.s3.checksums import (
    DEFAULT_ALGORITHM,
    ChecksumAlgorithm,
    ChecksumType,
    check_type,
    default_type,
    parse_algorithm,
    type_mismatch,
)
from proxy.s3.errors import S3Error
from proxy.s3.hosts import bucket_of_host
from proxy.s3.parsing import Params
from proxy.s3.policy.context import kept_for_parts
from proxy.server.call import Call, rows
from proxy.server.handlers.attributes import object_attributes
from proxy.server.handlers.claims import check_type_claim, object_claim, object_size_claim, part_claims, read_type
from proxy.server.handlers.conditions import write_conditions
from proxy.server.handlers.encryption import begun_fields, check_key_if_given, encryption_fields, new_encryption, part_key
from proxy.server.handlers.grants import acl_of_write
from proxy.server.handlers.lifecycle import abort_fields, expiration
from proxy.server.handlers.selection import MAX_PART_NUMBER, check_part_number
from proxy.server.handlers.versions import checksum_fields, quoted, written_id


async def create_multipart_upload(call: Call) -> dict[str, object]:
    """Begin an upload; what the object will say of itself is settled now."""
    if call.principal.anonymous:
        raise S3Error("AccessDenied", "Anonymous users cannot initiate multipart uploads.  Please authenticate.")
    algorithm, checksum_type = _wanted_checksum(call)
    new = await new_encryption(call)
    attributes = object_attributes(call, await acl_of_write(call), new.encryption)
    upload = await call.services.engine.begin_upload(
        call.bucket,
        call.tenant,
        call.key,
        attributes,
        checksum_algorithm=algorithm,
        checksum_type=checksum_type,
        begun_with=kept_for_parts(call.headers),
    )
    return {
        "Bucket": call.bucket.name,
        "Key": upload.key,
        "UploadId": upload.id,
        **begun_fields(call, new.encryption),
        "ChecksumAlgorithm": algorithm,
        "ChecksumType": checksum_type,
        **abort_fields(call, upload),
    }


async def upload_part(call: Call) -> dict[str, object]:
    """Store a part; sending its number again replaces it."""
    number = check_part_number(call.integer("PartNumber"))
    upload = await find_own_upload(call)
    _agree_on_checksum(call, upload)
    key = part_key(call, upload)
    part = await call.services.engine.upload_part(call.bucket, call.owner, upload, number, call.body, customer_key=key)
    told = call.body.claimed_checksum or part.checksum
    encrypted = encryption_fields(call, upload.attributes.encryption)
    return {"ETag": quoted(part.etag), **encrypted, **checksum_fields(told, with_type=False)}


async def complete_multipart_upload(call: Call) -> dict[str, object]:
    """Make the object of the parts named. Repeating a completion that succeeded succeeds again."""
    entries = rows(call.document("MultipartUpload"), "Parts")
    parts = _completed_parts(entries)
    version = await _complete(call, entries, parts)
    return {
        "Location": object_address(call),
        "Bucket": call.bucket.name,
        "Key": call.key,
        "ETag": quoted(version.etag),
        "Expiration": expiration(call, version),
        "VersionId": written_id(version),
        **encryption_fields(call, version.attributes.encryption),
        **checksum_fields(version.checksum),
    }


async def abort_multipart_upload(call: Call) -> dict[str, object]:
    """Give an upload up, if it was begun when the client says."""
    upload, initiated = await find_upload(call), call.moment("IfMatchInitiatedTime")
    if initiated is not None and int(initiated.timestamp()) != upload.initiated_ms // 1000:
        raise S3Error("PreconditionFailed", Condition="x-amz-if-match-initiated-time")
    await call.services.engine.abort_upload(upload)
    return {}


async def find_own_upload(call: Call) -> Upload:
    """As `find_upload`, for who adds to it: the object will be its initiator's. AccessDenied for others, but the bucket's owner."""
    upload = await find_upload(call)
    _check_initiator(call, upload)
    return upload


async def find_upload(call: Call) -> Upload:
    """Return the upload of the request. NoSuchUpload if it was never begun for this key, or is over."""
    upload_id = UploadId(call.required_text("UploadId"))
    upload = await call.services.engine.find_upload(call.bucket, call.key, upload_id)
    if upload is None:
        raise S3Error("NoSuchUpload", UploadId=upload_id)
    return upload


def _check_initiator(call: Call, upload: Upload) -> None:
    if call.principal.tenant_id not in {upload.tenant_id, call.owner.id}:
        raise S3Error("AccessDenied")


def with_checksum(upload: Upload) -> Upload:
    """Return the upload as its object is made: where the client named no algorithm, S3 computes CRC64NVME of the whole."""
    if upload.checksum_algorithm is not None:
        return upload
    return msgspec.structs.replace(upload, checksum_algorithm=DEFAULT_ALGORITHM, checksum_type=default_type(DEFAULT_ALGORITHM))


async def _complete(call: Call, entries: list[Params], parts: tuple[CompletedPart, ...]) -> Version:
    engine = call.services.engine
    upload_id = UploadId(call.required_text("UploadId"))
    upload = await call.services.engine.find_upload(call.bucket, call.key, upload_id)
    if upload is None:
        return await engine.completed_before(call.bucket, call.key, upload_id, parts)
    _check_initiator(call, upload)
    check_key_if_given(call, upload)
    call.tell_early(encryption_fields(call, upload.attributes.encryption))
    described = with_checksum(upload)
    check_type_claim(call, described)
    return await engine.complete_upload(
        call.bucket,
        described,
        parts,
        checksum=object_claim(call, described, len(parts)),
        part_claims=part_claims(entries, upload),
        object_size=object_size_claim(call),
        conditions=write_conditions(call),
        cause=call.cause("ObjectCreated:CompleteMultipartUpload"),
    )


def object_address(call: Call, *, safe: str = "/") -> str:
    """Return the object's address, in the style in which it was asked for. `safe` characters of the key stay as they are."""
    host, config = call.headers.get("host", ""), call.services.config
    base = config.public_url or f"{'http' if config.tls is None else 'https'}://{host}"
    if bucket_of_host(host, config.bucket_domains) is None:
        return f"{base}/{call.bucket.name}/{quote(call.key, safe=safe)}"
    return f"{base.partition('://')[0]}://{host}/{quote(call.key, safe=safe)}"


def _wanted_checksum(call: Call) -> tuple[ChecksumAlgorithm | None, ChecksumType | None]:
    name, wanted = call.text("ChecksumAlgorithm"), call.text("ChecksumType")
    if name is None:
        if wanted is not None:
            raise S3Error("InvalidRequest", "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
        return None, None
    algorithm = parse_algorithm(name)
    if wanted is None:
        return algorithm, default_type(algorithm)
    checksum_type = read_type(wanted)
    check_type(algorithm, checksum_type)
    return algorithm, checksum_type


def _agree_on_checksum(call: Call, upload: Upload) -> None:
    """A part is recorded with its upload's algorithm; a claim of another one is refused, as S3 does.

    An upload that named none takes any claim: boto3 names none and sends CRC32. It is checked, but CRC64NVME is recorded. Of a COMPOSITE
    one every part must have its claim; of a FULL_OBJECT one parts may come without.
    """
    wanted, claimed = upload.checksum_algorithm, call.body.claimed_algorithm
    if wanted is not None and claimed != wanted and (claimed is not None or upload.checksum_type == "COMPOSITE"):
        raise type_mismatch(wanted, claimed)
    call.body.record(wanted or DEFAULT_ALGORITHM)


def _completed_parts(entries: list[Params]) -> tuple[CompletedPart, ...]:
    if not 1 <= len(entries) <= MAX_PART_NUMBER:
        raise S3Error("MalformedXML")
    parts = []
    for entry in entries:
        number, etag = entry.get("PartNumber"), entry.get("ETag")
        if not isinstance(number, int) or not isinstance(etag, str):
            raise S3Error("MalformedXML")
        if number < 1:
            raise S3Error("InvalidArgument", "PartNumber must be >= 1", ArgumentName="PartNumber", ArgumentValue=number)
        parts.append(CompletedPart(number=check_part_number(number), etag=etag.strip().strip('"')))
    return tuple(parts)
