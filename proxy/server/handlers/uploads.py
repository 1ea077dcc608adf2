"""What multipart uploads are in progress, and what parts they have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from proxy.manifest.records import Part, Tenant, TenantId, Upload
from proxy.s3.errors import S3Error
from proxy.server.call import Call, moment
from proxy.server.handlers.encryption import check_key_if_given
from proxy.server.handlers.lifecycle import abort_fields
from proxy.server.handlers.listing import Encoder, page_limit, part_marker
from proxy.server.handlers.multipart import find_upload
from proxy.server.handlers.owner import Owners, find_owners, owner_element
from proxy.server.handlers.versions import checksum_fields, quoted

# `Engine.begin_upload` draws 64 characters; AWS's have more, and dots among them.
_UPLOAD_ID = re.compile(r"[A-Za-z0-9._-]{64,256}")


async def list_parts(call: Call) -> dict[str, object]:
    """List the parts of an upload by number."""
    upload = await find_upload(call)
    check_key_if_given(call, upload)
    marker = part_marker(call, "part-number-marker")
    limit = page_limit(call, "MaxParts", "max-parts")
    found = await call.services.engine.list_parts(upload, after=marker, limit=limit + 1)
    page, more = found[:limit], 0 < limit < len(found)
    return {
        "Bucket": call.bucket.name,
        "Key": upload.key,
        "UploadId": upload.id,
        "Initiator": owner_element((await _initiators(call, (upload,)))[upload.tenant_id]),
        "Owner": (await find_owners(call, (upload.attributes.acl,))).of(upload.attributes.acl),
        "StorageClass": upload.attributes.storage_class,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1].number if more else None,  # on a last page it makes some paginators ask for ever
        "MaxParts": limit,
        "IsTruncated": more,
        "ChecksumAlgorithm": upload.checksum_algorithm,
        "ChecksumType": upload.checksum_type,
        **abort_fields(call, upload),
        "Parts": [_part(part, upload) for part in page],
    }


async def list_multipart_uploads(call: Call) -> dict[str, object]:
    """List the uploads of a bucket by key and time."""
    encode = Encoder(call)
    prefix, delimiter = call.text("Prefix") or "", call.text("Delimiter") or ""
    key_marker = call.text("KeyMarker") or ""
    upload_marker = _upload_marker(call) if key_marker else ""  # without a key marker it is ignored, as on AWS
    limit = page_limit(call, "MaxUploads", "max-uploads")
    result: dict[str, object] = {
        "Bucket": call.bucket.name,
        "KeyMarker": encode(key_marker),
        "UploadIdMarker": upload_marker,
        "Prefix": encode(prefix),
        "Delimiter": encode(delimiter) or None,
        "MaxUploads": limit,
        "EncodingType": encode.kind,
        "IsTruncated": False,
        "Uploads": [],
        "CommonPrefixes": [],
    }
    if limit == 0:
        return result
    page = await call.services.engine.list_uploads(
        call.bucket,
        prefix=prefix,
        delimiter=delimiter,
        after_key=key_marker,
        after_upload=upload_marker,
        limit=limit,
    )
    initiators = await _initiators(call, page.uploads)
    owners = await find_owners(call, (upload.attributes.acl for upload in page.uploads))
    result["Uploads"] = [_upload(upload, encode, owners, initiators[upload.tenant_id]) for upload in page.uploads]
    result["CommonPrefixes"] = [{"Prefix": encode(name)} for name in page.prefixes]
    if page.truncated:
        result |= {"IsTruncated": True, "NextKeyMarker": encode(page.next_key), "NextUploadIdMarker": page.next_upload}
    return result


def _upload_marker(call: Call) -> str:
    """Return the upload that the page begins after. InvalidArgument for what never was an upload's id; it need not be there any more."""
    marker = call.text("UploadIdMarker") or ""
    if marker and not _UPLOAD_ID.fullmatch(marker):
        raise S3Error("InvalidArgument", "Invalid uploadId marker", ArgumentName="upload-id-marker", ArgumentValue=marker)
    return marker


def _part(part: Part, upload: Upload) -> dict[str, object]:
    checksum = part.checksum if upload.checksum_algorithm is not None else None  # nobody asked for the others
    return {
        "PartNumber": part.number,
        "LastModified": moment(part.modified_ms),
        "ETag": quoted(part.etag),
        "Size": part.size,
        **checksum_fields(checksum, with_type=False),
    }


async def _initiators(call: Call, uploads: Iterable[Upload]) -> Mapping[TenantId, Tenant]:
    """Return who began the uploads: the bucket's owner, or whoever may write to the bucket. One who is gone is told as the owner."""
    known = {call.owner.id: call.owner}
    for tenant_id in {upload.tenant_id for upload in uploads} - known.keys():
        known[tenant_id] = await call.services.engine.find_tenant(tenant_id) or call.owner
    return known


def _upload(upload: Upload, encode: Encoder, owners: Owners, initiator: Tenant) -> dict[str, object]:
    return {
        "UploadId": upload.id,
        "Key": encode(upload.key),
        "Initiated": moment(upload.initiated_ms),
        "StorageClass": upload.attributes.storage_class,
        "Owner": owners.of(upload.attributes.acl),
        "Initiator": owner_element(initiator),
        "ChecksumAlgorithm": upload.checksum_algorithm,
        "ChecksumType": upload.checksum_type,
    }
