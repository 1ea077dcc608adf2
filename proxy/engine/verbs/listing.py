"""The verbs that list what a bucket holds."""

from __future__ import annotations

from proxy.engine.verbs.base import Verbs
from proxy.manifest.drafts import ObjectPage, VersionPage
from proxy.manifest.records import Bucket


class ListingVerbs(Verbs):
    """Lists objects and versions, a page at a time."""

    async def list_objects(self, bucket: Bucket, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage:
        """Return the latest versions that are no delete markers, keys behind `after`."""
        return await self._manifest.list_objects(bucket.id, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    async def list_versions(
        self, bucket: Bucket, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
    ) -> VersionPage:
        """Return all versions and delete markers, the newest of each key first, from behind a version of a key."""
        return await self._manifest.list_versions(
            bucket.id, prefix=prefix, delimiter=delimiter, after_key=after_key, after_version=after_version, limit=limit
        )
