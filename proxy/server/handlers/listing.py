"""Listings of a bucket: ListObjects, its second version, and ListObjectVersions."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.manifest.drafts import ObjectPage, VersionPage
from proxy.s3.contents import contents
from proxy.s3.errors import S3Error
from proxy.s3.histories import histories
from proxy.s3.lines import owners_of
from proxy.s3.naming import url_encode_key
from proxy.s3.rendering import Written
from proxy.server.call import Call
from proxy.server.handlers.owner import Owners, find_named_owners, find_owners
from proxy.server.handlers.tokens import open_token, seal_token
from proxy.server.handlers.versions import is_version_id

MAX_KEYS = 1000
NO_OBJECTS = ObjectPage(lines=b"", count=0, prefixes=(), truncated=False)
NO_VERSIONS = VersionPage(versions=(), prefixes=(), truncated=False)


class Encoder:
    """Applies encoding-type to keys and prefixes of a listing: XML 1.0 cannot carry every key as it is."""

    def __init__(self, call: Call) -> None:
        self.kind = call.text("EncodingType")
        if self.kind not in {None, "url"}:
            raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request", ArgumentName="encoding-type")

    def __call__(self, text: str) -> str:
        return text if self.kind is None else url_encode_key(text)


async def list_objects(call: Call) -> dict[str, object]:
    """List keys after a marker."""
    encode, limit = Encoder(call), page_limit(call, "MaxKeys", "max-keys")
    marker = call.text("Marker") or ""
    page = await _page(call, marker, limit)
    result = {**_common(call, page, encode, limit), "Marker": encode(marker)}
    result["Contents"] = _contents(page, encode, await find_named_owners(call, owners_of(page.lines)))
    if page.truncated and call.text("Delimiter"):  # without a delimiter the last key is the next marker
        result["NextMarker"] = encode(page.next_key)
    return result


async def list_objects_v2(call: Call) -> dict[str, object]:
    """List keys behind a continuation token or `start-after`."""
    encode, limit = Encoder(call), page_limit(call, "MaxKeys", "max-keys")
    token, start_after = call.text("ContinuationToken"), call.text("StartAfter")
    after = start_after or "" if token is None else open_token(token)[0]
    page = await _page(call, after, limit)
    owners = await find_named_owners(call, owners_of(page.lines)) if call.params.get("FetchOwner") is True else None
    return {
        **_common(call, page, encode, limit),
        "KeyCount": page.count + len(page.prefixes),
        "ContinuationToken": token,
        "NextContinuationToken": seal_token(page.next_key) if page.truncated else None,
        "StartAfter": None if start_after is None else encode(start_after),
        "Contents": _contents(page, encode, owners),
    }


async def list_object_versions(call: Call) -> dict[str, object]:
    """List all versions and delete markers, the newest of each key first."""
    encode, limit = Encoder(call), page_limit(call, "MaxKeys", "max-keys")
    key_marker, version_marker = call.text("KeyMarker") or "", call.text("VersionIdMarker") or ""
    if version_marker and not key_marker:
        message = "A version-id marker cannot be specified without a key marker."
        raise S3Error("InvalidArgument", message, ArgumentName="version-id-marker", ArgumentValue=version_marker)
    if version_marker and not is_version_id(version_marker):
        message = "Invalid version id specified"
        raise S3Error("InvalidArgument", message, ArgumentName="version-id-marker", ArgumentValue=version_marker)
    page = await _versions_page(call, key_marker, version_marker, limit)
    result = {**_common(call, page, encode, limit), "KeyMarker": encode(key_marker), "VersionIdMarker": version_marker}
    # As on S3 the two kinds stand in one order: a client that reads the document as it comes sees each key's history.
    owners = await find_owners(call, (version.attributes.acl for version in page.versions))
    result["Versions"] = histories(page.versions, url_encoded=encode.kind is not None, owner_of=owners.named)
    if page.truncated:
        result |= {"NextKeyMarker": encode(page.next_key), "NextVersionIdMarker": page.next_version or None}
    return result


def page_limit(call: Call, name: str, wire: str) -> int:
    """Return how many entries a page may have: what is asked for, at most 1,000. InvalidArgument below zero."""
    wanted = _count(call, name, wire)
    return MAX_KEYS if wanted is None else min(wanted, MAX_KEYS)


def part_marker(call: Call, wire: str) -> int:
    """Return the number of the part that a page of parts begins after. InvalidArgument below zero."""
    return _count(call, "PartNumberMarker", wire) or 0


def _count(call: Call, name: str, wire: str) -> int | None:
    number = call.integer(name)
    if number is not None and not 0 <= number <= 2**31 - 1:
        message = f"Argument {wire} must be an integer between 0 and 2147483647"
        raise S3Error("InvalidArgument", message, ArgumentName=wire, ArgumentValue=number)
    return number


async def _page(call: Call, after: str, limit: int) -> ObjectPage:
    if limit == 0:
        return NO_OBJECTS
    prefix, delimiter = call.text("Prefix") or "", call.text("Delimiter") or ""
    return await call.services.engine.list_objects(call.bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)


async def _versions_page(call: Call, after_key: str, after_version: str, limit: int) -> VersionPage:
    if limit == 0:
        return NO_VERSIONS
    prefix, delimiter = call.text("Prefix") or "", call.text("Delimiter") or ""
    return await call.services.engine.list_versions(
        call.bucket, prefix=prefix, delimiter=delimiter, after_key=after_key, after_version=after_version, limit=limit
    )


def _common(call: Call, page: ObjectPage | VersionPage, encode: Encoder, limit: int) -> dict[str, object]:
    delimiter = call.text("Delimiter")
    return {
        "Name": call.bucket.name,
        "Prefix": encode(call.text("Prefix") or ""),
        "Delimiter": encode(delimiter) if delimiter else None,
        "MaxKeys": limit,
        "EncodingType": encode.kind,
        "IsTruncated": page.truncated,
        "CommonPrefixes": ({"Prefix": encode(prefix)} for prefix in page.prefixes),
    }


def _contents(page: ObjectPage, encode: Encoder, owners: Owners | None) -> Iterator[Written]:
    return contents(page.lines, url_encoded=encode.kind is not None, owner_of=None if owners is None else owners.named)
